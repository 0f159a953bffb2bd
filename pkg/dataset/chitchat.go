package dataset

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-8780d58e/spin/pkg/chat"
)

// The lengths, in words, of what ChitChat keeps.
const (
	minPromptWords, maxPromptWords = 5, 120
	minReplyWords, maxReplyWords   = 15, 120
)

// ChitChat reads dataset.json of the Python package chitchat-dataset: conversations of people, written for the BYU
// Chit-Chat Challenge in 2018 and 2019 (MIT licence, Perception, Control and Cognition Lab). A row is a turn that asks
// something and the other person's next turn. It is kept where both have usual lengths, neither holds an obscenity or
// somebody's address, number or name on a network, and the pair and the prompt are new. Each conversation, its rows
// ordered by sha256(conversation id + turn), gives its first row; the rows come in the order of those digests.
func ChitChat(path string) ([]Row, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := readChitChat(f, path)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: no conversation with a question and an answer: want dataset.json of the package chitchat-dataset", path)
	}
	return rows, nil
}

type utterance struct {
	Text   string `json:"text"`
	Sender string `json:"sender"`
}

// readChitChat reads one object: conversation id -> {"messages": [turn, …]}, a turn being a list of utterances.
func readChitChat(r io.Reader, name string) ([]Row, error) {
	wrong := func(err error) error {
		return fmt.Errorf(`%s: %w: want {"conversation": {"messages": [[{"text", "sender"}, …], …]}, …}`, name, err)
	}
	d := json.NewDecoder(bufio.NewReaderSize(r, 1<<20))
	if t, err := d.Token(); err != nil {
		return nil, wrong(err)
	} else if t != json.Delim('{') {
		return nil, wrong(errors.New("no JSON object"))
	}
	type candidate struct {
		row   Row
		order [sha256.Size]byte
	}
	var candidates []candidate
	pairs := map[[2]string]bool{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, wrong(err)
		}
		id, _ := key.(string)
		var conversation struct {
			Messages [][]utterance `json:"messages"`
		}
		if err := d.Decode(&conversation); err != nil {
			return nil, wrong(fmt.Errorf("conversation %.60q: %w", id, err))
		}
		turns := conversation.Messages
		for i := 0; i+1 < len(turns); i++ {
			prompt, reply := text(turns[i]), text(turns[i+1])
			if speaker(turns[i]) == speaker(turns[i+1]) || !usual(prompt, reply) || pairs[[2]string{prompt, reply}] {
				continue
			}
			pairs[[2]string{prompt, reply}] = true
			messages := []chat.Message{{Role: chat.User, Content: prompt}, {Role: chat.Assistant, Content: reply}}
			row, err := newRow(messages, fmt.Sprintf("%s: conversation %s, turn %d", name, id, i))
			if err != nil {
				return nil, wrong(err)
			}
			row.Group = id
			candidates = append(candidates, candidate{row, sha256.Sum256([]byte(id + strconv.Itoa(i)))})
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, wrong(err)
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(slices.Compare(a.order[:], b.order[:]), strings.Compare(a.row.Place, b.row.Place))
	})
	var rows []Row
	f := newFilter()
	conversations, prompts := map[string]bool{}, map[string]bool{}
	for _, c := range candidates {
		if conversations[c.row.Group] || prompts[c.row.PromptID] || !f.keep(c.row.Prompt[0].Content, c.row.Response) {
			continue
		}
		conversations[c.row.Group], prompts[c.row.PromptID] = true, true
		rows = append(rows, c.row)
	}
	return rows, nil
}

// text is a turn's messages joined by a space.
func text(turn []utterance) string {
	parts := make([]string, len(turn))
	for i, u := range turn {
		parts[i] = u.Text
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}

func speaker(turn []utterance) string {
	if len(turn) == 0 {
		return ""
	}
	return turn[0].Sender
}

// filter says which texts hold nothing that nobody should learn.
type filter struct{ refused []*regexp.Regexp }

func newFilter() *filter {
	f := &filter{}
	for _, expr := range []string{
		// obscenities
		`(?i)\b(?:(?:mother)?fuck\w*|(?:bull)?shit\w*|bitch\w*|ass ?holes?|bastards?|cunts?|dicks?|cocks?|puss(?:y|ies)|sluts?|whores?|porn\w*|nudes?|nigg\w*|fag(?:got)?s?|rap(?:ed?|ist)|dildo\w*|boobs?|horny|blow ?jobs?)\b`,
		// street addresses
		`(?i)\b\d{1,5} (?:[nsew]\.? )?(?:\w+ ){1,2}(?:street|st|avenue|ave|road|rd|drive|dr|lane|ln|boulevard|blvd|court|ct|apt|apartment)\b`,
		// phone numbers, and other long ones
		`(?:\d[-. ()]{0,2}){7,}`,
		// mail addresses and links
		`(?i)\S@\S+\.\w|https?:|www\.|\w\.(?:com|org|net|edu|gov|io|ly|me)\b`,
		// names on networks
		`(?i)(?:^|\s)@\w+|\b(?:snap(?:chat)?|insta(?:gram)?|twitter|facebook|venmo|discord|kik|whatsapp|skype) ?(?:name|handle|user ?name|account|id|is|:)`,
	} {
		f.refused = append(f.refused, regexp.MustCompile(expr))
	}
	return f
}

func (f *filter) keep(prompt, reply string) bool {
	for _, expr := range f.refused {
		if expr.MatchString(prompt) || expr.MatchString(reply) {
			return false
		}
	}
	return true
}

// usual says whether a question and its answer have usual lengths.
func usual(prompt, reply string) bool {
	p, r := len(strings.Fields(prompt)), len(strings.Fields(reply))
	return p >= minPromptWords && p <= maxPromptWords && r >= minReplyWords && r <= maxReplyWords && strings.HasSuffix(prompt, "?")
}

// Package dataset reads prompts with their human answers.
//
// [Open] reads JSON Lines and Parquet in the layouts that people publish ([Row]), [OpenPairs] reads answers side by side
// ([Pair]), and [ChitChat] makes the default set out of people's conversations. Whatever the source, rows come in a
// stable order, a prompt has the same [PromptID] everywhere, and a bad row is named by its file and line together with
// what would be right. [Split] draws the training and the held-out rows.
package dataset

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-8780d58e/spin/pkg/chat"
)

// Row is a prompt with what a person answered.
type Row struct {
	PromptID string
	Group    string         // rows of one group, such as a conversation, stay on one side of a split
	Prompt   []chat.Message // ends with the user's turn
	Response string
	Place    string // file and line it came from
}

// Pair is a prompt with two answers: the preferred one, a person's, and another, such as a model's.
type Pair struct {
	Row
	Generated string
}

// Options say how strict a reader is.
type Options struct {
	SkipBad    bool // leave bad rows out and list them, instead of stopping at the first
	Duplicates bool // allow a prompt to come twice
}

// Problem is a row that can't be used.
type Problem struct {
	Place  string // file:line, or the row's number in a Parquet file
	Reason string
}

func (p *Problem) Error() string { return p.Place + ": " + p.Reason }

// PromptID is the first 16 hex digits of a sha256 over the prompt's roles and contents, each with its length before it.
func PromptID(prompt []chat.Message) string {
	h := sha256.New()
	for _, m := range prompt {
		for _, s := range []string{m.Role, m.Content} {
			h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(s))))
			h.Write([]byte(s))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// newRow checks a conversation and cuts the answer from it.
func newRow(messages []chat.Message, place string) (Row, error) {
	if len(messages) < 2 {
		return Row{}, fmt.Errorf("%d messages, want at least the user's and the assistant's", len(messages))
	}
	last := len(messages) - 1
	for i, m := range messages {
		switch m.Role {
		case chat.System:
			continue
		case chat.User, chat.Assistant, chat.Tool:
		default:
			return Row{}, fmt.Errorf("message %d has role %.40q, want system, user, assistant or tool", i+1, m.Role)
		}
		if strings.TrimSpace(m.Content) == "" {
			return Row{}, fmt.Errorf("message %d, the %s's, is empty", i+1, m.Role)
		}
	}
	if messages[last].Role != chat.Assistant {
		return Row{}, fmt.Errorf("the last message is the %s's, want the assistant's answer", messages[last].Role)
	}
	if r := messages[last-1].Role; r != chat.User && r != chat.Tool {
		return Row{}, fmt.Errorf("the message before the answer is the %s's, want the user's", r)
	}
	prompt := slices.Clone(messages[:last])
	return Row{PromptID: PromptID(prompt), Prompt: prompt, Response: messages[last].Content, Place: place}, nil
}

// Split draws rows for training and held-out rows, by seed: the same rows, numbers and seed give the same split, in the
// same order, whatever the order of rows. A group is on one side only: the rest of a group that the held-out side took
// in part is left out. nTrain < 0 takes all that is left.
func Split(rows []Row, nTrain, nHeldout int, seed uint64) (train, heldout []Row, err error) {
	type keyed struct {
		row   Row
		group string
		key   [2]string // of the group, of the row in it
	}
	order := make([]keyed, len(rows))
	for i, row := range rows {
		group := row.Group
		if group == "" {
			group = row.PromptID
		}
		order[i] = keyed{row, group, [2]string{seeded(seed, group), seeded(seed, row.PromptID)}}
	}
	slices.SortStableFunc(order, func(a, b keyed) int { return slices.Compare(a.key[:], b.key[:]) })
	taken := ""
	for _, k := range order {
		switch {
		case len(heldout) < nHeldout:
			heldout, taken = append(heldout, k.row), k.group
		case nHeldout > 0 && k.group == taken:
		case nTrain < 0 || len(train) < nTrain:
			train = append(train, k.row)
		}
	}
	if len(heldout) < nHeldout || len(train) < nTrain {
		return nil, nil, fmt.Errorf("%d rows give %d for training and %d held out, want %d and %d", len(rows), len(train), len(heldout), max(nTrain, 0), nHeldout)
	}
	return train, heldout, nil
}

func seeded(seed uint64, s string) string {
	sum := sha256.Sum256(append(binary.LittleEndian.AppendUint64(nil, seed), s...))
	return string(sum[:])
}

// Package chat turns conversations into token ids by the model's own chat template.
//
// A [Template] belongs to one tokenizer. Sampling, training and evaluation use the same one, and its [Template.ID] goes
// with every game, so that no two of them can disagree about what the prompt was:
//
//	prompt   = ids of the rendered conversation, up to and with what opens the assistant's answer
//	response = ids of the answer, encoded apart from the prompt, and the end-of-turn token where the answer is finished
//
// What people and models write is text. A control token spelled in a message never becomes that token's id: see guard.go.
package chat

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nikolalohinski/gonja/v2/exec"

	"github.com/seed-8780d58e/spin/pkg/tokenizer"
)

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"` // system, user, assistant or tool
	Content string `json:"content"`
}

// The roles that a message can have. Templates may know fewer.
const (
	System    = "system"
	User      = "user"
	Assistant = "assistant"
	Tool      = "tool"
)

// Options say what a model's files leave open. The zero value is right for most models.
type Options struct {
	Template  string         // jinja, instead of the tokenizer's own
	Date      time.Time      // what strftime_now answers: fixed, since a prompt must not change within a run. Zero: it isn't defined
	Variables map[string]any // further variables of the template, such as enable_thinking
}

// Template renders and encodes conversations. It doesn't change and serves any number of goroutines.
type Template struct {
	tokenizer *tokenizer.Tokenizer
	jinja     *exec.Template
	text      string
	id        string
	variables map[string]any
	specials  []string
	endOfTurn int32
	stops     []int32
	continued bool // responses go on after other text: no space is put before them
}

// New compiles the tokenizer's chat template, or the one of opts.
func New(tok *tokenizer.Tokenizer, opts Options) (*Template, error) {
	text := opts.Template
	if text == "" {
		text = tok.ChatTemplate
	}
	if text == "" {
		return nil, fmt.Errorf("the model has no chat template: give one, or take the model's instruct version")
	}
	jinja, err := compile(text, opts.Date)
	if err != nil {
		return nil, fmt.Errorf("chat template: %w", err)
	}
	t := &Template{tokenizer: tok, jinja: jinja, text: text, specials: tok.Specials(), variables: map[string]any{}}
	maps.Copy(t.variables, opts.Variables)
	for name, id := range map[string]int32{"bos_token": tok.BOS, "eos_token": tok.EOS, "unk_token": tok.Unknown, "pad_token": tok.Pad} {
		if token, ok := tok.Token(id); ok {
			t.variables[name] = token
		}
	}
	if t.id, err = t.fingerprint(opts.Date); err != nil {
		return nil, err
	}
	return t, t.probe()
}

// fingerprint is the start of a sha256 over all that decides what a conversation renders to.
func (t *Template) fingerprint(date time.Time) (string, error) {
	data, err := json.Marshal(map[string]any{"template": t.text, "variables": t.variables, "specials": t.specials, "date": date.Unix()})
	if err != nil {
		return "", fmt.Errorf("chat template variables: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8]), nil
}

// probe renders a small conversation to learn how a turn ends and whether answers are encoded with a space before them.
func (t *Template) probe() error {
	const answer = "Probe"
	text, err := t.render([]Message{{User, "Hi"}, {Assistant, answer}}, false)
	if err != nil {
		return fmt.Errorf("chat template: %w", err)
	}
	_, tail, found := lastCut(text, answer)
	if !found {
		return fmt.Errorf("chat template: it doesn't write what the assistant says")
	}
	t.endOfTurn = t.tokenizer.EOS
	for _, id := range t.tokenizer.EncodeWithSpecials(tail) {
		if t.tokenizer.IsSpecial(id) {
			t.endOfTurn = id
			break
		}
	}
	if t.endOfTurn < 0 {
		return fmt.Errorf("chat template: no control token ends the assistant's turn, and the model has no end-of-sequence token")
	}
	whole := t.tokenizer.EncodeWithSpecials(text)
	t.continued = !contains(whole, t.tokenizer.Encode(answer)) && contains(whole, t.tokenizer.EncodeContinued(answer))
	t.stops = append(slices.Clone(t.tokenizer.EndIDs), t.endOfTurn)
	slices.Sort(t.stops)
	t.stops = slices.Compact(t.stops)
	return nil
}

// lastCut is strings.Cut around the last sep.
func lastCut(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func contains(ids, part []int32) bool {
	for i := range ids {
		if i+len(part) <= len(ids) && slices.Equal(ids[i:i+len(part)], part) {
			return true
		}
	}
	return false
}

// ID names the template with its options: the same ID, the same prompts.
func (t *Template) ID() string { return t.id }

// EndOfTurn is the token with which the assistant ends its turn.
func (t *Template) EndOfTurn() int32 { return t.endOfTurn }

// StopTokens are all tokens that end a generation, ascending: EndOfTurn and those that the model's files name.
func (t *Template) StopTokens() []int32 { return slices.Clone(t.stops) }

// Prompt returns the ids of a conversation, up to and with what the template puts before the assistant's answer.
func (t *Template) Prompt(messages []Message) ([]int32, error) {
	if err := check(messages); err != nil {
		return nil, err
	}
	if last := messages[len(messages)-1].Role; last == Assistant || last == System {
		return nil, fmt.Errorf("the last message is the %s's: nothing asks for an answer, want one of the user", last)
	}
	guard, guarded, err := guardMessages(messages, t.text, t.specials)
	if err != nil {
		return nil, err
	}
	text, err := t.render(guarded, true)
	if err != nil {
		return nil, err
	}
	return t.tokenizer.EncodeGuarded(text, guard), nil
}

// Response returns the ids of an answer, with the end-of-turn token behind it only if the answer is finished: an answer
// that was cut off must not teach the model to stop there. No other control token is added or read.
func (t *Template) Response(text string, finished bool) []int32 {
	encode := t.tokenizer.Encode
	if t.continued {
		encode = t.tokenizer.EncodeContinued
	}
	ids := encode(text)
	if finished {
		ids = append(ids, t.endOfTurn)
	}
	return ids
}

// Text renders a conversation as people read it in a template's documentation; generate adds what opens an answer.
// It is for the eye: only Prompt keeps control tokens and text apart.
func (t *Template) Text(messages []Message, generate bool) (string, error) {
	if err := check(messages); err != nil {
		return "", err
	}
	return t.render(messages, generate)
}

// check refuses conversations that no template can mean.
func check(messages []Message) error {
	if len(messages) == 0 {
		return fmt.Errorf("a conversation without messages: want at least one of the user")
	}
	for i, m := range messages {
		switch m.Role {
		case System:
		case User, Assistant, Tool:
			if strings.TrimSpace(m.Content) == "" {
				return fmt.Errorf("message %d of %d, the %s's, is empty", i+1, len(messages), m.Role)
			}
		default:
			return fmt.Errorf("message %d of %d has role %.40q, want system, user, assistant or tool", i+1, len(messages), m.Role)
		}
	}
	return nil
}

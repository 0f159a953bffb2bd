package dataset

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/chat"
)

// layouts is what a reader's errors say would be right.
const (
	rowLayouts  = `want {"messages": [{"role", "content"}, …]} or {"prompt", "response"} or {"prompt", "chosen"} or {"real": [messages]}`
	pairLayouts = `want {"real": [messages], "generated": [messages]} or {"prompt", "chosen", "rejected"}`
)

// record is a line of a file, in any of the layouts.
type record struct {
	Messages  turns `json:"messages"`
	Prompt    turns `json:"prompt"`
	Response  turns `json:"response"`
	Chosen    turns `json:"chosen"`
	Rejected  turns `json:"rejected"`
	Real      turns `json:"real"`
	Generated turns `json:"generated"`
}

// columns are the fields of record.
func columns() []string {
	return []string{"messages", "prompt", "response", "chosen", "rejected", "real", "generated"}
}

// turns is a text, whose speaker follows from the field, or a list of messages.
type turns struct {
	text     *string
	messages []chat.Message
}

func (t *turns) given() bool { return t.text != nil || t.messages != nil }

// maxMessages bounds one conversation.
const maxMessages = 10_000

func (t *turns) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '[' {
		if err := json.Unmarshal(data, &t.messages); err != nil {
			return err
		}
		if len(t.messages) > maxMessages {
			return fmt.Errorf("%d messages, want at most %d", len(t.messages), maxMessages)
		}
		return nil
	}
	return json.Unmarshal(data, &t.text)
}

// as returns the turns as messages, a text being role's.
func (t *turns) as(role string) []chat.Message {
	if t.text != nil {
		return []chat.Message{{Role: role, Content: *t.text}}
	}
	return t.messages
}

// row reads a prompt with its human answer.
func (r *record) row(place string) (Row, error) {
	switch {
	case r.Messages.messages != nil:
		return newRow(r.Messages.messages, place)
	case r.Real.messages != nil:
		return newRow(r.Real.messages, place)
	case r.Prompt.given() && r.Response.given():
		return newRow(r.after(r.Response), place)
	case r.Prompt.given() && r.Chosen.given():
		return newRow(r.after(r.Chosen), place)
	}
	return Row{}, fmt.Errorf("no known fields: %s", rowLayouts)
}

// pair reads two answers to one prompt.
func (r *record) pair(place string) (Pair, error) {
	var real, generated []chat.Message
	switch {
	case r.Real.messages != nil && r.Generated.messages != nil:
		real, generated = r.Real.messages, r.Generated.messages
	case r.Prompt.given() && r.Chosen.given() && r.Rejected.given():
		real, generated = r.after(r.Chosen), r.after(r.Rejected)
	default:
		return Pair{}, fmt.Errorf("no known fields: %s", pairLayouts)
	}
	row, err := newRow(real, place)
	if err != nil {
		return Pair{}, fmt.Errorf("the real answer: %w", err)
	}
	other, err := newRow(generated, place)
	if err != nil {
		return Pair{}, fmt.Errorf("the generated answer: %w", err)
	}
	if !slices.Equal(row.Prompt, other.Prompt) {
		return Pair{}, fmt.Errorf("the two answers have different prompts")
	}
	return Pair{Row: row, Generated: other.Response}, nil
}

// after puts an answer behind the prompt. Some sets repeat the prompt in the answer's messages: then those are all.
func (r *record) after(answer turns) []chat.Message {
	prompt, messages := r.Prompt.as(chat.User), answer.as(chat.Assistant)
	if len(messages) > 1 {
		return messages
	}
	return slices.Concat(prompt, messages)
}

package train

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/seed-8780d58e/spin/pkg/dataset"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// prompts are the run's prompts with their human answers, in the order of their index: the trained
// ones first.
type prompts struct {
	train, heldout []*event.Prompt
	skipped        []string // bad rows, one line each
	ids            map[string]*event.Prompt
}

// Lengths are a training set's prompts and tokens.
type Lengths struct {
	Prompts int // how many
	Prompt  int // tokens of all prompts
	Shared  int // tokens that all prompts begin with: a packed batch computes them once
	Real    int // tokens of all human answers
}

// Lengths of the prompts that are trained on.
func (p prompts) Lengths() (n Lengths) {
	n.Prompts = len(p.train)
	for i, x := range p.train {
		n.Prompt += len(x.GetPromptIds())
		n.Real += len(x.GetReal().GetTokenIds())
		if i == 0 {
			n.Shared = len(x.GetPromptIds())
		}
		first := p.train[0].GetPromptIds()
		n.Shared = min(n.Shared, len(x.GetPromptIds()))
		for j := range n.Shared {
			if x.GetPromptIds()[j] != first[j] {
				n.Shared = j
				break
			}
		}
	}
	return n
}

// find returns the prompt of an index; nil: there is none.
func (p *prompts) find(index uint32) *event.Prompt {
	i := int(index)
	switch {
	case i < len(p.train):
		return p.train[i]
	case i < len(p.train)+len(p.heldout):
		return p.heldout[i-len(p.train)]
	}
	return nil
}

// byID returns a prompt; nil: there is none of that id.
func (p *prompts) byID(id string) *event.Prompt { return p.ids[id] }

func (p *prompts) has(id string) bool { return p.ids[id] != nil }

func (l *lead) readPrompts(spec run.Spec) (prompts, error) {
	p, err := ReadPrompts(spec, l.base)
	for _, line := range p.skipped {
		l.log.Warn().Str("run", l.run.ID).Msg("row skipped: " + line)
	}
	if n := len(p.skipped); n > 0 {
		l.log.Warn().Str("run", l.run.ID).Int("skipped", n).Msg("bad rows were left out")
	}
	return p, err
}

// ReadPrompts reads the run's data, encodes it with the model's template, and draws the split. What
// could never be played (too long, a conversation that the template refuses) is found here, before
// any task is published: an error, or with skip_bad_rows a row less.
func ReadPrompts(spec run.Spec, m *pretrained.Pretrained) (prompts, error) {
	rows, problems, err := readRows(spec.Data)
	if bad := (*dataset.Problem)(nil); errors.As(err, &bad) {
		return prompts{}, fmt.Errorf("%w; skip_bad_rows leaves such rows out", err)
	}
	if err != nil {
		return prompts{}, err
	}
	var out prompts
	for _, p := range problems {
		out.skipped = append(out.skipped, p.Error())
	}
	encoded := map[string]*event.Prompt{}
	usable := rows[:0]
	for _, row := range rows {
		p, err := encode(spec, m, row)
		switch {
		case err == nil:
			encoded[row.PromptID] = p
			usable = append(usable, row)
		case spec.Data.SkipBadRows:
			out.skipped = append(out.skipped, fmt.Sprintf("%s: %v", row.Place, err))
		default:
			return prompts{}, fmt.Errorf("%s: %w; skip_bad_rows leaves such rows out", row.Place, err)
		}
	}
	n := spec.Data.Prompts
	if n == 0 {
		n = -1
	}
	train, heldout, err := dataset.Split(usable, n, spec.Data.Heldout, spec.Seed)
	if err != nil {
		return prompts{}, fmt.Errorf("%s: %w", spec.Data.Path, err)
	}
	if len(train) == 0 {
		return prompts{}, fmt.Errorf("%s: nothing is left to train on beside %d held-out prompts", spec.Data.Path, len(heldout))
	}
	out.ids = make(map[string]*event.Prompt, len(train)+len(heldout))
	for i, row := range append(train, heldout...) {
		p := encoded[row.PromptID]
		out.ids[row.PromptID] = p
		p.Index = uint32(i)
		if i < len(train) {
			p.Split = event.Split_SPLIT_TRAIN
			out.train = append(out.train, p)
		} else {
			p.Split = event.Split_SPLIT_HELDOUT
			out.heldout = append(out.heldout, p)
		}
	}
	return out, nil
}

// readRows reads the file: the chit-chat corpus by its .json, else JSON Lines or Parquet.
func readRows(d run.Data) ([]dataset.Row, []*dataset.Problem, error) {
	if filepath.Ext(d.Path) == ".json" {
		rows, err := dataset.ChitChat(d.Path)
		return rows, nil, err
	}
	return dataset.Open(d.Path, dataset.Options{SkipBad: d.SkipBadRows})
}

// encode makes a row's prompt. The human answer is cut where draws are, so that its length gives
// nothing away; its end-of-turn token is there only where it falls inside.
func encode(spec run.Spec, m *pretrained.Pretrained, row dataset.Row) (*event.Prompt, error) {
	t := m.Template
	prompt, err := t.Prompt(row.Prompt)
	if err != nil {
		return nil, err
	}
	if len(prompt) > spec.Data.MaxPromptTokens {
		return nil, fmt.Errorf("the prompt has %d tokens, max_prompt_tokens is %d", len(prompt), spec.Data.MaxPromptTokens)
	}
	if n := len(prompt) + spec.Sampling.MaxNewTokens; n > m.ModelConfig.Context {
		return nil, fmt.Errorf("the prompt has %d tokens and an answer %d, the model's context is %d", len(prompt), spec.Sampling.MaxNewTokens, m.ModelConfig.Context)
	}
	real, finish := t.Response(row.Response, true), event.FinishReason_FINISH_REASON_STOP
	if len(real) == 0 {
		return nil, errors.New("the answer is empty")
	}
	if n := spec.Sampling.MaxNewTokens; len(real) > n {
		real, finish = real[:n], event.FinishReason_FINISH_REASON_LENGTH
	}
	p := &event.Prompt{
		PromptId: row.PromptID, PromptIds: event.EncodeIDs(prompt),
		Real: &event.Response{Text: row.Response, TokenIds: event.EncodeIDs(real), FinishReason: finish},
	}
	for _, m := range row.Prompt {
		p.Messages = append(p.Messages, &event.ChatMessage{Role: m.Role, Content: m.Content})
	}
	return p, nil
}

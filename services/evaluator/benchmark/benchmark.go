// Package benchmark answers harness's questions with a model: log-likelihoods by the packed pass that training uses, what a task's questions
// and their choices have in common computed once, and generations by the engine that plays games. Tokens are cut as lm-evaluation-harness
// cuts them (lm_eval/api/model.py and models/huggingface.py), so that log-likelihoods agree.
package benchmark

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/seed-8780d58e/spin/pkg/engine"
	"github.com/seed-8780d58e/spin/pkg/harness"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/spin"
	"github.com/seed-8780d58e/spin/pkg/tokenizer"
)

// maxNew is lm-eval's max_gen_toks where a task names none.
const maxNew = 256

// Respondent is a model that is asked. It belongs to one goroutine.
type Respondent struct {
	Model     *model.Model
	Tokenizer *tokenizer.Tokenizer
	Stops     []int32 // ids that end a generation
	// AddBOS says whether every text begins with the beginning-of-sequence token; nil: as the tokenizer's files say. A text that spells the token
	// itself gets no second one.
	AddBOS *bool
	// BatchTokens of a packed batch; Sequences that are generated at once. They change no result.
	BatchTokens, Sequences int
}

// Ask answers the questions of a task in order. done, where not nil, is told how many are answered, as they are.
func (r *Respondent) Ask(ctx context.Context, t *harness.Task, questions []harness.Question, done func(n int)) ([]harness.Answer, error) {
	if t.OutputType == harness.GenerateUntil {
		return r.generate(ctx, t, questions, done)
	}
	return r.score(ctx, questions, done)
}

// window is some tokens after a context, and whose question they belong to.
type window struct {
	context, answer []int32
	question, pair  int
}

// score makes trees of the questions, the pairs of one context sharing it, and sums each answer's log-probabilities.
func (r *Respondent) score(ctx context.Context, questions []harness.Question, done func(int)) ([]harness.Answer, error) {
	var trees []model.Tree
	var owners [][]window // of each tree's answers
	answers := make([]harness.Answer, len(questions))
	longest := 0
	for i, q := range questions {
		windows, err := r.windows(i, q)
		if err != nil {
			return nil, fmt.Errorf("question %d: %w", i+1, err)
		}
		n := max(len(q.Pairs), 1)
		answers[i] = harness.Answer{LogLikelihoods: make([]float64, n), Greedy: slices.Repeat([]bool{true}, n)}
		for k, w := range windows {
			if k > 0 && slices.Equal(w.context, windows[k-1].context) {
				last := len(trees) - 1
				trees[last].Answers, owners[last] = append(trees[last].Answers, w.answer), append(owners[last], w)
			} else {
				trees, owners = append(trees, model.Tree{Prompt: w.context, Answers: [][]int32{w.answer}}), append(owners, []window{w})
			}
		}
	}
	for _, t := range trees {
		longest = max(longest, t.Tokens(), t.Targets())
	}
	pass := r.Model.NewPass(model.PassConfig{Tokens: max(r.BatchTokens, longest)})
	defer pass.Free()
	const together = 64 // trees between two looks at ctx
	for from := 0; from < len(trees); from += together {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		part := trees[from:min(from+together, len(trees))]
		err := pass.Score(part, func(tree, answer int, s model.Scored) {
			w := owners[from+tree][answer]
			a := &answers[w.question]
			a.LogLikelihoods[w.pair] += spin.LogP(s.Logps)
			a.Greedy[w.pair] = a.Greedy[w.pair] && s.Greedy
		})
		if err != nil {
			return nil, err
		}
		if done != nil {
			done(owners[from+len(part)-1][0].question)
		}
	}
	if done != nil {
		done(len(questions))
	}
	return answers, nil
}

// windows are what a question asks of the model, each within its context.
func (r *Respondent) windows(i int, q harness.Question) ([]window, error) {
	if q.Rolling != nil {
		return r.rolling(i, *q.Rolling)
	}
	out := make([]window, len(q.Pairs))
	for k, p := range q.Pairs {
		before, after := r.pair(p)
		if len(after) == 0 {
			return nil, fmt.Errorf("choice %d has no tokens", k+1)
		}
		if over := len(before) + len(after) - (r.Model.Context + 1); over > 0 { // cut from the left
			if over >= len(before) {
				return nil, fmt.Errorf("choice %d has %d tokens, the model's context is %d", k+1, len(after), r.Model.Context)
			}
			before = before[over:]
		}
		out[k] = window{before, after, i, k}
	}
	return out, nil
}

// pair is TemplateLM._encode_pair: the continuation's tokens are those that the whole has after the context's.
func (r *Respondent) pair(p harness.Pair) (before, after []int32) {
	context := strings.TrimRightFunc(p.Context, unicode.IsSpace)
	continuation := p.Context[len(context):] + p.Continuation
	if context == "" {
		after = r.Tokenizer.EncodeWithSpecials(continuation)
		if prefix := r.prefix(); len(after) == 0 || after[0] != prefix {
			return []int32{prefix}, after
		}
		return after[:1], after[1:]
	}
	before = r.encode(context)
	whole := r.encode(context + continuation)
	return before, whole[min(len(before), len(whole)):]
}

// rolling is get_rolling_token_windows and make_disjoint_window with a context of one token: disjoint runs, the last with as much before it as
// fits.
func (r *Respondent) rolling(i int, text string) ([]window, error) {
	ids := r.encode(text)
	if len(ids) == 0 {
		return nil, fmt.Errorf("an empty text has no perplexity")
	}
	size := r.Model.Context
	first := min(size, len(ids))
	out := []window{{[]int32{r.prefix()}, ids[:first], i, 0}}
	for at := first; at < len(ids); {
		n := min(len(ids)-at, size)
		end := at + n
		out = append(out, window{ids[max(end-size-1, 0):at], ids[at:end], i, 0})
		at = end
	}
	return out, nil
}

// encode is HFLM.tok_encode: what the tokenizer puts around a text is there, but not a second time.
func (r *Respondent) encode(text string) []int32 {
	ids := r.Tokenizer.EncodeWithSpecials(text)
	switch {
	case r.AddBOS != nil && !*r.AddBOS, len(ids) > 0 && ids[0] == r.prefix():
		return ids
	case r.AddBOS != nil && r.Tokenizer.BOS >= 0:
		return append([]int32{r.Tokenizer.BOS}, ids...)
	}
	return r.Tokenizer.Surround(ids)
}

// prefix is what the first token of a text follows.
func (r *Respondent) prefix() int32 {
	if r.Tokenizer.BOS >= 0 {
		return r.Tokenizer.BOS
	}
	return r.Tokenizer.EOS
}

// pageTokens of the cache that generations are decoded with.
const pageTokens = 32

// generate decodes greedily after each prompt until a text of the task's, a stop token or the length ends it.
func (r *Respondent) generate(ctx context.Context, t *harness.Task, questions []harness.Question, done func(int)) ([]harness.Answer, error) {
	length := t.Generation.MaxTokens
	if length == 0 {
		length = maxNew
	}
	if length >= r.Model.Context {
		return nil, fmt.Errorf("task %s generates %d tokens, the model's context is %d", t.Name, length, r.Model.Context)
	}
	sequences := max(1, min(r.Sequences, len(questions)))
	pages := (r.Model.Context + pageTokens - 1) / pageTokens * sequences
	d := r.Model.NewDecoder(model.DecoderConfig{Rows: max(256, sequences), Sequences: sequences, Pages: pages, PageTokens: pageTokens})
	defer d.Free()
	e := engine.New(d)
	answers := make([]harness.Answer, len(questions))
	endings := make([]*ending, len(questions))
	for i, q := range questions {
		prompt := r.encode(q.Prompt)
		if room := r.Model.Context - length; len(prompt) > room {
			prompt = prompt[len(prompt)-room:]
		}
		if len(prompt) == 0 {
			prompt = []int32{r.prefix()}
		}
		end := &ending{stream: r.Tokenizer.NewStream(), until: t.Generation.Until}
		endings[i] = end
		err := e.Submit(&engine.Request{
			ID: fmt.Sprint(i), Prompt: prompt, Draws: 1, MaxNew: length, Stop: r.Stops, TopP: 1, Index: uint32(i),
			OnToken: func(_ int, id int32) bool { return slices.Contains(r.Stops, id) || end.next(id) },
		})
		if err != nil {
			return nil, fmt.Errorf("question %d: %w", i+1, err)
		}
	}
	finished := 0
	for !e.Idle() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		results, err := e.Step()
		if err != nil {
			return nil, err
		}
		if finished += len(results); done != nil && len(results) > 0 {
			done(finished)
		}
	}
	for i, end := range endings {
		answers[i].Text = end.cut()
	}
	return answers, nil
}

// ending watches a generation for the texts that end it.
type ending struct {
	stream *tokenizer.Stream
	text   strings.Builder
	until  []string
}

// next takes a token and says whether the generation goes on.
func (e *ending) next(id int32) bool {
	e.text.WriteString(e.stream.Next(id))
	text := e.text.String()
	return !slices.ContainsFunc(e.until, func(s string) bool { return s != "" && strings.Contains(text, s) })
}

// cut is the text before whatever ended it (postprocess_generated_text).
func (e *ending) cut() string {
	text := e.text.String() + e.stream.Flush()
	for _, s := range e.until {
		if s != "" {
			text, _, _ = strings.Cut(text, s)
		}
	}
	return text
}

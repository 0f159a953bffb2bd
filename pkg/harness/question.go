package harness

import (
	"fmt"
	"reflect"
)

// fewshotSeed is lm-eval's default (evaluator.simple_evaluate, fewshot_random_seed).
const fewshotSeed = 1234

// Pair is a text and what should follow it; log p(Continuation | Context) is asked.
type Pair struct{ Context, Continuation string }

// Question is what one document asks. Of Pairs, Rolling and Prompt one is set, by the task's output type.
type Question struct {
	Doc     int // position in the split
	Row     Document
	Pairs   []Pair  // multiple choice: one a choice
	Rolling *string // log p of the whole text
	Prompt  string  // to generate after
	Choices []string
	Gold    int    // the right choice; -1: none of them
	Target  string // the right text, of a generation
}

// Questions are those of the task's evaluation split, the first limit of them (0: all), with shots few-shot examples each.
func (t *Task) Questions(data Data, shots, limit int) ([]Question, error) {
	rows, err := t.documents(data, t.evalSplit())
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("task %s: its %s split is empty", t.Name, t.evalSplit())
	}
	var pool []Document
	if shots > 0 {
		if pool, err = t.documents(data, t.exampleSplit()); err != nil {
			return nil, err
		}
	}
	if limit > 0 && limit < len(rows) {
		rows = rows[:limit]
	}
	examples := sampler{pool: pool, first: t.Sampler == "first_n", random: newPythonRandom(fewshotSeed), exclude: t.FewshotSplit == t.TestSplit}
	questions := make([]Question, len(rows))
	for i, d := range rows {
		shown, err := examples.sample(shots, d)
		if err == nil {
			questions[i], err = t.question(d, shown)
		}
		if err != nil {
			return nil, fmt.Errorf("task %s: row %d of %s: %w", t.Name, i+1, t.evalSplit(), err)
		}
		questions[i].Doc = i
	}
	return questions, nil
}

func (t *Task) documents(data Data, split string) ([]Document, error) {
	rows, err := data.Rows(t, split)
	if err != nil || t.Process == "" {
		return rows, err
	}
	process := processor(t.Process)
	out := rows[:0]
	for i, d := range rows {
		made, err := process(d)
		if err != nil {
			return nil, fmt.Errorf("task %s: row %d of %s: %w", t.Name, i+1, split, err)
		}
		if made != nil {
			out = append(out, made)
		}
	}
	return out, nil
}

// sampler is lm_eval/api/samplers.py.
type sampler struct {
	pool    []Document
	first   bool
	random  *pythonRandom
	exclude bool // the document that is asked is none of its own examples
}

func (s *sampler) sample(n int, asked Document) ([]Document, error) {
	if n == 0 {
		return nil, nil
	}
	pool := s.pool
	if s.first {
		if s.exclude {
			pool = without(pool, asked)
		}
		if n > len(pool) {
			return nil, fmt.Errorf("%d few-shot examples wanted, the split has %d", n, len(pool))
		}
		return pool[:n], nil
	}
	wanted := n
	if s.exclude {
		wanted++
	}
	if wanted > len(pool) {
		return nil, fmt.Errorf("%d few-shot examples wanted, the split has %d", wanted, len(pool))
	}
	out := s.draw(pool, wanted)
	if !s.exclude {
		return out, nil
	}
	if out = without(out, asked); len(out) < n {
		return s.draw(without(pool, asked), n), nil
	}
	return out[:n], nil
}

func (s *sampler) draw(pool []Document, n int) []Document {
	out := make([]Document, n)
	for i, j := range s.random.sample(len(pool), n) {
		out[i] = pool[j]
	}
	return out
}

func without(pool []Document, d Document) []Document {
	var out []Document
	for _, x := range pool {
		if !reflect.DeepEqual(x, d) {
			out = append(out, x)
		}
	}
	return out
}

// question builds a document's prompt (ConfigurableTask.fewshot_context, build_qa_turn) and its requests
// (construct_requests).
func (t *Task) question(d Document, examples []Document) (Question, error) {
	q := Question{Row: d, Gold: -1}
	target, fewshot := t.delimiters()
	context := t.Description
	for _, e := range examples {
		turn, err := t.turn(e)
		if err != nil {
			return q, fmt.Errorf("few-shot example: %w", err)
		}
		context += turn + fewshot
	}
	var err error
	if t.DocToChoice != nil {
		if q.Choices, err = t.choices(d); err != nil {
			return q, err
		}
	}
	switch {
	case t.OutputType == Rolling:
		s, err := t.target(d, nil)
		q.Rolling = &s
		return q, err
	case t.MultipleInputs:
		rest, err := d.value(t.DocToTarget)
		if err != nil {
			return q, err
		}
		continuation, err := text(rest)
		if err != nil {
			return q, err
		}
		for _, c := range q.Choices {
			q.Pairs = append(q.Pairs, Pair{context + c, target + continuation})
		}
		right, err := d.value(t.DocToText)
		if err != nil {
			return q, err
		}
		q.Gold = within(right, q.Choices)
		return q, nil
	}
	asked, err := t.text(d)
	if err != nil {
		return q, err
	}
	context += asked
	if t.OutputType == GenerateUntil {
		q.Prompt = context
		q.Target, err = t.target(d, nil)
		return q, err
	}
	for _, c := range q.Choices {
		q.Pairs = append(q.Pairs, Pair{context, target + c})
	}
	right, err := d.value(t.DocToTarget)
	if err != nil {
		return q, err
	}
	q.Gold = within(right, q.Choices)
	return q, nil
}

// turn is a question with its answer.
func (t *Task) turn(d Document) (string, error) {
	target, _ := t.delimiters()
	var choices []string
	var err error
	if t.DocToChoice != nil {
		if choices, err = t.choices(d); err != nil {
			return "", err
		}
	}
	if t.MultipleInputs {
		right, err := d.value(t.DocToText)
		if err != nil {
			return "", err
		}
		i := within(right, choices)
		if i < 0 {
			return "", fmt.Errorf("%v names none of its choices", right)
		}
		rest, err := d.value(t.DocToTarget)
		if err != nil {
			return "", err
		}
		s, err := text(rest)
		return choices[i] + target + s, err
	}
	asked, err := t.text(d)
	if err != nil {
		return "", err
	}
	answer, err := t.target(d, choices)
	return asked + target + answer, err
}

func (t *Task) text(d Document) (string, error) {
	v, err := d.value(t.DocToText)
	if err != nil {
		return "", err
	}
	return text(v)
}

// target is the right answer's text.
func (t *Task) target(d Document, choices []string) (string, error) {
	v, err := d.value(t.DocToTarget)
	if err != nil {
		return "", err
	}
	if choices != nil {
		if i := within(v, choices); i >= 0 {
			return choices[i], nil
		}
	}
	return text(v)
}

func (t *Task) choices(d Document) ([]string, error) {
	v, err := d.value(t.DocToChoice)
	if err != nil {
		return nil, err
	}
	list, err := texts(v)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("no choices")
	}
	return list, err
}

// within is the place of what a target says among the choices: a position, or one of their texts; -1 where it is neither.
func within(v any, choices []string) int {
	if n, ok := number(v); ok {
		if n < len(choices) {
			return n
		}
		return -1
	}
	for i, c := range choices {
		if v == c {
			return i
		}
	}
	return -1
}

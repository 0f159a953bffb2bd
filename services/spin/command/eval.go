package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/checkpoint"
	"github.com/seed-8780d58e/spin/pkg/file"
	"github.com/seed-8780d58e/spin/pkg/harness"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/services/evaluator/benchmark"
)

// eval asks a model benchmark questions as lm-evaluation-harness does, and writes its result file's shape.
type eval struct {
	machine
	tasks      []string
	data       string
	limit      int
	shots      int
	output     string
	logSamples bool
	addBOS     bool
	set        *pflag.FlagSet
	tokens     int
}

func (c *eval) flags(f *pflag.FlagSet) {
	c.set = f
	c.engine.DType = "f32"
	c.machine.flags(f)
	f.StringSliceVar(&c.tasks, "tasks", nil, "benchmarks: "+strings.Join(harness.Names(), ", ")+", or YAML files in lm-eval's words")
	f.StringVar(&c.data, "task-data", "", "folder with their data in the shapes that the hub has: Parquet, JSON Lines, JSON, CSV")
	f.IntVar(&c.limit, "limit", 0, "questions of each task at most (default: all)")
	f.IntVar(&c.shots, "num-fewshot", -1, "few-shot examples (default: the task's own, those of the paper)")
	f.StringVar(&c.output, "output", "", "file for the results in lm-eval's JSON shape")
	f.BoolVar(&c.logSamples, "log-samples", false, "also write each question with its answers there")
	f.BoolVar(&c.addBOS, "add-bos-token", false, "begin every text with the beginning-of-sequence token, or with =false none (default: as the tokenizer's files say)")
	f.IntVar(&c.tokens, "batch-tokens", 4096, "tokens of a packed batch. Changes no result")
}

// evalResults is lm-eval's result file, as far as it means something here.
type evalResults struct {
	Results    map[string]map[string]any    `json:"results"`
	Groups     map[string]map[string]any    `json:"groups,omitempty"`
	Subtasks   map[string][]string          `json:"group_subtasks"`
	Versions   map[string]float64           `json:"versions"`
	Shots      map[string]int               `json:"n-shot"`
	HigherBest map[string]map[string]bool   `json:"higher_is_better"`
	Samples    map[string]map[string]int    `json:"n-samples"`
	Config     map[string]any               `json:"config"`
	Logged     map[string][]map[string]any  `json:"samples,omitempty"`
	Harness    string                       `json:"harness_version"`
	Date       float64                      `json:"date"`
	Seconds    string                       `json:"total_evaluation_time_seconds"`
	Weights    string                       `json:"weights_sha256"`
	scores     map[string][]harness.Score   // of tasks and groups, for the table
	groups     map[string][][]harness.Score // of a group's tasks
}

func (c *eval) run(ctx context.Context, _ []string, s Streams) error {
	switch {
	case len(c.tasks) == 0:
		return badInput(fmt.Errorf("--tasks is missing, want some of %s", strings.Join(harness.Names(), ", ")))
	case c.data == "":
		return badInput(errors.New("--task-data is missing: the folder with the tasks' data"))
	case c.limit < 0:
		return badInput(fmt.Errorf("--limit is %d, want 0 (all) or more", c.limit))
	}
	var tasks []*harness.Task
	var questions [][]harness.Question
	for _, name := range c.tasks { // all data is read before the model is
		loaded, err := harness.Load(name)
		if err != nil {
			return badInput(err)
		}
		for _, t := range loaded {
			if c.shots >= 0 {
				t.Shots = c.shots
			}
			if t.OutputType == harness.Rolling {
				t.Shots = 0
			}
			q, err := t.Questions(harness.Data{Dir: c.data}, t.Shots, c.limit)
			if err != nil {
				return badInput(err)
			}
			tasks, questions = append(tasks, t), append(questions, q)
		}
	}
	p, dev, dtype, err := c.open()
	if err != nil {
		return err
	}
	defer p.Close()
	defer dev.Close()
	m, err := load(p, dev, model.Options{DType: dtype})
	if err != nil {
		return err
	}
	defer m.Free()
	digest, err := checkpoint.Digest(p)
	if err != nil {
		return err
	}
	r := &benchmark.Respondent{Model: m, Tokenizer: p.Tokenizer, Stops: p.Stops(), BatchTokens: c.tokens, Sequences: 32}
	if c.set.Changed("add-bos-token") {
		r.AddBOS = &c.addBOS
	}
	began := time.Now()
	out := newEvalResults(digest)
	out.Config = map[string]any{"model": "spin", "model_args": p.Path, "dtype": c.engine.DType, "engine": dev.Fingerprint(), "limit": c.limit, "batch_size": c.tokens}
	for i, t := range tasks {
		var done func(int)
		if isTerminal(s.Err) {
			done = func(n int) { fmt.Fprintf(s.Err, "\r%s: %d of %d ", t.Name, n, len(questions[i])) }
		}
		answers, err := r.Ask(ctx, t, questions[i], done)
		if done != nil {
			fmt.Fprint(s.Err, "\r\x1b[K")
		}
		if err != nil {
			return fmt.Errorf("task %s: %w", t.Name, err)
		}
		if err := out.add(t, questions[i], answers, c.logSamples); err != nil {
			return badInput(err)
		}
	}
	out.pool()
	out.Date, out.Seconds = float64(began.Unix()), fmt.Sprint(time.Since(began).Seconds())
	if c.output != "" {
		if err := writeJSON(c.output, out); err != nil {
			return err
		}
	}
	return out.table(s.Out)
}

func newEvalResults(digest string) *evalResults {
	return &evalResults{
		Results: map[string]map[string]any{}, Groups: map[string]map[string]any{}, Subtasks: map[string][]string{}, Versions: map[string]float64{},
		Shots: map[string]int{}, HigherBest: map[string]map[string]bool{}, Samples: map[string]map[string]int{}, Harness: harness.Version, Weights: digest,
		Logged: map[string][]map[string]any{}, scores: map[string][]harness.Score{}, groups: map[string][][]harness.Score{},
	}
}

// add judges a task's answers.
func (e *evalResults) add(t *harness.Task, questions []harness.Question, answers []harness.Answer, logged bool) error {
	verdicts := make([]harness.Verdict, len(questions))
	for i, q := range questions {
		var err error
		if verdicts[i], err = t.Judge(q, answers[i]); err != nil {
			return fmt.Errorf("task %s, question %d: %w", t.Name, i+1, err)
		}
		if logged {
			e.Logged[t.Name] = append(e.Logged[t.Name], sample(q, answers[i], verdicts[i]))
		}
	}
	scores := harness.Summarize(verdicts)
	e.Versions[t.Name], e.Shots[t.Name] = t.TaskVersion, t.Shots
	e.Samples[t.Name] = map[string]int{"original": len(questions), "effective": len(questions)}
	e.record(e.Results, t.Name, scores)
	if t.Group != "" {
		e.Subtasks[t.Group] = append(e.Subtasks[t.Group], t.Name)
		e.groups[t.Group] = append(e.groups[t.Group], scores)
	} else {
		e.Subtasks[t.Name] = []string{}
	}
	return nil
}

func (e *evalResults) record(where map[string]map[string]any, name string, scores []harness.Score) {
	e.scores[name] = scores
	row, better := map[string]any{"alias": name}, map[string]bool{}
	for _, s := range scores {
		metric, filter, _ := strings.Cut(s.Metric, ",")
		row[s.Metric], row[metric+"_stderr,"+filter] = s.Value, any(s.Stderr)
		if math.IsNaN(s.Stderr) {
			row[metric+"_stderr,"+filter] = "N/A" // as lm-eval says it
		}
		better[metric] = !strings.Contains(metric, "perplexity") && metric != "bits_per_byte"
	}
	where[name], e.HigherBest[name] = row, better
}

// pool adds the groups' figures.
func (e *evalResults) pool() {
	for name, subjects := range e.groups {
		scores := harness.Pool(subjects)
		e.record(e.Groups, name, scores)
		e.Results[name] = e.Groups[name]
	}
}

// sample is a question as lm-eval logs it.
func sample(q harness.Question, a harness.Answer, v harness.Verdict) map[string]any {
	out := map[string]any{"doc_id": q.Doc, "doc": q.Row}
	switch {
	case q.Rolling != nil:
		out["arguments"], out["resps"] = [][]any{{*q.Rolling}}, a.LogLikelihoods
	case len(q.Pairs) > 0:
		var arguments, resps [][]any
		for i, p := range q.Pairs {
			arguments, resps = append(arguments, []any{p.Context, p.Continuation}), append(resps, []any{a.LogLikelihoods[i], a.Greedy[i]})
		}
		out["arguments"], out["resps"], out["target"] = arguments, resps, q.Gold
	default:
		out["arguments"], out["resps"], out["target"], out["filtered_resps"] = [][]any{{q.Prompt}}, []string{a.Text}, q.Target, v.Filtered
	}
	for metric, value := range v.Values {
		out[metric] = value
	}
	return out
}

// table prints a line a figure.
func (e *evalResults) table(w io.Writer) error {
	names := make([]string, 0, len(e.scores))
	for name := range e.scores {
		names = append(names, name)
	}
	slices.SortFunc(names, cmp.Compare[string])
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "task\tversion\tshots\tn\tmetric\tvalue\tstandard error")
	for _, name := range names {
		for _, s := range e.scores[name] {
			version, shots := "", ""
			if v, ok := e.Versions[name]; ok {
				version, shots = fmt.Sprint(v), fmt.Sprint(e.Shots[name])
			}
			stderr := "–"
			if !math.IsNaN(s.Stderr) {
				stderr = fmt.Sprintf("%.4f", s.Stderr)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%.4f\t%s\n", name, version, shots, s.N, s.Metric, s.Value, stderr)
		}
	}
	return t.Flush()
}

func writeJSON(path string, v any) error {
	w, err := file.Create(path)
	if err != nil {
		return badInput(err)
	}
	defer w.Abort()
	lines := json.NewEncoder(w)
	lines.SetIndent("", " ")
	if err := lines.Encode(v); err != nil {
		return err
	}
	return w.Commit()
}

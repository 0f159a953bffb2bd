package evaluate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/harness"
	"github.com/seed-8780d58e/spin/services/evaluator/benchmark"
)

// bench is a benchmark that every checkpoint is asked, its questions made once.
type bench struct {
	task      *harness.Task
	questions []harness.Question
}

// loadBenchmarks reads the tasks that the configuration names, and their data.
func (c Config) loadBenchmarks() ([]bench, error) {
	if len(c.Tasks) > 0 && c.TaskData == "" {
		return nil, errors.New("--tasks without --task-data, the folder with their data")
	}
	var all []bench
	for _, name := range c.Tasks {
		tasks, err := harness.Load(name)
		if err != nil {
			return nil, err
		}
		for _, t := range tasks {
			q, err := t.Questions(harness.Data{Dir: c.TaskData}, t.Shots, c.TaskLimit)
			if err != nil {
				return nil, err
			}
			all = append(all, bench{t, q})
		}
	}
	return all, nil
}

// benchmarks asks a checkpoint the questions of every task, each under a lease of its own, so that evaluators
// share them. They need no games: they are asked while the next iteration is played.
func (s *Service) benchmarks(ctx context.Context, m *event.Checkpoint) error {
	for _, b := range s.tasks {
		err := s.alone(ctx, m, b.last(m), func(ctx context.Context) error { return s.ask(ctx, m, b) })
		if err != nil {
			return fmt.Errorf("task %s: %w", b.task.Name, err)
		}
	}
	return nil
}

// last is the score of the task that is published last: there, the others are too.
func (b bench) last(m *event.Checkpoint) *event.Score {
	metric := b.task.Metrics[len(b.task.Metrics)-1].Name
	if n := len(b.task.Filters); n > 0 {
		metric += "," + b.task.Filters[n-1].Name
	}
	return score0(m, b.task.Name, metricToken(metric))
}

// metricToken is lm-eval's name of a figure as a token of a subject: acc_norm,none is acc_norm; exact_match,strict-match
// is exact_match_strict_match.
func metricToken(metric string) string {
	return strings.NewReplacer(",", "_", "-", "_").Replace(strings.TrimSuffix(metric, ",none"))
}

func (s *Service) ask(ctx context.Context, m *event.Checkpoint, b bench) error {
	began := time.Now()
	cache, err := s.cache(m)
	if err != nil {
		return err
	}
	w, err := cache.Get(ctx, m.GetRunId(), m.GetWeightsSha256())
	if err != nil {
		return err
	}
	defer w.Release()
	r := &benchmark.Respondent{Model: w.Model, Tokenizer: w.Tokenizer, Stops: w.Stops(), BatchTokens: max(s.cfg.ScoreTokens, 4096), Sequences: 32}
	answers, err := r.Ask(ctx, b.task, b.questions, nil)
	if err != nil {
		return err
	}
	verdicts := make([]harness.Verdict, len(answers))
	for i, q := range b.questions {
		if verdicts[i], err = b.task.Judge(q, answers[i]); err != nil {
			return fmt.Errorf("question %d: %w", i+1, err)
		}
	}
	byMetric := map[string]figure{}
	for _, x := range harness.Summarize(verdicts) {
		f := figure{metric: metricToken(x.Metric), value: x.Value, stderr: x.Stderr, n: x.N}
		if math.IsNaN(f.stderr) {
			f.stderr = 0
		}
		f.low, f.high = f.value-1.96*f.stderr, f.value+1.96*f.stderr
		byMetric[f.metric] = f
	}
	last := b.last(m).GetMetric()
	var figures []figure
	for name, f := range byMetric {
		if name != last {
			figures = append(figures, f)
		}
	}
	figures = append(figures, byMetric[last])
	return s.publishAs(ctx, m, measure{b.task.Name, fmt.Sprint(b.task.TaskVersion), harness.Version, uint32(b.task.Shots)}, figures, began)
}

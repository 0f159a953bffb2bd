package page

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/store"
)

// MostRuns that are compared on one page: as many as there are colours that people tell apart.
const MostRuns = 6

// comparison is what the page of several runs says.
type comparison struct {
	document
	Runs     []compared
	Settings []setting // those in which the runs differ
	Names    []string  // of the weights that some run has, in their order
}

// compared is one of the runs.
type compared struct {
	Name, ID, State, Began string
	Stopped                string
	Best                   *weights // lowest held-out NLL
	Weights                map[string]*weights
	Alarms                 int
	all                    []weights
	steps                  []store.Step
}

// setting is a key of the run file and each run's value.
type setting struct {
	Key    string
	Values []string
}

// compare collects the page's content. Runs keep the order in which they were given.
func compare(ctx context.Context, s *store.Store, runs []store.Run) (*comparison, error) {
	c := &comparison{}
	configs := make([]map[string]string, len(runs))
	var names []weights
	for i, r := range runs {
		run := compared{Name: r.Name, ID: r.RunID, State: r.State, Began: clock(r.CreatedAt), Stopped: r.StopReason, Weights: map[string]*weights{}}
		if run.Name == "" || slices.ContainsFunc(c.Runs, func(o compared) bool { return o.Name == run.Name }) {
			run.Name = short(r.RunID)
		}
		checkpoints, err := s.Checkpoints(ctx, r.RunID)
		if err != nil {
			return nil, err
		}
		scores, err := s.Scores(ctx, r.RunID)
		if err != nil {
			return nil, err
		}
		run.all = weightsOf(checkpoints, scores)
		run.Best = best(run.all)
		for k := range run.all {
			w := &run.all[k]
			run.Weights[w.Name] = w
			if !slices.ContainsFunc(names, func(o weights) bool { return o.Name == w.Name }) {
				names = append(names, *w)
			}
		}
		events, err := s.Events(ctx, r.RunID, shownEvents)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			if e.Level == "alarm" {
				run.Alarms++
			}
		}
		if run.steps, err = s.Steps(ctx, r.RunID, "spin"); err != nil {
			return nil, err
		}
		configs[i] = flatten(r.Config)
		c.Runs = append(c.Runs, run)
	}
	slices.SortStableFunc(names, inOrder)
	for _, w := range names {
		c.Names = append(c.Names, w.Name)
	}
	c.Settings = differing(configs)
	c.Charts = c.charts()
	return c, nil
}

// charts lay the runs over one another.
func (c *comparison) charts() []chart {
	all := []chart{
		c.overWeights(chart{ID: "nll", Title: "Held-out human NLL", About: "Nats per token of the held-out human answers, with 95 % intervals. Lower is better."}, "heldout/nll"),
		c.overWeights(chart{ID: "accuracy", Title: "Held-out accuracy", About: "Share of held-out games in which the weights tell the human answer from their opponent’s, with 95 % intervals. Each run has its own opponents.", Level: new(0.5)}, "heldout/accuracy"),
		c.overWeights(chart{ID: "kl", Title: "KL from the opponent", About: "How far each training took the weights from those it began with, nats per token on the opponent’s answers, with 95 % intervals."}, "heldout/kl"),
		c.overWeights(chart{ID: "length", Title: "Length gap", About: "By how many tokens an answer of the weights is longer than the human one, with 95 % intervals.", Level: new(0.0)}, "answers/length_gap"),
		c.overSteps(chart{ID: "loss", Title: "Training loss", About: fmt.Sprintf("Running mean of %d steps, through all iterations.", smoothing)}, func(s store.Step) float64 { return s.Loss }),
		c.overSteps(chart{ID: "margin", Title: "Margin in training", About: fmt.Sprintf("Running mean of %d steps, through all iterations.", smoothing)}, func(s store.Step) float64 { return s.Margin }),
	}
	return slices.DeleteFunc(all, func(c chart) bool { return len(c.X) == 0 })
}

// overWeights has the weights on x and a series a run.
func (c *comparison) overWeights(out chart, score string) chart {
	for _, r := range c.Runs {
		out.Series = append(out.Series, series{Name: r.Name, Low: []*float64{}})
	}
	for _, name := range c.Names {
		if !slices.ContainsFunc(c.Runs, func(r compared) bool {
			w := r.Weights[name]
			if w == nil {
				return false
			}
			_, ok := w.scores[score]
			return ok
		}) {
			continue
		}
		out.X = append(out.X, name)
		for i, r := range c.Runs {
			out.Series[i].point(r.Weights[name], score)
		}
	}
	return out
}

// overSteps has the steps of all iterations on x and a series a run.
func (c *comparison) overSteps(out chart, of func(store.Step) float64) chart {
	out.XLabel = "step"
	longest := 0
	for _, r := range c.Runs {
		longest = max(longest, len(r.steps))
	}
	for i := range longest {
		out.X = append(out.X, i+1)
	}
	for _, r := range c.Runs {
		s := series{Name: r.Name, Values: make([]*float64, longest)}
		for i, mean := range running(r.steps, of) {
			s.Values[i] = finite(mean)
		}
		out.Series = append(out.Series, s)
	}
	return out
}

// best are the weights with the lowest held-out NLL, as the view best_checkpoint has them; nil: none is
// measured.
func best(all []weights) (b *weights) {
	tuned := slices.ContainsFunc(all, func(w weights) bool { return w.Phase == "sft" })
	for i := range all {
		w := &all[i]
		nll, measured := w.scores["heldout/nll"]
		if measured && !w.Control && (w.Phase != "base" || !tuned) && (b == nil || nll.Value < b.scores["heldout/nll"].Value) {
			b = w
		}
	}
	return b
}

// flatten is a run file's JSON as keys with dots and their values.
func flatten(config string) map[string]string {
	out := map[string]string{}
	var top any
	if json.Unmarshal([]byte(config), &top) != nil {
		return out
	}
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		if m, ok := v.(map[string]any); ok {
			for k, inner := range m {
				walk(prefix+"."+k, inner)
			}
			return
		}
		b, err := json.Marshal(v)
		if err == nil && prefix != "" {
			out[prefix[1:]] = string(b)
		}
	}
	walk("", top)
	return out
}

// differing are the keys whose values are not the same in all runs.
func differing(configs []map[string]string) []setting {
	keys := map[string]bool{}
	for _, c := range configs {
		for k := range c {
			keys[k] = true
		}
	}
	var out []setting
	for _, key := range slices.SortedFunc(maps.Keys(keys), cmp.Compare[string]) {
		s := setting{Key: key}
		for _, c := range configs {
			value, ok := c[key]
			if !ok {
				value = "–"
			}
			s.Values = append(s.Values, value)
		}
		if slices.ContainsFunc(s.Values, func(v string) bool { return v != s.Values[0] }) && key != "name" {
			out = append(out, s)
		}
	}
	return out
}

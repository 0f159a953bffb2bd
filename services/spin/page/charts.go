package page

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/store"
)

// chart is one figure. page.js draws it; the fields are its JSON.
type chart struct {
	ID     string   `json:"id"`
	Title  string   `json:"title"`
	About  string   `json:"about"`  // one sentence under the title
	XLabel string   `json:"xLabel"` // of the numbers X
	X      []any    `json:"x"`      // numbers, or names of categories
	Marks  []int    `json:"marks"`  // positions on X where an iteration begins
	Level  *float64 `json:"level"`  // a horizontal line to compare with
	Series []series `json:"series"`
}

// series is a line over X, or points with intervals. A nil value is a gap.
type series struct {
	Name   string     `json:"name"`
	Values []*float64 `json:"values"`
	Low    []*float64 `json:"low,omitempty"` // ends of 95 % intervals; there: points, not a line
	High   []*float64 `json:"high,omitempty"`
	Faint  bool       `json:"faint,omitempty"` // what a later series smooths
}

// smoothing is how many steps a running mean covers.
const smoothing = 8

// charts are those of the page, in its order. A chart without points is left out.
func charts(ctx context.Context, s *store.Store, r store.Run, w []weights) ([]chart, error) {
	steps := map[string][]store.Step{}
	for _, phase := range []string{"sft", "spin", "control"} {
		var err error
		if steps[phase], err = s.Steps(ctx, r.RunID, phase); err != nil {
			return nil, err
		}
	}
	throughput, err := throughputChart(ctx, s, r.RunID, steps)
	if err != nil {
		return nil, err
	}
	spin := steps["spin"]
	all := []chart{
		lossChart(spin),
		overSteps(spin, chart{ID: "margins", Title: "Rewards and margin", About: "Means over a step’s pairs. Reward is β (log p − log p of the opponent); margin is the human answer’s minus the generated one’s."},
			line{"reward, human", func(s store.Step) float64 { return s.RewardReal }},
			line{"reward, generated", func(s store.Step) float64 { return s.RewardGenerated }},
			line{"margin", func(s store.Step) float64 { return s.Margin }}),
		scoreChart(w, chart{ID: "accuracy", Title: "Held-out accuracy", About: "Share of held-out games in which the weights tell the human answer from the opponent’s, with 95 % intervals; at equal length both are cut to the shorter one.", Level: new(0.5)},
			measure{"accuracy", "heldout/accuracy"}, measure{"at equal length", "heldout/accuracy_equal_length"}),
		scoreChart(w, chart{ID: "nll", Title: "Held-out human NLL", About: "Nats per token of the held-out human answers, with 95 % intervals. Lower is better."}, measure{"NLL", "heldout/nll"}),
		overSteps(spin, chart{ID: "logps", Title: "Log-probabilities against the opponent’s", About: "Summed over an answer, mean over a step’s pairs, the opponent’s taken off. A generated answer that falls far faster than the human one rises is a warning."},
			line{"human", func(s store.Step) float64 { return s.LogpReal - s.OpponentLogpReal }},
			line{"generated", func(s store.Step) float64 { return s.LogpGenerated - s.OpponentLogpGenerated }}),
		overSteps(spin, chart{ID: "entropy", Title: "Entropy and NLL in training", About: "Nats per token: entropy of the next-token distributions on generated answers, and negative log-likelihood of the human ones."},
			line{"entropy", func(s store.Step) float64 { return s.Entropy }},
			line{"NLL, human", func(s store.Step) float64 { return s.NLLReal }}),
		overSteps(spin, chart{ID: "lengths", Title: "Lengths", About: "Mean tokens of an answer in each step’s games."},
			line{"human", func(s store.Step) float64 { return s.LengthReal }},
			line{"generated", func(s store.Step) float64 { return s.LengthGenerated }}),
		fineTuningChart(steps["sft"], steps["control"]),
		throughput,
	}
	return slices.DeleteFunc(all, func(c chart) bool { return len(c.X) == 0 }), nil
}

// line is a series over steps.
type line struct {
	name string
	of   func(store.Step) float64
}

func overSteps(steps []store.Step, c chart, lines ...line) chart {
	c.XLabel = "step"
	c.Series = make([]series, len(lines))
	for i, s := range steps {
		if i == 0 || s.Iteration != steps[i-1].Iteration {
			c.Marks = append(c.Marks, i+1)
			if i > 0 { // a gap: the opponent is another one now
				c.X = append(c.X, float64(i)+0.5)
				for k := range lines {
					c.Series[k].Values = append(c.Series[k].Values, nil)
				}
			}
		}
		c.X = append(c.X, i+1)
		for k, l := range lines {
			c.Series[k].Values = append(c.Series[k].Values, finite(l.of(s)))
		}
	}
	for k, l := range lines {
		c.Series[k].Name = l.name
	}
	return c
}

func lossChart(steps []store.Step) chart {
	means := map[uint64]float64{} // by revision, a step's own
	for i, mean := range running(steps, func(s store.Step) float64 { return s.Loss }) {
		means[steps[i].Revision] = mean
	}
	c := overSteps(steps, chart{ID: "loss", Title: "Training loss", About: fmt.Sprintf("Mean over a step’s pairs, and the running mean of %d steps. The dashed line is the first loss of every iteration: policy and opponent are still the same.", smoothing)},
		line{"loss", func(s store.Step) float64 { return s.Loss }},
		line{fmt.Sprintf("mean of %d steps", smoothing), func(s store.Step) float64 { return means[s.Revision] }})
	c.Series[0].Faint = true
	if len(steps) > 0 {
		c.Level = finite(steps[0].Loss)
	}
	return c
}

// running is the mean of each step and those before it, as many as are smoothed and of its iteration.
func running(steps []store.Step, of func(store.Step) float64) []float64 {
	out := make([]float64, len(steps))
	from := 0
	for i, s := range steps {
		if s.Iteration != steps[from].Iteration {
			from = i
		}
		from = max(from, i+1-smoothing)
		sum := 0.0
		for _, x := range steps[from : i+1] {
			sum += of(x)
		}
		out[i] = sum / float64(i+1-from)
	}
	return out
}

// fineTuningChart puts the fine-tuning that made θ_0 and the control on one axis.
func fineTuningChart(sft, control []store.Step) chart {
	c := overSteps(append(slices.Clone(sft), control...), chart{ID: "sft", Title: "Fine-tuning and control", About: "Negative log-likelihood of the human answers in training, nats per token. The control goes on from θ_0 for as many tokens as self-play."})
	c.Marks = nil
	from := 0
	for _, part := range []struct {
		name  string
		steps []store.Step
	}{{"fine-tuning", sft}, {"control", control}} {
		if len(part.steps) > 0 {
			values := make([]*float64, len(c.X))
			for i, s := range part.steps {
				values[from+i] = finite(s.Loss)
			}
			c.Series = append(c.Series, series{Name: part.name, Values: values})
		}
		from += len(part.steps)
	}
	return c
}

// measure is a score over the weights.
type measure struct{ name, score string }

func scoreChart(all []weights, c chart, measures ...measure) chart {
	for _, m := range measures {
		c.Series = append(c.Series, series{Name: m.name, Low: []*float64{}})
	}
	for _, w := range all {
		if !slices.ContainsFunc(measures, func(m measure) bool { _, ok := w.scores[m.score]; return ok }) {
			continue
		}
		c.X = append(c.X, w.Name)
		for i, m := range measures {
			c.Series[i].point(&w, m.score)
		}
	}
	return c
}

// point adds the weights' score with its interval; a gap where there is none, or no weights.
func (s *series) point(w *weights, score string) {
	var value, low, high *float64
	if w != nil {
		if x, ok := w.scores[score]; ok {
			value, low, high = finite(x.Value), finite(x.Low), finite(x.High)
		}
	}
	s.Values, s.Low, s.High = append(s.Values, value), append(s.Low, low), append(s.High, high)
}

// timeSlices is how many parts of a run's time its throughput is shown in.
const timeSlices = 100

// throughputChart shows what each generator sampled and the trainer trained, over the clock.
func throughputChart(ctx context.Context, s *store.Store, runID string, steps map[string][]store.Step) (chart, error) {
	c := chart{ID: "throughput", Title: "Throughput", About: "Tokens a second over the clock: sampled by each generator, and trained on.", XLabel: "seconds since the first sample was begun"}
	began, span, err := s.SampledBetween(ctx, runID)
	if err != nil || span == 0 {
		return c, err
	}
	if n := len(steps["spin"]); n > 0 {
		span = max(span, steps["spin"][n-1].CreatedAt.Sub(began).Seconds())
	}
	width := max(span/timeSlices, 0.05)
	rates, err := s.Rates(ctx, runID, width)
	if err != nil {
		return c, err
	}
	n := int(span/width) + 1
	for i := range n {
		c.X = append(c.X, (float64(i)+0.5)*width)
	}
	for _, r := range rates {
		if len(c.Series) == 0 || c.Series[len(c.Series)-1].Name != r.Generator {
			c.Series = append(c.Series, series{Name: r.Generator, Values: zeros(n)})
		}
		if i := int(r.Slice); i < n {
			*c.Series[len(c.Series)-1].Values[i] += r.TokensPerS
		}
	}
	trained := series{Name: "trainer", Values: zeros(n)}
	for _, step := range steps["spin"] {
		until := step.CreatedAt.Sub(began).Seconds()
		since := max(until-step.Seconds, 0)
		for i := int(since / width); i < n && float64(i)*width < until; i++ {
			share := min(until, float64(i+1)*width) - max(since, float64(i)*width)
			*trained.Values[i] += float64(step.Tokens) * share / max(until-since, 1e-9) / width
		}
	}
	c.Series = append(c.Series, trained)
	return c, nil
}

func zeros(n int) []*float64 {
	values := make([]float64, n)
	out := make([]*float64, n)
	for i := range values {
		out[i] = &values[i]
	}
	return out
}

// finite is a value that JSON has a form for; a gap otherwise.
func finite(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

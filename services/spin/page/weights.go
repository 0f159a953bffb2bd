package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-8780d58e/spin/pkg/store"
)

// weights are one checkpoint: what it is called, where it came from, and what was measured on it.
type weights struct {
	Name    string
	Control bool
	store.Checkpoint
	scores map[string]store.Score // by task/metric
}

// Score is "value ± 95 %", or a dash. A standard error of 0 is left out: nothing was estimated.
func (w weights) Score(digits int, name string) string {
	s, ok := w.scores[name]
	switch {
	case !ok:
		return "–"
	case s.Stderr == 0:
		return fmt.Sprintf("%.*f", digits, s.Value)
	}
	return fmt.Sprintf("%.*f ± %.*f", digits, s.Value, digits, 1.96*s.Stderr)
}

// phases in the order in which people think of them: the control last, beside the result.
var phases = [...]string{"base", "sft", "spin", "control"}

// weightsOf joins checkpoints and their scores.
func weightsOf(checkpoints []store.Checkpoint, scores []store.Score) []weights {
	var out []weights
	for _, c := range checkpoints {
		w := weights{Name: name(c.Phase, c.Iteration), Control: c.Phase == "control", Checkpoint: c, scores: map[string]store.Score{}}
		for _, s := range scores {
			if s.Phase == c.Phase && s.Iteration == c.Iteration {
				w.scores[s.Task+"/"+s.Metric] = s
			}
		}
		out = append(out, w)
	}
	slices.SortStableFunc(out, inOrder)
	return out
}

func inOrder(a, b weights) int {
	if d := slices.Index(phases[:], a.Phase) - slices.Index(phases[:], b.Phase); d != 0 {
		return d
	}
	return int(a.Iteration) - int(b.Iteration)
}

// name is what people call the weights of a phase.
func name(phase string, iteration uint32) string {
	switch phase {
	case "base":
		return "as given"
	case "control":
		return "control (SFT goes on)"
	}
	return theta(iteration)
}

func theta(iteration uint32) string { return fmt.Sprintf("θ_%d", iteration) }

// What the template prints: a dash for what is not there yet.

func fixed(digits int, p *float64) string { return figure("%.*f", digits, p) }

func signed(digits int, p *float64) string { return figure("%+.*f", digits, p) }

func figure(format string, digits int, p *float64) string {
	if p == nil {
		return "–"
	}
	return fmt.Sprintf(format, digits, *p)
}

func percent(p *float64) string {
	if p == nil {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", 100**p)
}

func whole(p *uint64) string {
	if p == nil {
		return "–"
	}
	return fmt.Sprint(*p)
}

// short is the beginning of a digest.
func short(digest string) string { return digest[:min(12, len(digest))] }

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// indent lays JSON out for reading.
func indent(text string) string {
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(strings.TrimSpace(text)), "", "  "); err != nil {
		return text
	}
	return b.String()
}

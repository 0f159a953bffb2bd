package page

import (
	"fmt"

	"github.com/seed-8780d58e/spin/pkg/store"
)

// story is the run in a few sentences, for who reads nothing else.
func story(r store.Run, all []weights, summary []store.Summary) []string {
	var out []string
	var first, last, control *weights
	for i := range all {
		w := &all[i]
		switch w.Phase {
		case "base", "sft":
			first = w
		case "spin":
			last = w
		case "control":
			control = w
		}
	}
	if first == nil || last == nil {
		return append(out, "No iteration has ended yet.")
	}
	iterations := "iterations"
	if last.Iteration == 1 {
		iterations = "iteration"
	}
	from, fromOK := first.scores["heldout/nll"]
	to, toOK := last.scores["heldout/nll"]
	if fromOK && toOK {
		out = append(out, fmt.Sprintf("In %d %s of self-play the held-out human NLL went from %.3f to %.3f nats a token.", last.Iteration, iterations, from.Value, to.Value))
	} else {
		out = append(out, fmt.Sprintf("%d %s of self-play; their held-out NLL is not measured yet.", last.Iteration, iterations))
	}
	if gain, ok := last.scores["heldout/nll_gain"]; ok {
		verdict := "less than its standard error: no gain that one could rely on"
		if gain.Value > 1.96*gain.Stderr {
			verdict = "well beyond chance"
		} else if gain.Value > gain.Stderr {
			verdict = "more than its standard error, and no more than chance may give"
		}
		if gain.Value < 0 {
			verdict = "a loss"
		}
		out = append(out, fmt.Sprintf("The last one changed it by %+.4f ± %.4f (standard error, answer by answer): %s.", -gain.Value, gain.Stderr, verdict))
	}
	if accuracy, ok := last.scores["heldout/accuracy"]; ok {
		line := fmt.Sprintf("After it, %s tells people’s answers from %s’s in %.0f %% of held-out games", last.Name, theta(last.Iteration-1), 100*accuracy.Value)
		if equal, ok := last.scores["heldout/accuracy_equal_length"]; ok {
			line += fmt.Sprintf(", in %.0f %% where length gives nothing away", 100*equal.Value)
		}
		out = append(out, line+"; at 50 % it guesses.")
	}
	if control != nil && toOK {
		if nll, ok := control.scores["heldout/nll"]; ok {
			better := "self-play is ahead"
			if nll.Value < to.Value {
				better = "fine-tuning is ahead"
			}
			out = append(out, fmt.Sprintf("Fine-tuning that goes on for as many tokens comes to %.3f: %s.", nll.Value, better))
		}
	}
	if b := best(all); b != nil {
		out = append(out, fmt.Sprintf("Best by held-out NLL: %s.", b.Name))
	}
	if r.StopReason != "" {
		out = append(out, fmt.Sprintf("The stop rule ended the run after %d of its iterations: %s.", r.Played, r.StopReason))
	}
	if len(summary) > 0 && summary[len(summary)-1].State != "done" {
		out = append(out, fmt.Sprintf("Iteration %d is %s.", summary[len(summary)-1].Iteration, summary[len(summary)-1].State))
	}
	return out
}

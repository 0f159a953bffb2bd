package run

import (
	"fmt"
	"strconv"
	"strings"
)

// StopWhen ends a run before its last iteration; each rule is off at its zero value. Rules look at held-out games only, after an iteration's training:
// the budget is that iteration's own, fixed by the spec.
type StopWhen struct {
	// NoGain: the held-out human NLL of θ_{t+1} is not below θ_t's by more than the standard error of their difference, which is taken answer by answer.
	NoGain bool `json:"no_gain"`
	// AccuracyBelow: after an iteration's steps the policy tells held-out human answers from its opponent's with an accuracy under this. At 0.5 it guesses:
	// the opponent can't be told from people, where Algorithm 1 converges (arXiv 2401.01335, theorem 5.2).
	AccuracyBelow float64 `json:"accuracy_below"`
}

// Waits reports whether the trainer has to wait for scores.
func (s StopWhen) Waits() bool { return s != StopWhen{} }

// ParseStopWhen reads rules separated by commas: no_gain, accuracy_below=0.55; none turns all off.
func ParseStopWhen(text string) (StopWhen, error) {
	var s StopWhen
	for _, rule := range strings.Split(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(rule), "=")
		switch {
		case name == "none" && value == "":
		case name == "no_gain" && value == "":
			s.NoGain = true
		case name == "accuracy_below":
			x, err := strconv.ParseFloat(value, 64)
			if err != nil || !(x > 0 && x <= 1) {
				return StopWhen{}, fmt.Errorf("accuracy_below=%s: want a share above 0, such as accuracy_below=0.55", value)
			}
			s.AccuracyBelow = x
		default:
			return StopWhen{}, fmt.Errorf("%q: want no_gain, accuracy_below=SHARE or none", rule)
		}
	}
	return s, nil
}

// Figure is a measured value with its standard error.
type Figure struct{ Value, Stderr float64 }

// Verdict says of an iteration's figures whether the run ends with it, and why or why not, for people. gain is how far the held-out human NLL fell, in
// nats a token; accuracy is the held-out one. It depends on nothing else, so that whoever leads the run comes to the same.
func (s StopWhen) Verdict(gain, accuracy Figure) (stop bool, why string) {
	var for_, against []string
	if s.NoGain {
		line := fmt.Sprintf("the held-out human NLL fell by %.4f nats a token, with a standard error of %.4f", gain.Value, gain.Stderr)
		if gain.Value > gain.Stderr {
			against = append(against, line)
		} else { // NaN too
			for_ = append(for_, line+": no gain")
		}
	}
	if s.AccuracyBelow > 0 {
		line := fmt.Sprintf("the held-out accuracy is %.3f ± %.3f", accuracy.Value, accuracy.Stderr)
		if accuracy.Value >= s.AccuracyBelow {
			against = append(against, line)
		} else {
			for_ = append(for_, fmt.Sprintf("%s, below %g: the opponent can hardly be told from people", line, s.AccuracyBelow))
		}
	}
	if len(for_) > 0 {
		return true, strings.Join(for_, "; ")
	}
	return false, strings.Join(against, "; ")
}

// Stop is the end that a run's stop rule came to.
type Stop struct {
	Played int    `json:"played"` // iterations, all before this number
	Reason string `json:"reason"`
}

// Plays is how many iterations of self-play the run has: those of its spec, or fewer where its stop rule ended it.
func (r Run) Plays() int {
	if r.Stop != nil {
		return r.Stop.Played
	}
	return r.Spec.Iterations
}

// StopAfter is the run when its stop rule has said that it ends with so many iterations. It says so once.
func (r Run) StopAfter(played int, reason string) (Run, error) {
	switch {
	case r.Stop != nil && *r.Stop == (Stop{played, reason}):
		return r, nil
	case r.Stop != nil:
		return r, fmt.Errorf("stop after %d iterations, stopped after %d already: %w", played, r.Stop.Played, ErrTransition)
	case r.Status != Running || !r.Spec.StopWhen.Waits() || played < 1 || played >= r.Spec.Iterations:
		return r, fmt.Errorf("stop a run of %d iterations that is %s after %d: %w", r.Spec.Iterations, r.Status, played, ErrTransition)
	}
	r.Stop = &Stop{played, reason}
	return r, nil
}

package run

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestVerdict(t *testing.T) {
	both := StopWhen{NoGain: true, AccuracyBelow: 0.55}
	for _, c := range []struct {
		name           string
		rule           StopWhen
		gain, accuracy Figure
		stop           bool
		why            []string
	}{
		{"off", StopWhen{}, Figure{}, Figure{}, false, nil},
		{"a gain", StopWhen{NoGain: true}, Figure{0.02, 0.01}, Figure{}, false, []string{"fell by 0.0200"}},
		{"within its error", StopWhen{NoGain: true}, Figure{0.01, 0.02}, Figure{}, true, []string{"fell by 0.0100", "no gain"}},
		{"just its error", StopWhen{NoGain: true}, Figure{0.01, 0.01}, Figure{}, true, []string{"no gain"}},
		{"worse", StopWhen{NoGain: true}, Figure{-0.5, 0.01}, Figure{}, true, []string{"fell by -0.5000"}},
		{"not a number", StopWhen{NoGain: true}, Figure{math.NaN(), 0.01}, Figure{}, true, nil},
		{"told apart", StopWhen{AccuracyBelow: 0.55}, Figure{-1, 0}, Figure{0.7, 0.05}, false, []string{"0.700 ± 0.050"}},
		{"at the limit", StopWhen{AccuracyBelow: 0.55}, Figure{}, Figure{0.55, 0.05}, false, nil},
		{"guessed", StopWhen{AccuracyBelow: 0.55}, Figure{1, 0}, Figure{0.52, 0.05}, true, []string{"below 0.55", "hardly"}},
		{"one of two", both, Figure{0.02, 0.01}, Figure{0.52, 0.05}, true, []string{"below 0.55"}},
		{"both", both, Figure{0.01, 0.02}, Figure{0.52, 0.05}, true, []string{"no gain", "below 0.55"}},
		{"none of two", both, Figure{0.02, 0.01}, Figure{0.7, 0.05}, false, []string{"fell by 0.0200", "0.700"}},
	} {
		stop, why := c.rule.Verdict(c.gain, c.accuracy)
		if stop != c.stop {
			t.Errorf("%s: stop is %v, want %v", c.name, stop, c.stop)
		}
		for _, want := range c.why {
			if !strings.Contains(why, want) {
				t.Errorf("%s: %q says nothing of %q", c.name, why, want)
			}
		}
	}
}

func TestStopAfter(t *testing.T) {
	spec, err := Preset("default")
	if err != nil {
		t.Fatal(err)
	}
	spec.Iterations, spec.Engine.DType, spec.StopWhen = 3, "f32", StopWhen{NoGain: true}
	r, err := NewRun("r", spec, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.StopAfter(1, "x"); !errors.Is(err, ErrTransition) {
		t.Errorf("a run that does not go on stops: %v", err)
	}
	if r, err = r.Apply(Start, ""); err != nil {
		t.Fatal(err)
	}
	for _, played := range []int{0, 3, 4} {
		if _, err := r.StopAfter(played, "x"); !errors.Is(err, ErrTransition) {
			t.Errorf("stop after %d of 3 iterations: %v", played, err)
		}
	}
	if r.Plays() != 3 {
		t.Errorf("plays %d iterations, want 3", r.Plays())
	}
	stopped, err := r.StopAfter(2, "no gain")
	if err != nil || stopped.Plays() != 2 || r.Stop != nil {
		t.Errorf("stopped: %+v, %v", stopped.Stop, err)
	}
	if again, err := stopped.StopAfter(2, "no gain"); err != nil || again.Plays() != 2 {
		t.Errorf("said again by who took over: %+v, %v", again.Stop, err)
	}
	if _, err := stopped.StopAfter(1, "no gain"); !errors.Is(err, ErrTransition) {
		t.Errorf("stopped twice: %v", err)
	}
	if stopped.SpecDigest != r.SpecDigest {
		t.Error("stopping makes it another run")
	}
}

func TestParseStopWhen(t *testing.T) {
	for text, want := range map[string]StopWhen{
		"none": {}, "no_gain": {NoGain: true}, "accuracy_below=0.55": {AccuracyBelow: 0.55}, " no_gain , accuracy_below=0.5": {true, 0.5},
	} {
		if got, err := ParseStopWhen(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "gain", "no_gain=1", "accuracy_below", "accuracy_below=", "accuracy_below=0", "accuracy_below=2", "accuracy_below=NaN", "none=1"} {
		if got, err := ParseStopWhen(text); err == nil {
			t.Errorf("%q: read as %+v", text, got)
		}
	}
}

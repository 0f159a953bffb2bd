package train

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/spin"
)

func TestHealth(t *testing.T) {
	// A step of 8 pairs: its accuracy, and what human and drawn answers have gained on the opponent.
	step := func(n int, accuracy, rise, gain float64) *event.Step {
		return &event.Step{Step: uint32(n), Epoch: 1, Pairs: 8, Accuracy: accuracy, LogpReal: -50 + rise, OpponentLogpReal: -50, LogpGenerated: -60 + gain, OpponentLogpGenerated: -60,
			LengthReal: 30, LengthGenerated: 35}
	}
	well := func(n int) *event.Step { return step(n, 0.75, 0.1*float64(n), -0.1*float64(n)) }
	with := func(change func(n int, s *event.Step)) func(n int) *event.Step {
		return func(n int) *event.Step {
			s := well(n)
			change(n, s)
			return s
		}
	}
	margin := func(m func(n int) float64) func(n int) *event.Step {
		return with(func(n int, s *event.Step) { s.Margin = m(n) })
	}
	lengths := func(real, drawn float64) func(n int) *event.Step {
		return with(func(_ int, s *event.Step) { s.LengthReal, s.LengthGenerated = real, drawn })
	}
	for _, c := range []struct {
		name   string
		steps  int
		at     func(n int) *event.Step
		copies func(n int) int // nil: none
		loss   spin.Loss
		want   string // kind@step
	}{
		{"an iteration as it should be", 40, well, nil, spin.Logistic, ""},
		{"all pairs right at once", 40, func(n int) *event.Step { return step(n, min(1, float64(n-1)), 0, 0) }, nil, spin.Logistic, "too_easy@4"},
		{"all right in a short iteration", 8, func(n int) *event.Step { return step(n, min(1, float64(n-1)), 0, 0) }, nil, spin.Logistic, "too_easy@3"},
		{"one pair of them wrong", 40, func(n int) *event.Step { return step(n, [...]float64{0, 0, 1, 0.875, 1}[min(n, 4)], 0, 0) }, nil, spin.Logistic, ""},
		{"all right later on", 40, func(n int) *event.Step { return step(n, min(1, float64(n/5)), 0, 0) }, nil, spin.Logistic, ""},
		{"drawn answers fall, human ones do not rise", 40, func(n int) *event.Step { return step(n, 0.75, 0, -float64(n)) }, nil, spin.Logistic, "opponent_falls@9"}, // mean of 2 … 9
		{"both fall", 40, func(n int) *event.Step { return step(n, 0.75, -float64(n), -float64(n)) }, nil, spin.Logistic, "both_fall@8 opponent_falls@9"},
		{"both fall a little", 40, func(n int) *event.Step { return step(n, 0.75, -1.9, -1.9) }, nil, spin.Logistic, ""},
		{"human answers fall, drawn ones rise", 40, func(n int) *event.Step { return step(n, 0.25, -3, 3) }, nil, spin.Logistic, ""},
		{"drawn answers fall, human ones rise a fourth as much", 40, func(n int) *event.Step { return step(n, 0.75, float64(n)/4, -float64(n)) }, nil, spin.Logistic, ""},
		{"one wild step", 40, func(n int) *event.Step { return step(n, 0.75, 0, -39*float64(n%40/20*(n%20/19))) }, nil, spin.Logistic, ""},

		{"margins grow to where the logistic loss is flat", 40, margin(func(n int) float64 { return float64(n) / 2 }), nil, spin.Logistic, "saturated@13"}, // mean 4.75: slope 0.017
		{"margins stay below", 40, margin(func(n int) float64 { return min(float64(n)/2, 4) }), nil, spin.Logistic, ""},                                    // slope 0.036
		{"one step's margin", 40, margin(func(n int) float64 { return 20 * float64(n%40/20*(n%20/19)) }), nil, spin.Logistic, ""},
		{"flat in a later epoch", 40, with(func(n int, s *event.Step) { s.Epoch, s.Margin = 2, 9 }), nil, spin.Logistic, ""},
		{"past the hinge", 40, margin(func(int) float64 { return 1.5 }), nil, spin.Hinge, "saturated@8"},
		{"before the hinge", 40, margin(func(int) float64 { return 0.9 }), nil, spin.Hinge, ""},
		{"correlation is never flat", 40, margin(func(int) float64 { return 50 }), nil, spin.Correlation, ""},

		{"drawn answers are twice as long", 40, lengths(30, 60), nil, spin.Logistic, "length_gap@8"},
		{"human answers are three times as long", 40, lengths(90, 30), nil, spin.Logistic, "length_gap@8"},
		{"nearly twice as long", 40, lengths(30, 59), nil, spin.Logistic, ""},
		{"twice as long, and short", 40, lengths(3, 6), nil, spin.Logistic, ""},

		{"every tenth draw is the human answer", 40, well, func(n int) int { return map[int]int{5: 4}[n] }, spin.Logistic, "copies@5"}, // 4 of 40
		{"copies in the fourth step", 40, well, func(n int) int { return map[int]int{4: 4}[n] }, spin.Logistic, "copies@4"},
		{"few copies", 40, well, func(n int) int { return n % 5 / 4 * 3 }, spin.Logistic, ""},
		{"a copy among the first few pairs", 40, well, func(n int) int { return map[int]int{1: 3}[n] }, spin.Logistic, ""},
	} {
		h := newHealth(c.steps, c.loss)
		var got []string
		for n := 1; n <= c.steps; n++ {
			copies := 0
			if c.copies != nil {
				copies = c.copies(n)
			}
			for _, a := range h.see(c.at(n), copies) {
				if strings.Contains(a.message, "\n") || a.message == "" || !event.IsToken(a.kind) {
					t.Errorf("%s: %s, message %q", c.name, a.kind, a.message)
				}
				got = append(got, fmt.Sprintf("%s@%d", a.kind, n))
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %q, want %q", c.name, s, c.want)
		}
	}
}

// A trainer that takes over tells no sign twice, and counts on where the save stands.
func TestHealthRestored(t *testing.T) {
	h := newHealth(40, spin.Logistic)
	h.see(&event.Step{Step: 1, Pairs: 30}, 5)
	h.told["length_gap"] = true
	next := newHealth(40, spin.Logistic)
	next.restore(h.state())
	if got := next.see(&event.Step{Step: 2, Pairs: 8}, 0); len(got) != 1 || got[0].kind != "copies" || !strings.Contains(got[0].message, "5 of 38") {
		t.Errorf("after the save: %+v", got)
	}
	for n := 3; n < 12; n++ {
		if got := next.see(&event.Step{Step: uint32(n), Pairs: 8, LengthReal: 10, LengthGenerated: 60}, 0); len(got) > 0 {
			t.Errorf("told again: %+v", got)
		}
	}
}

func TestFailureKind(t *testing.T) {
	for want, cause := range map[string]error{
		"nan": fmt.Errorf("spin 0: step 3: %w", spin.ErrNotFinite), "blocked": fmt.Errorf("x: %w", ErrBlocked), "failed": errors.New("disk"),
	} {
		if got := failureKind(cause); got != want {
			t.Errorf("%v is %s, want %s", cause, got, want)
		}
	}
	if got := failureKind(fmt.Errorf("step 2: %w", optim.ErrNotFinite)); got != "nan" {
		t.Errorf("a gradient that is not finite is %s", got)
	}
}

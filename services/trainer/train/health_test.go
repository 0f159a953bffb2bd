package train

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/event"
)

func TestHealth(t *testing.T) {
	// A step of 8 pairs: its accuracy, and what human and drawn answers have gained on the opponent.
	step := func(n int, accuracy, rise, gain float64) *event.Step {
		return &event.Step{Step: uint32(n), Pairs: 8, Accuracy: accuracy, LogpReal: -50 + rise, OpponentLogpReal: -50, LogpGenerated: -60 + gain, OpponentLogpGenerated: -60}
	}
	for _, c := range []struct {
		name  string
		steps int
		at    func(n int) *event.Step
		want  string // kind@step
	}{
		{"an iteration as it should be", 40, func(n int) *event.Step { return step(n, 0.75, 0.1*float64(n), -0.1*float64(n)) }, ""},
		{"all pairs right at once", 40, func(n int) *event.Step { return step(n, min(1, float64(n-1)), 0, 0) }, "too_easy@4"},
		{"all right in a short iteration", 8, func(n int) *event.Step { return step(n, min(1, float64(n-1)), 0, 0) }, "too_easy@3"},
		{"one pair of them wrong", 40, func(n int) *event.Step { return step(n, [...]float64{0, 0, 1, 0.875, 1}[min(n, 4)], 0, 0) }, ""},
		{"all right later on", 40, func(n int) *event.Step { return step(n, min(1, float64(n/5)), 0, 0) }, ""},
		{"drawn answers fall, human ones do not rise", 40, func(n int) *event.Step { return step(n, 0.75, 0, -float64(n)) }, "opponent_falls@9"}, // mean of 2 … 9
		{"both fall", 40, func(n int) *event.Step { return step(n, 0.75, -float64(n), -float64(n)) }, "opponent_falls@9"},
		{"drawn answers fall, human ones rise a fourth as much", 40, func(n int) *event.Step { return step(n, 0.75, float64(n)/4, -float64(n)) }, ""},
		{"one wild step", 40, func(n int) *event.Step { return step(n, 0.75, 0, -39*float64(n%40/20*(n%20/19))) }, ""},
	} {
		h := newHealth(c.steps)
		var got []string
		for n := 1; n <= c.steps; n++ {
			for _, a := range h.see(c.at(n)) {
				if strings.Contains(a.message, "\n") || a.message == "" {
					t.Errorf("%s: message %q", c.name, a.message)
				}
				got = append(got, fmt.Sprintf("%s@%d", a.kind, n))
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %q, want %q", c.name, s, c.want)
		}
	}
}

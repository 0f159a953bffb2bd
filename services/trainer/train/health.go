package train

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/spin"
)

// health looks at an iteration's steps for signs that it goes wrong, each told once. Losses and
// accuracies look fine when it does: the opponent is too easy to tell from people, or pushed down
// instead of the human answers up.
//
// Other signs are seen elsewhere: a first loss off ℓ(0) by checkFirstLoss, games of wrong weights by
// games.check, numbers that are none where a run ends (failureKind), and answers that ramble by the
// evaluator.
type health struct {
	steps int // of the iteration
	loss  spin.Loss
	told  map[string]bool

	right, pairs int           // after the first step, while it is early
	seen, copies int           // pairs of all steps, and those whose draw is the human answer
	recent       []*event.Step // the newest few
}

// healthState is what a save keeps of it; the newest few steps come again soon.
type healthState struct {
	Right  int      `json:"right"`
	Pairs  int      `json:"pairs"`
	Seen   int      `json:"seen,omitempty"`
	Copies int      `json:"copies,omitempty"`
	Told   []string `json:"told,omitempty"`
}

func (h *health) state() healthState {
	if h == nil {
		return healthState{}
	}
	return healthState{h.right, h.pairs, h.seen, h.copies, slices.Sorted(maps.Keys(h.told))}
}

func (h *health) restore(s healthState) {
	h.right, h.pairs, h.seen, h.copies = s.Right, s.Pairs, s.Seen, s.Copies
	for _, kind := range s.Told {
		h.told[kind] = true
	}
}

// alarm is one sign: kind is a subject token.
type alarm struct{ kind, message string }

// When something is a sign.
const (
	earlyShare  = 10   // of an iteration: its first tenth,
	earlySteps  = 3    // or this many steps where that is more
	recentSteps = 8    // that single steps' noise is averaged over
	fallNats    = 5.0  // that a drawn answer has lost,
	fallFactor  = 5.0  // and so many times what the human one has gained
	bothNats    = 2.0  // that human and drawn answers have lost both
	flatSlope   = 0.02 // of the loss at the mean margin, as a share of that at 0: a pair teaches so much less than at first
	lengthTimes = 2.0  // that one side's answers are as long as the other's,
	lengthLeast = 8.0  // and so many tokens longer
	copyShare   = 0.1  // of the pairs whose draw is the human answer,
	copyLeast   = 32   // where so many pairs were seen
)

func newHealth(steps int, loss spin.Loss) *health {
	return &health{steps: steps, loss: loss, told: map[string]bool{}}
}

// see takes the next step, with how many of its pairs have a draw that is the human answer, and returns
// what it is a sign of.
func (h *health) see(m *event.Step, copies int) []alarm {
	var found []alarm
	tell := func(sign bool, kind, format string, args ...any) {
		if sign && !h.told[kind] {
			h.told[kind] = true
			found = append(found, alarm{kind, fmt.Sprintf("iteration %d, step %d of %d: ", m.GetIteration(), m.GetStep(), h.steps) + fmt.Sprintf(format, args...)})
		}
	}
	early := max((h.steps+earlyShare-1)/earlyShare, earlySteps)
	if step := int(m.GetStep()); step > 1 && step <= early { // at step 1 all margins are 0
		h.pairs += int(m.GetPairs())
		h.right += int(m.GetAccuracy()*float64(m.GetPairs()) + 0.5)
		tell(step == early && h.pairs > 0 && h.right == h.pairs, "too_easy",
			"every one of %d pairs was told apart so far: the opponent's answers are too easy to tell from people's (length, style), or the rate is too high", h.pairs)
	}
	h.seen, h.copies = h.seen+int(m.GetPairs()), h.copies+copies
	tell(h.seen >= copyLeast && float64(h.copies) >= copyShare*float64(h.seen), "copies",
		"in %d of %d pairs the draw is the human answer: they teach nothing", h.copies, h.seen)
	h.recent = append(h.recent, m)
	h.recent = h.recent[max(0, len(h.recent)-recentSteps):]
	if len(h.recent) < recentSteps {
		return found
	}
	rise := h.mean(func(s *event.Step) float64 { return s.GetLogpReal() - s.GetOpponentLogpReal() })
	fall := h.mean(func(s *event.Step) float64 { return s.GetOpponentLogpGenerated() - s.GetLogpGenerated() })
	margin := h.mean((*event.Step).GetMargin)
	real, drawn := h.mean((*event.Step).GetLengthReal), h.mean((*event.Step).GetLengthGenerated)
	tell(fall >= fallNats && fall >= fallFactor*rise, "opponent_falls",
		"a drawn answer has lost %.1f nats, a human one changed by %+.1f: the policy unlearns its own answers more than it learns people's", fall, rise)
	tell(rise <= -bothNats && fall >= bothNats, "both_fall",
		"a drawn answer has lost %.1f nats, and a human one %.1f: the policy moves away from both", fall, -rise)
	slope := math.Abs(h.loss.Derivative(margin) / h.loss.Derivative(0))
	tell(m.GetEpoch() == 1 && slope <= flatSlope, "saturated",
		"the mean margin is %.2f before the first epoch ends: pairs teach %.1f %% of what they did at first, and the rest of the training does little or harm (beta or the rate is too high)", margin, 100*slope)
	tell(max(real, drawn) >= lengthTimes*min(real, drawn) && math.Abs(real-drawn) >= lengthLeast, "length_gap",
		"a drawn answer has %.0f tokens, a human one %.0f: length alone tells them apart", drawn, real)
	return found
}

// mean over the newest steps.
func (h *health) mean(of func(*event.Step) float64) float64 {
	sum := 0.0
	for _, s := range h.recent {
		sum += of(s)
	}
	return sum / float64(len(h.recent))
}

// failureKind is the kind of event that a run's failure is: nan where its numbers are none any more.
func failureKind(cause error) string {
	switch {
	case errors.Is(cause, spin.ErrNotFinite), errors.Is(cause, optim.ErrNotFinite):
		return "nan"
	case errors.Is(cause, ErrBlocked):
		return "blocked"
	}
	return "failed"
}

package train

import (
	"fmt"
	"maps"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/event"
)

// health looks at an iteration's steps for signs that it goes wrong, each told once. Losses and
// accuracies look fine when it does: the opponent is too easy to tell from people, or pushed down
// instead of the human answers up.
type health struct {
	steps int // of the iteration
	told  map[string]bool

	right, pairs int           // after the first step, while it is early
	recent       []*event.Step // the newest few
}

// healthState is what a save keeps of it; the newest few steps come again soon.
type healthState struct {
	Right int      `json:"right"`
	Pairs int      `json:"pairs"`
	Told  []string `json:"told,omitempty"`
}

func (h *health) state() healthState {
	if h == nil {
		return healthState{}
	}
	return healthState{h.right, h.pairs, slices.Sorted(maps.Keys(h.told))}
}

func (h *health) restore(s healthState) {
	h.right, h.pairs = s.Right, s.Pairs
	for _, kind := range s.Told {
		h.told[kind] = true
	}
}

// alarm is one sign: kind is a subject token.
type alarm struct{ kind, message string }

// When something is a sign.
const (
	earlyShare  = 10  // of an iteration: its first tenth,
	earlySteps  = 3   // or this many steps where that is more
	recentSteps = 8   // that single steps' noise is averaged over
	fallNats    = 5.0 // that a drawn answer has lost,
	fallFactor  = 5.0 // and so many times what the human one has gained
)

func newHealth(steps int) *health { return &health{steps: steps, told: map[string]bool{}} }

// see takes the next step and returns what it is a sign of.
func (h *health) see(m *event.Step) []alarm {
	var found []alarm
	tell := func(a alarm, sign bool) {
		if sign && !h.told[a.kind] {
			h.told[a.kind] = true
			found = append(found, a)
		}
	}
	early := max((h.steps+earlyShare-1)/earlyShare, earlySteps)
	if step := int(m.GetStep()); step > 1 && step <= early { // at step 1 all margins are 0
		h.pairs += int(m.GetPairs())
		h.right += int(m.GetAccuracy()*float64(m.GetPairs()) + 0.5)
		tell(alarm{"too_easy", fmt.Sprintf("iteration %d: every one of %d pairs was told apart by step %d of %d: the opponent's answers are too easy to tell from people's (length, style), or the rate is too high",
			m.GetIteration(), h.pairs, step, h.steps)}, step == early && h.pairs > 0 && h.right == h.pairs)
	}
	h.recent = append(h.recent, m)
	h.recent = h.recent[max(0, len(h.recent)-recentSteps):]
	if len(h.recent) < recentSteps {
		return found
	}
	rise, fall := 0.0, 0.0
	for _, s := range h.recent {
		rise += (s.GetLogpReal() - s.GetOpponentLogpReal()) / recentSteps
		fall -= (s.GetLogpGenerated() - s.GetOpponentLogpGenerated()) / recentSteps
	}
	tell(alarm{"opponent_falls", fmt.Sprintf("iteration %d, step %d: a drawn answer has lost %.1f nats, a human one changed by %+.1f: the policy unlearns its own answers more than it learns people's",
		m.GetIteration(), m.GetStep(), fall, rise)}, fall >= fallNats && fall >= fallFactor*rise)
	return found
}

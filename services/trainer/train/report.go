package train

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/seed-8780d58e/spin/pkg/event"
)

// note is an event with its figures.
func (l *lead) note(ctx context.Context, level event.Level, kind string, iteration uint32, message string, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		b = nil
	}
	e := &event.Event{
		Id: uuid.NewString(), RunId: l.run.ID, Service: "trainer", Kind: kind, Level: level, Iteration: iteration, Message: message, Body: string(b),
		Circumstance: l.circumstance(1),
	}
	log := l.log.Info()
	if level != event.Level_LEVEL_INFO {
		log = l.log.Warn()
	}
	log.Str("run", l.run.ID).Uint32("iteration", iteration).Str("kind", kind).Msg(message)
	if err := l.bus.Append(ctx, e, e.Id); err != nil && ctx.Err() == nil {
		l.log.Error().Err(err).Str("run", l.run.ID).Msg("publish an event")
	}
}

// drift is how far two engines, or two ways through one engine, are from each other on the same tokens.
type drift struct {
	Fingerprint string  `json:"fingerprint"`
	Games       int     `json:"games"`
	Tokens      int     `json:"tokens"`
	Mean        float64 `json:"mean"`     // nats a token, signed
	MeanAbs     float64 `json:"mean_abs"` // nats a token
	Max         float64 `json:"max"`
}

func (d *drift) add(got, want float64, tokens int) {
	diff := got - want
	d.Tokens += tokens
	d.Mean += diff
	d.MeanAbs += math.Abs(diff)
	d.Max = max(d.Max, math.Abs(diff))
}

func (d *drift) finish() {
	if d.Tokens > 0 {
		d.Mean /= float64(d.Tokens)
		d.MeanAbs /= float64(d.Tokens)
	}
}

// samplingDrift compares, for each engine that played, the log-probabilities that it sampled by with
// those that it scored.
func samplingDrift(games []*event.Game) []drift {
	by := map[string]*drift{}
	for _, m := range games {
		if m.GetHole() != nil {
			continue
		}
		d := of(by, m.GetFingerprint())
		for _, draw := range m.GetDraws() {
			for i, sampled := range draw.GetSamplingLogps() {
				d.add(float64(draw.GetResponse().GetTokenLogps()[i]), float64(sampled), 1)
			}
		}
	}
	return inOrder(by)
}

// engineDrift compares, for each engine that played, the log-probabilities of its answers with those of
// the trainer's own pass, both under θ_t.
func engineDrift(games map[string]*event.Game, own []Game) []drift {
	by := map[string]*drift{}
	for i := range own {
		m := games[own[i].PromptID]
		d := of(by, m.GetFingerprint())
		theirs := trainingGame(m)
		d.add(own[i].Real.OpponentLogp, theirs.Real.OpponentLogp, len(theirs.Real.IDs))
		for j := range theirs.Draws {
			d.add(own[i].Draws[j].OpponentLogp, theirs.Draws[j].OpponentLogp, len(theirs.Draws[j].IDs))
		}
	}
	return inOrder(by)
}

// of is an engine's drift, with one game more.
func of(by map[string]*drift, fingerprint string) *drift {
	if by[fingerprint] == nil {
		by[fingerprint] = &drift{Fingerprint: fingerprint}
	}
	by[fingerprint].Games++
	return by[fingerprint]
}

func inOrder(by map[string]*drift) []drift {
	var out []drift
	for _, fingerprint := range slices.Sorted(maps.Keys(by)) {
		by[fingerprint].finish()
		out = append(out, *by[fingerprint])
	}
	return out
}

// driftLimit, in nats a token, is where an engine's two ways of computing the same are a fault: several
// times what BF16 costs.
const driftLimit = 0.1

// worst is the drift with the largest mean.
func worst(all []drift) (w drift) {
	for _, d := range all {
		if d.MeanAbs >= w.MeanAbs {
			w = d
		}
	}
	return w
}

// report says how the games of an iteration came in: how long training waited for them, and how well
// decoding and scoring agree on each engine.
func (g *games) report(ctx context.Context, games []*event.Game) {
	g.mu.Lock()
	holes, refused := 0, 0
	for _, m := range games {
		if m.GetHole() != nil {
			holes++
		}
	}
	for _, list := range g.refused {
		refused += len(list)
	}
	idle, hedges, median := g.idle, g.tasks.made, g.tasks.took.Median()
	g.mu.Unlock()
	all := samplingDrift(games)
	number := uint32(g.at.Number)
	g.lead.note(ctx, event.Level_LEVEL_INFO, "games", number,
		fmt.Sprintf("%d games of iteration %d, %d holes, %d refused, %d hedges; training waited %.1f s for them", len(games)-holes, number, holes, refused, hedges, idle.Seconds()),
		map[string]any{"games": len(games) - holes, "holes": holes, "refused": refused, "hedges": hedges, "idle_seconds": idle.Seconds(), "median_task_seconds": median.Seconds()})
	level, w := event.Level_LEVEL_INFO, worst(all)
	if w.MeanAbs > driftLimit {
		level = event.Level_LEVEL_ALARM
	}
	var parts []string
	for _, d := range all {
		parts = append(parts, fmt.Sprintf("%s %.2g", d.Fingerprint, d.MeanAbs))
	}
	if len(parts) > 0 {
		g.lead.note(ctx, level, "sampling_drift", number,
			fmt.Sprintf("iteration %d: decoding and scoring differ by this many nats a token, mean: %s", number, strings.Join(parts, ", ")), all)
	}
}

// reportEngines says how far each engine that played is from the trainer's.
func (g *games) reportEngines(ctx context.Context, all []drift) {
	var parts []string
	for _, d := range all {
		parts = append(parts, fmt.Sprintf("%s %+.2g", d.Fingerprint, d.Mean))
	}
	g.lead.note(ctx, event.Level_LEVEL_INFO, "engine_drift", uint32(g.at.Number),
		fmt.Sprintf("iteration %d: the trainer scores the opponent itself; it differs from who played by this many nats a token: %s", g.at.Number, strings.Join(parts, ", ")), all)
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

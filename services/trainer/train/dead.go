package train

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
)

// ErrBlocked: training needs a game that no generator could play. The run waits for a person; going
// on with it tries the game again.
var ErrBlocked = errors.New("the run is blocked")

// oldLetters counts the dead letters that earlier attempts at this iteration met, and returns the
// first sequence behind them: those are tried again.
func (g *games) oldLetters(ctx context.Context) (next uint64, err error) {
	next = 1
	err = g.readLetters(ctx, bus.ReadConfig{}, func(seq uint64, m *event.DeadLetter) {
		g.again[m.GetPromptId()]++
		next = seq + 1
	})
	return next, err
}

// followLetters notes the prompts that nobody could play.
func (g *games) followLetters(ctx context.Context, from uint64) error {
	return g.readLetters(ctx, bus.ReadConfig{From: from, Follow: true}, func(_ uint64, m *event.DeadLetter) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.dead[m.GetPromptId()] = m
		g.wake()
	})
}

// readLetters reads the dead letters of this iteration, and those that do not say of which they are:
// tasks that no generator understood.
func (g *games) readLetters(ctx context.Context, cfg bus.ReadConfig, take func(seq uint64, m *event.DeadLetter)) error {
	cfg.Stream, cfg.Filters = bus.Dead, []string{event.Filter(g.lead.run.ID, event.Dead)}
	return g.lead.bus.Read(ctx, cfg, func(d bus.Delivery) error {
		m, ok := d.Message.(*event.DeadLetter)
		if ok && (m.GetIteration() == uint32(g.turn.Number) || m.GetPromptId() == "") {
			take(d.Seq, m)
		}
		return nil
	})
}

// blocked says why the games of the prompts will not come, or nil. The caller holds g.mu.
func (g *games) blocked(prompts []*event.Prompt) error {
	if m := g.dead[""]; m != nil {
		return fmt.Errorf("%w: no generator understands its tasks: %s; going on with the run tries again", ErrBlocked, m.GetReason())
	}
	for _, p := range prompts {
		m := g.dead[p.GetPromptId()]
		if m == nil || g.played[p.GetPromptId()] != nil {
			continue
		}
		why := ""
		for _, a := range m.GetAttempts() {
			if a.GetError() != "" {
				why = ", the last with: " + a.GetError()
			}
		}
		return fmt.Errorf("%w: prompt %s of iteration %d could not be played: %s%s; going on with the run tries it again", ErrBlocked, p.GetPromptId(), g.turn.Number, m.GetReason(), why)
	}
	return nil
}

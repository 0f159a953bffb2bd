package record

import (
	"context"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/store"
)

// recordRefusals obeys the dead letters about games. A game that a trainer refuses may be recorded
// already, be on its way, or never get here; none of its rows may stay. The trainer takes the message out
// of the stream before it writes the letter, so whoever reads the letter knows that nobody will read the
// message afterwards. What was read before is in a batch of this process or in ClickHouse: the one
// forgets it, the other deletes it, and both keep out of each other's way. A batch that an earlier
// recorder left half done is finished first, for it may have the game in it.
func (s *Service) recordRefusals(ctx context.Context) error {
	l, err := s.openLedger(ctx, bus.Dead)
	if err != nil {
		return err
	}
	s.advance(bus.Dead, l.Last)
	select {
	case <-s.repeated:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return s.bus.Read(ctx, bus.ReadConfig{Stream: bus.Dead, From: l.Last + 1, Follow: true}, func(d bus.Delivery) error {
		if m, ok := d.Message.(*event.DeadLetter); ok && m.GetStream() == event.Games {
			if err := s.forget(ctx, m); err != nil {
				return err
			}
		}
		if err := l.write(ctx, plan{ID: l.ID, First: d.Seq, Last: d.Seq, Done: true}); err != nil {
			return err
		}
		s.advance(bus.Dead, d.Seq)
		return nil
	})
}

// forget takes a refused game's rows away, for as long as ClickHouse is away.
func (s *Service) forget(ctx context.Context, m *event.DeadLetter) error {
	s.inserting.Lock()
	defer s.inserting.Unlock()
	s.refused[m.GetStreamSeq()] = true
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		err := s.store.RemoveGame(ctx, m.GetRunId(), m.GetIteration(), m.GetPromptId(), m.GetStreamSeq())
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.log.Warn().Err(err).Str("run", m.GetRunId()).Str("prompt", m.GetPromptId()).Msg("ClickHouse did not let a refused game go; trying again")
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// insertKept inserts a batch without the games that have been refused meanwhile.
func (s *Service) insertKept(ctx context.Context, token, stream string, b *store.Batch) error {
	if stream == bus.Games {
		s.inserting.Lock()
		defer s.inserting.Unlock()
		s.drop(b)
	}
	return s.insert(ctx, token, b)
}

// drop leaves the rows of refused games out of a batch of games. The caller holds s.inserting.
func (s *Service) drop(b *store.Batch) {
	if len(s.refused) == 0 {
		return
	}
	b.Games = without(b.Games, func(g store.Game) bool { return s.refused[g.Revision] })
	b.Samples = without(b.Samples, func(x store.Sample) bool { return s.refused[x.Revision] })
	b.Prompts = without(b.Prompts, func(p store.Prompt) bool { return s.refused[p.Revision] })
}

func without[T any](rows []T, refused func(T) bool) (kept []T) {
	for _, row := range rows {
		if !refused(row) {
			kept = append(kept, row)
		}
	}
	return kept
}

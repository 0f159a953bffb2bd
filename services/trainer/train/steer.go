package train

import (
	"context"
	"errors"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// errSteered is the cause of a context that ended because a person paused or aborted the run.
var errSteered = errors.New("paused or aborted")

// obey returns a context that ends with errSteered when a person pauses or aborts the run.
func (s *Service) obey(ctx context.Context, id string) (steered context.Context, stop func()) {
	steered, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := bus.State[run.Run]{Bucket: s.bus.Control()}.Watch(steered, run.Key(id), func(_ string, now *run.Run, _ uint64) error {
			if now == nil || stopped(now.Status) {
				cancel(errSteered)
			}
			return nil
		})
		if err != nil && steered.Err() == nil {
			cancel(err)
		}
	}()
	return steered, func() {
		cancel(nil)
		<-done
	}
}

// standStill ends the lead of a run that a person paused or aborted: its tasks stay in the queue, or
// are dropped. It reports whether one did.
func (s *Service) standStill(ctx context.Context, id string) (bool, error) {
	now, _, err := bus.State[run.Run]{Bucket: s.bus.Control()}.Load(ctx, run.Key(id))
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return true, s.bus.CloseQueue(ctx, id)
	case err != nil:
		return false, err
	case now.Status == run.Halted:
		return true, s.bus.PauseQueue(ctx, id)
	case now.Status == run.Aborted:
		return true, errors.Join(DropSave(ctx, s.bus, s.blobs, id), s.bus.CloseQueue(ctx, id))
	}
	return false, nil
}

// stopped reports whether a person wants the run to stand still.
func stopped(s run.Status) bool { return s == run.Halted || s == run.Aborted }

package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
)

// A process that was killed leaves leases of tasks and of the leader; the next one on its broker
// waits for neither.
func TestTakeOver(t *testing.T) {
	l := quick()
	l.AckWait, l.LeaseTTL = time.Hour, time.Hour
	b := newBroker(t, l)
	dead := b.connect("dead")
	open(t, dead, runID)
	enqueue(t, dead, chunk(runID, 0, "a"))
	leased := make(chan struct{})
	ctx, kill := context.WithCancel(context.Background())
	go func() {
		_ = dead.Work(ctx, bus.WorkConfig{Instance: "dead", Slots: 1}, func(ctx context.Context, _ *bus.Lease) error {
			close(leased)
			<-ctx.Done()
			return nil
		})
	}()
	go func() {
		_ = dead.Lead(ctx, "trainer."+runID, "dead", func(ctx context.Context, _ uint64) error {
			<-ctx.Done()
			return nil
		})
	}()
	receive(t, leased, "lease")
	becomes(t, "leader to come", func() (int, error) {
		_, err := dead.Leader(t.Context(), "trainer."+runID)
		if errors.Is(err, bus.ErrNotFound) {
			return 1, nil
		}
		return 0, err
	})
	b.stop() // nobody gives anything back
	kill()
	dead.Close()
	b.start()

	next := b.init("next")
	if err := next.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := make(chan uint32, 1)
	generator(t, next, "next", 1, func(_ context.Context, l *bus.Lease) error {
		again <- l.Attempt
		return nil
	})
	if got := receive(t, again, "task of the dead worker"); got != 2 {
		t.Errorf("the task comes as attempt %d, want 2", got)
	}
	led := make(chan struct{})
	go func() {
		_ = next.Lead(t.Context(), "trainer."+runID, "next", func(context.Context, uint64) error { close(led); return nil })
	}()
	receive(t, led, "lease of the dead leader")
}

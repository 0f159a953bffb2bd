package bus_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/bus"
)

// The broker goes away under a reader, a worker, a watcher and a publisher, and comes back with the same folder: nobody notices but by the delay.
func TestEverythingSurvivesARestartOfTheBroker(t *testing.T) {
	b := newBroker(t, quick())
	trainer, worker := b.connect("trainer/1"), b.connect("generator/1")
	ctx := t.Context()
	open(t, trainer, runID)
	found := games(t, trainer)
	generator(t, worker, "g1", 2, func(ctx context.Context, l *bus.Lease) error { return play(ctx, worker, l, "g1") })
	state := bus.State[counter]{Bucket: trainer.Control()}
	changes := make(chan int, 64)
	watching, stop := context.WithCancel(ctx)
	watched := make(chan bool)
	go func() {
		defer close(watched)
		_ = bus.State[counter]{Bucket: worker.Control()}.Watch(watching, "run.*", func(_ string, v *counter, _ uint64) error {
			changes <- v.N
			return nil
		})
	}()
	defer func() { stop(); <-watched }()

	revision := must[uint64](t)(state.Create(ctx, "run.x", counter{0}))
	seen := make(map[string]bool)
	for round := range 3 {
		if round > 0 {
			b.stop()
			sent := make(chan error, 1)
			go func() { // a publisher that meets the outage
				_, err := trainer.Enqueue(ctx, chunk(runID, uint32(100+round), fmt.Sprintf("during-%d", round)))
				sent <- err
			}()
			b.start()
			if err := receive(t, sent, "publish through the outage"); err != nil {
				t.Fatal(err)
			}
			revision = must[uint64](t)(state.Swap(ctx, "run.x", counter{round}, revision))
		}
		enqueue(t, trainer, chunk(runID, uint32(round), fmt.Sprintf("after-%d", round)))
		for want := 2 - b2i(round == 0); want > 0; want-- {
			g := receive(t, found, "game")
			if seen[g.GetPromptId()] {
				t.Errorf("%s read twice", g.GetPromptId())
			}
			seen[g.GetPromptId()] = true
		}
		for receive(t, changes, "change") != round {
		}
	}
	drained(t, trainer, runID)
	info := must[bus.Info](t)(trainer.StreamInfo(ctx, bus.Games))
	if info.Messages != 5 || len(seen) != 5 {
		t.Errorf("%d games stored, %d read, want 5", info.Messages, len(seen))
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

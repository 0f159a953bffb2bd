package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
)

// generator starts a worker and returns what stops it and waits for it.
func generator(t *testing.T, c *bus.Conn, instance string, slots int, handle func(ctx context.Context, l *bus.Lease) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.Work(ctx, bus.WorkConfig{Instance: instance, Slots: slots}, handle)
	}()
	stopped := sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s stopped with %v", instance, err)
		}
	})
	t.Cleanup(stopped)
	return stopped
}

// games follows the stream and sends every game's prompt, once each unless the promise is broken.
func games(t *testing.T, c *bus.Conn) <-chan *event.Game {
	t.Helper()
	found := make(chan *event.Game, 1024)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Read(ctx, bus.ReadConfig{Stream: bus.Games, Follow: true}, func(d bus.Delivery) error {
			found <- d.Message.(*event.Game)
			return nil
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return found
}

const patience = 20 * time.Second

func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s after %v", what, patience)
		panic("unreachable")
	}
}

func open(t *testing.T, c *bus.Conn, runs ...string) {
	t.Helper()
	for _, run := range runs {
		if err := c.OpenQueue(t.Context(), run); err != nil {
			t.Fatal(err)
		}
	}
}

func enqueue(t *testing.T, c *bus.Conn, chunks ...*event.Chunk) {
	t.Helper()
	for _, chunk := range chunks {
		if queued, err := c.Enqueue(t.Context(), chunk); err != nil || !queued {
			t.Fatalf("queue chunk %s: %v, %v", chunk.Task(), queued, err)
		}
	}
}

// becomes looks until left returns 0.
func becomes(t *testing.T, what string, left func() (int, error)) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		n, err := left()
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d %s after %v", n, what, patience)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

// drained waits until a run's queue is empty and nothing is leased.
func drained(t *testing.T, c *bus.Conn, run string) {
	t.Helper()
	becomes(t, "tasks left", func() (int, error) {
		waiting, leased, err := c.QueueDepth(t.Context(), run)
		return waiting + leased, err
	})
}

// forgotten waits until no attempts are kept.
func forgotten(t *testing.T, c *bus.Conn) {
	t.Helper()
	becomes(t, "attempts left", func() (int, error) {
		entries, err := c.Attempts(t.Context())
		return len(entries), err
	})
}

// play publishes a game for each prompt of a chunk.
func play(ctx context.Context, c *bus.Conn, l *bus.Lease, by string) error {
	for _, p := range l.Chunk.GetPrompts() {
		g := game(p.GetPromptId(), "answer")
		g.Circumstance = &event.Circumstance{Instance: by, Attempt: l.Attempt}
		if _, err := c.PublishOnce(ctx, g); err != nil {
			return err
		}
		l.Progress()
	}
	return nil
}

func TestQueueIsBoundedForEachRun(t *testing.T) {
	limits := quick()
	limits.QueuePerRun = 2
	c := newBroker(t, limits).connect("trainer/1")
	ctx := t.Context()
	enqueue(t, c, chunk("run-a", 0, "p0"), chunk("run-a", 1, "p1"))
	if _, err := c.Enqueue(ctx, chunk("run-a", 2, "p2")); !errors.Is(err, bus.ErrFull) {
		t.Errorf("a third chunk: %v", err)
	}
	enqueue(t, c, chunk("run-b", 0, "p0"))
	if queued, err := c.Enqueue(ctx, chunk("run-a", 1, "p1")); queued || err != nil {
		t.Errorf("a chunk that is queued: %v, %v", queued, err)
	}
	single := chunk("run-a", 1, "p1")
	single.Single = true
	enqueue(t, c, single) // a split is never refused
	open(t, c, "run-a")
	if waiting, leased, err := c.QueueDepth(ctx, "run-a"); waiting != 3 || leased != 0 || err != nil {
		t.Errorf("%d wait, %d leased, %v", waiting, leased, err)
	}
	if err := c.CloseQueue(ctx, "run-a"); err != nil {
		t.Fatal(err)
	}
	if info := must[bus.Info](t)(c.StreamInfo(ctx, bus.Prompts)); info.Messages != 1 {
		t.Errorf("%d messages after closing, want the other run's", info.Messages)
	}
}

func TestTwoGeneratorsPlayEveryGameOnce(t *testing.T) {
	b := newBroker(t, quick())
	trainer := b.connect("trainer/1")
	open(t, trainer, runID)
	found := games(t, trainer)
	failed := make(map[string]bool)
	var mu sync.Mutex
	for _, name := range []string{"g1", "g2"} {
		c := b.connect("generator/" + name)
		generator(t, c, name, 4, func(ctx context.Context, l *bus.Lease) error {
			mu.Lock()
			first := !failed[l.Chunk.Task()]
			failed[l.Chunk.Task()] = true
			mu.Unlock()
			if first && l.Chunk.GetChunk()%5 == 0 {
				return errors.New("out of luck") // tried again after RetryDelay
			}
			return play(ctx, c, l, name)
		})
	}
	const chunks = 40
	for i := range uint32(chunks) {
		enqueue(t, trainer, chunk(runID, i, fmt.Sprintf("p%d-a", i), fmt.Sprintf("p%d-b", i)))
	}
	seen := make(map[string]bool)
	again := 0
	for range 2 * chunks {
		g := receive(t, found, "game")
		if seen[g.GetPromptId()] {
			t.Errorf("%s twice", g.GetPromptId())
		}
		seen[g.GetPromptId()] = true
		if g.GetCircumstance().GetAttempt() == 2 {
			again++
		}
	}
	if again != 2*chunks/5 {
		t.Errorf("%d games of a second attempt, want %d", again, 2*chunks/5)
	}
	drained(t, trainer, runID)
	forgotten(t, trainer)
}

// A lease lasts while progress is reported and not longer; whoever lost it may wake up and publish: the first write wins.
func TestHungGeneratorLosesItsLeaseAndAZombieIsHarmless(t *testing.T) {
	b := newBroker(t, quick())
	trainer, hung, healthy := b.connect("trainer/1"), b.connect("generator/hung"), b.connect("generator/healthy")
	open(t, trainer, runID)
	found := games(t, trainer)
	taken, lost, wake, woke := make(chan bool, 1), make(chan error, 1), make(chan bool), make(chan bus.Ack, 1)
	generator(t, hung, "hung", 1, func(ctx context.Context, l *bus.Lease) error {
		if l.Attempt > 1 {
			return bus.ErrRelease // only the first time
		}
		taken <- true
		<-ctx.Done()
		lost <- context.Cause(ctx)
		<-wake
		ack, err := hung.PublishOnce(context.WithoutCancel(ctx), game("p1", "answer"))
		if err != nil {
			t.Error(err)
		}
		woke <- ack
		return ctx.Err()
	})
	enqueue(t, trainer, chunk(runID, 0, "p1"))
	receive(t, taken, "task for the hung one")
	generator(t, healthy, "healthy", 1, func(ctx context.Context, l *bus.Lease) error { return play(ctx, healthy, l, "healthy") })
	if cause := receive(t, lost, "loss"); !errors.Is(cause, bus.ErrLeaseLost) {
		t.Errorf("the hung handler's context ended with %v", cause)
	}
	g := receive(t, found, "game")
	if g.GetCircumstance().GetInstance() != "healthy" || g.GetCircumstance().GetAttempt() != 2 {
		t.Errorf("played by %v", g.GetCircumstance())
	}
	close(wake)
	if ack := receive(t, woke, "zombie"); !ack.Existed || ack.Differs {
		t.Errorf("the zombie's game: %+v", ack)
	}
	drained(t, trainer, runID)
}

func TestProgressKeepsALease(t *testing.T) {
	limits := quick()
	b := newBroker(t, limits)
	trainer, c := b.connect("trainer/1"), b.connect("generator/1")
	open(t, trainer, runID)
	calls, done := make(chan uint32, 8), make(chan error, 1)
	generator(t, c, "g1", 4, func(ctx context.Context, l *bus.Lease) error {
		calls <- l.Attempt
		tick := time.NewTicker(limits.AckWait / 20)
		defer tick.Stop()
		for end := time.Now().Add(4 * limits.AckWait); time.Now().Before(end); <-tick.C {
			l.Progress()
		}
		done <- ctx.Err()
		return nil
	})
	enqueue(t, trainer, chunk(runID, 0, "p1"))
	if err := receive(t, done, "end of the work"); err != nil {
		t.Errorf("the lease was lost: %v", err)
	}
	drained(t, trainer, runID)
	if len(calls) != 1 {
		t.Errorf("%d deliveries of one task", len(calls))
	}
}

// A chunk that failed twice is split, so that a poisoned prompt takes nobody with it; three instances that fail on it bury it.
func TestPoisonedPromptIsSplitOffAndBuried(t *testing.T) {
	b := newBroker(t, quick())
	trainer := b.connect("trainer/1")
	open(t, trainer, runID)
	found := games(t, trainer)
	for _, name := range []string{"g1", "g2", "g3"} {
		c := b.connect("generator/" + name)
		generator(t, c, name, 1, func(ctx context.Context, l *bus.Lease) error {
			for _, p := range l.Chunk.GetPrompts() {
				if p.GetPromptId() == "poison" {
					return fmt.Errorf("%s chokes", name)
				}
			}
			return play(ctx, c, l, name)
		})
	}
	enqueue(t, trainer, chunk(runID, 0, "good-1", "poison", "good-2"))
	played := map[string]bool{receive(t, found, "game").GetPromptId(): true}
	played[receive(t, found, "game").GetPromptId()] = true
	if !played["good-1"] || !played["good-2"] {
		t.Errorf("played %v", played)
	}
	var letter *event.DeadLetter
	err := trainer.Read(t.Context(), bus.ReadConfig{Stream: bus.Dead, Follow: true, Until: 1}, func(d bus.Delivery) error {
		letter = d.Message.(*event.DeadLetter)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	instances := make(map[string]bool)
	for _, a := range letter.GetAttempts() {
		instances[a.GetInstance()] = true
		if !strings.Contains(a.GetError(), "chokes") {
			t.Errorf("attempt %v", a)
		}
	}
	if letter.GetPromptId() != "poison" || len(instances) > 3 || (len(instances) < 3 && len(letter.GetAttempts()) < 10) {
		t.Errorf("dead letter %v", letter)
	}
	if m, err := event.Unmarshal(letter.GetSchema(), letter.GetPayload()); err != nil || m.(*event.Chunk).GetPrompts()[0].GetPromptId() != "poison" {
		t.Errorf("payload: %v, %v", m, err)
	}
	drained(t, trainer, runID)
	forgotten(t, trainer)
}

// A worker that dies says nothing: its name was written down before it started.
func TestPromptThatKillsThreeInstancesIsBuried(t *testing.T) {
	b := newBroker(t, quick())
	trainer := b.connect("trainer/1")
	open(t, trainer, runID)
	enqueue(t, trainer, chunk(runID, 0, "killer"))
	for _, name := range []string{"g1", "g2", "g3"} {
		c := b.connect("generator/" + name)
		dying, dead := make(chan bool), make(chan bool)
		stop := generator(t, c, name, 1, func(context.Context, *bus.Lease) error {
			close(dying)
			<-dead
			return nil // too late: the connection is gone
		})
		receive(t, dying, "victim")
		c.Close()
		close(dead)
		stop()
	}
	survivor := b.connect("generator/g4")
	generator(t, survivor, "g4", 1, func(context.Context, *bus.Lease) error {
		t.Error("a fourth instance got the task")
		return nil
	})
	err := trainer.Read(t.Context(), bus.ReadConfig{Stream: bus.Dead, Follow: true, Until: 1}, func(d bus.Delivery) error {
		if l := d.Message.(*event.DeadLetter); l.GetPromptId() != "killer" || len(l.GetAttempts()) != 3 {
			t.Errorf("dead letter %v", l)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUndecodableTaskIsBuried(t *testing.T) {
	b := newBroker(t, quick())
	trainer, c := b.connect("trainer/1"), b.connect("generator/1")
	open(t, trainer, runID)
	if err := trainer.PublishRaw(t.Context(), chunk(runID, 0, "p").Subject(), "spin.v9.Chunk", []byte("junk")); err != nil {
		t.Fatal(err)
	}
	generator(t, c, "g1", 1, func(context.Context, *bus.Lease) error {
		t.Error("junk was handed out")
		return nil
	})
	err := trainer.Read(t.Context(), bus.ReadConfig{Stream: bus.Dead, Follow: true, Until: 1}, func(d bus.Delivery) error {
		if l := d.Message.(*event.DeadLetter); string(l.GetPayload()) != "junk" || !strings.Contains(l.GetReason(), "spin.v9.Chunk") {
			t.Errorf("dead letter %v", l)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestReleasedTaskIsNotCounted(t *testing.T) {
	b := newBroker(t, quick())
	trainer, c := b.connect("trainer/1"), b.connect("generator/1")
	open(t, trainer, runID)
	attempts := make(chan uint32, 64)
	released := 0
	generator(t, c, "g1", 1, func(_ context.Context, l *bus.Lease) error {
		attempts <- l.Attempt
		if released++; released <= 12 { // past every limit, were it counted
			return fmt.Errorf("weights not loaded: %w", bus.ErrRelease)
		}
		return nil
	})
	enqueue(t, trainer, chunk(runID, 0, "p1", "p2"))
	for i := range 13 {
		if n := receive(t, attempts, "delivery"); n != 1 {
			t.Errorf("delivery %d is attempt %d", i, n)
		}
	}
	drained(t, trainer, runID)
}

func TestRunsAreServedInTurnAndCanPause(t *testing.T) {
	b := newBroker(t, quick())
	trainer, c := b.connect("trainer/1"), b.connect("generator/1")
	ctx := t.Context()
	for i := range uint32(20) {
		enqueue(t, trainer, chunk("run-long", i, "p"))
	}
	enqueue(t, trainer, chunk("run-short", 0, "p"), chunk("run-paused", 0, "p"))
	open(t, trainer, "run-long", "run-short", "run-paused")
	if err := trainer.PauseQueue(ctx, "run-paused"); err != nil {
		t.Fatal(err)
	}
	served := make(chan string, 64)
	generator(t, c, "g1", 1, func(_ context.Context, l *bus.Lease) error {
		served <- l.Chunk.GetRunId()
		return nil
	})
	at := 0
	for receive(t, served, "task") != "run-short" {
		at++
	}
	if at > 2 {
		t.Errorf("the short run waited for %d tasks of the long one", at)
	}
	for ; at < 20; at++ {
		if run := receive(t, served, "task"); run != "run-long" {
			t.Errorf("served %s", run)
		}
	}
	open(t, trainer, "run-paused")
	if run := receive(t, served, "resumed task"); run != "run-paused" {
		t.Errorf("served %s", run)
	}
}

func TestLeavingGeneratorGivesItsTaskBackAtOnce(t *testing.T) {
	limits := quick()
	limits.AckWait = time.Minute // only a given-back task can come again within the test's patience
	b := newBroker(t, limits)
	trainer, leaving, staying := b.connect("trainer/1"), b.connect("generator/1"), b.connect("generator/2")
	open(t, trainer, runID)
	taken := make(chan bool, 1)
	stop := generator(t, leaving, "leaving", 1, func(ctx context.Context, l *bus.Lease) error {
		taken <- true
		<-ctx.Done()
		return ctx.Err()
	})
	enqueue(t, trainer, chunk(runID, 0, "p1"))
	receive(t, taken, "task")
	stop()
	attempts := make(chan uint32, 1)
	generator(t, staying, "staying", 1, func(_ context.Context, l *bus.Lease) error {
		attempts <- l.Attempt
		return nil
	})
	if n := receive(t, attempts, "returned task"); n != 1 {
		t.Errorf("attempt %d: leaving counted as a failure", n)
	}
	drained(t, trainer, runID)
}

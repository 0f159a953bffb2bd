package bus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
)

type counter struct {
	N int `json:"n"`
}

func TestStateIsCompareAndSet(t *testing.T) {
	b := newBroker(t, quick())
	ctx := t.Context()
	state := bus.State[counter]{Bucket: b.connect("trainer/1").Control()}
	if _, _, err := state.Load(ctx, "run.x"); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("a key that isn't there: %v", err)
	}
	first := must[uint64](t)(state.Create(ctx, "run.x", counter{0}))
	if _, err := state.Create(ctx, "run.x", counter{9}); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("created twice: %v", err)
	}
	must[uint64](t)(state.Swap(ctx, "run.x", counter{1}, first))
	if _, err := state.Swap(ctx, "run.x", counter{9}, first); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("an old revision was swapped: %v", err)
	}

	var wg sync.WaitGroup
	for i := range 8 { // each adds 5, from a connection of its own
		mine := bus.State[counter]{Bucket: b.connect(fmt.Sprint("trainer/", i)).Control()}
		wg.Go(func() {
			for done := 0; done < 5; {
				v, revision, err := mine.Load(ctx, "run.x")
				if err == nil {
					_, err = mine.Swap(ctx, "run.x", counter{v.N + 1}, revision)
				}
				switch {
				case err == nil:
					done++
				case !errors.Is(err, bus.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	v, revision, err := state.Load(ctx, "run.x")
	if err != nil || v.N != 41 {
		t.Errorf("got %d, %v, want 41", v.N, err)
	}
	must[uint64](t)(state.Create(ctx, "iter.x.spin.0", counter{7}))
	entries := must[[]bus.Entry](t)(state.Bucket.List(ctx, "run.*"))
	if len(entries) != 1 || entries[0].Key != "run.x" || entries[0].Revision != revision {
		t.Errorf("list: %+v", entries)
	}
	if err := state.Bucket.Delete(ctx, "run.x", first); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("an old revision was deleted: %v", err)
	}
	if err := state.Bucket.Delete(ctx, "run.x", revision); err != nil {
		t.Error(err)
	}
	must[uint64](t)(state.Create(ctx, "run.x", counter{0})) // a deleted key can be made again
}

func TestWatch(t *testing.T) {
	b := newBroker(t, quick())
	state := bus.State[counter]{Bucket: b.connect("trainer/1").Control()}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	revision := must[uint64](t)(state.Create(ctx, "run.x", counter{1}))
	type seen struct {
		n       int
		deleted bool
	}
	saw, done := make(chan seen, 16), make(chan error, 1)
	watcher := bus.State[counter]{Bucket: b.connect("generator/1").Control()}
	go func() {
		done <- watcher.Watch(ctx, "run.*", func(_ string, v *counter, _ uint64) error {
			if v == nil {
				saw <- seen{deleted: true}
			} else {
				saw <- seen{n: v.N}
			}
			return nil
		})
	}()
	want := func(w seen) {
		t.Helper()
		if got := receive(t, saw, "change"); got != w {
			t.Errorf("saw %+v, want %+v", got, w)
		}
	}
	want(seen{n: 1})
	revision = must[uint64](t)(state.Swap(ctx, "run.x", counter{2}, revision))
	want(seen{n: 2})
	if err := state.Bucket.Delete(ctx, "run.x", revision); err != nil {
		t.Fatal(err)
	}
	want(seen{deleted: true})
	cancel()
	if err := receive(t, done, "end of the watch"); !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v", err)
	}
}

func TestLeadershipIsHandedOver(t *testing.T) {
	b := newBroker(t, quick())
	first, second := b.connect("trainer/1"), b.connect("trainer/2")
	ctx := t.Context()
	leads, leave := make(chan uint64, 2), make(chan bool)
	done := make(chan error, 2)
	go func() {
		done <- first.Lead(ctx, runID, "t1", func(_ context.Context, term uint64) error {
			leads <- term
			<-leave
			return errors.New("enough")
		})
	}()
	one := receive(t, leads, "leader")
	go func() {
		done <- second.Lead(ctx, runID, "t2", func(_ context.Context, term uint64) error {
			leads <- term
			return nil
		})
	}()
	if who, err := second.Leader(ctx, runID); err != nil || who != "t1" {
		t.Errorf("%q leads, %v", who, err)
	}
	close(leave)
	if two := receive(t, leads, "next leader"); two <= one {
		t.Errorf("term %d follows %d", two, one)
	}
	if err := receive(t, done, "first"); err == nil || err.Error() != "enough" {
		t.Errorf("the first one's work returned %v", err)
	}
	if err := receive(t, done, "second"); err != nil {
		t.Error(err)
	}
	if _, err := second.Leader(ctx, runID); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("a lease that was given back: %v", err)
	}
}

// A leader whose connection has ended for good stops leading, and another starts when its lease has run out.
func TestLeaseOfASilentLeaderExpires(t *testing.T) {
	b := newBroker(t, quick())
	silent, next := b.connect("trainer/1"), b.connect("trainer/2")
	leads, lost, third := make(chan string, 2), make(chan error, 1), make(chan bool)
	go func() {
		_ = silent.Lead(t.Context(), runID, "silent", func(ctx context.Context, _ uint64) error {
			leads <- "silent"
			<-ctx.Done()
			lost <- context.Cause(ctx)
			return ctx.Err()
		})
		close(third)
	}()
	receive(t, leads, "leader")
	silent.Close()
	go func() {
		_ = next.Lead(t.Context(), runID, "next", func(context.Context, uint64) error {
			leads <- "next"
			return nil
		})
	}()
	if err := receive(t, lost, "loss"); !errors.Is(err, bus.ErrLeaseLost) {
		t.Errorf("the silent leader's context ended with %v", err)
	}
	if who := receive(t, leads, "next leader"); who != "next" {
		t.Errorf("%s leads", who)
	}
	receive(t, third, "end of the silent one")
}

// A broker that is away longer than the lease lasts takes it from nobody: its holder goes on.
func TestLeaseOutlivesAnOutage(t *testing.T) {
	b := newBroker(t, quick())
	c, other := b.connect("trainer/1"), b.connect("trainer/2")
	leads, stop, done := make(chan context.Context, 1), make(chan bool), make(chan error, 1)
	go func() {
		done <- c.Lead(t.Context(), runID, "t1", func(ctx context.Context, _ uint64) error {
			leads <- ctx
			<-stop
			return context.Cause(ctx)
		})
	}()
	ctx := receive(t, leads, "leader")
	b.stop()
	<-time.After(2 * quick().LeaseTTL) // the outage itself
	b.start()
	becomes(t, "lease to be held again", func() (int, error) {
		who, err := other.Leader(t.Context(), runID)
		switch {
		case errors.Is(err, bus.ErrNotFound):
			return 1, nil
		case err == nil && who != "t1":
			return 1, fmt.Errorf("%s holds it", who)
		}
		return 0, err
	})
	if err := other.TryLead(t.Context(), runID, "t2", 0, nil); !errors.Is(err, bus.ErrHeld) {
		t.Errorf("a lease that is held: %v", err)
	}
	if ctx.Err() != nil {
		t.Errorf("the leader lost its lease in an outage: %v", context.Cause(ctx))
	}
	close(stop)
	if err := receive(t, done, "end"); err != nil {
		t.Error(err)
	}
	if silent, err := other.Vacant(t.Context(), runID); silent != 0 || err != nil {
		t.Errorf("vacant after %v, %v", silent, err)
	}
}

func TestMembers(t *testing.T) {
	b := newBroker(t, quick())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := b.connect("generator/1")
	here, gone := make(chan bool, 2), make(chan error, 2)
	for _, name := range []string{"g2", "g1"} {
		go func() {
			gone <- c.Join(ctx, "generator", name, func(ctx context.Context) error {
				here <- true
				<-ctx.Done()
				return nil
			})
		}()
	}
	receive(t, here, "member")
	receive(t, here, "member")
	if m := must[[]string](t)(c.Members(t.Context(), "generator")); !slices.Equal(m, []string{"g1", "g2"}) {
		t.Errorf("members %v", m)
	}
	cancel()
	for range 2 {
		if err := receive(t, gone, "end"); err != nil {
			t.Error(err)
		}
	}
	if m := must[[]string](t)(c.Members(t.Context(), "generator")); len(m) != 0 {
		t.Errorf("members %v after leaving", m)
	}
}

package train

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// sleeper is a way to the broker that can be held up, as a stopped process's is: what is sent meanwhile
// arrives when it goes on.
type sleeper struct {
	listener net.Listener
	mu       sync.Mutex
	awake    *sync.Cond
	asleep   bool
}

func newSleeper(t *testing.T, to string) *sleeper {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &sleeper{listener: l}
	s.awake = sync.NewCond(&s.mu)
	t.Cleanup(func() { l.Close(); s.sleep(false) })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				return
			}
			go s.copy(in, out)
			go s.copy(out, in)
		}
	}()
	return s
}

func (s *sleeper) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		s.mu.Lock()
		for s.asleep {
			s.awake.Wait()
		}
		s.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (s *sleeper) sleep(asleep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asleep = asleep
	s.awake.Broadcast()
}

// A standby leads within ten seconds of a leader's silence, with the time to live that brokers have. The
// old leader, woken with what it had under way, changes nothing: no message, no state, no save.
func TestTakeover(t *testing.T) {
	limits := quickLimits()
	limits.LeaseTTL = bus.DefaultLimits().LeaseTTL
	f := newCluster(t, t.TempDir(), limits)
	f.generator(t, func(*event.Prompt) bool { return false })
	spec := stagedSpec(t)
	spec.CheckpointEvery = 2
	calm := f.submit(t, spec)
	must(t, f.newWorker(t, "calm").Lead(t.Context(), calm))
	want := f.result(t, calm)

	address, err := url.Parse(f.server.URL())
	must(t, err)
	way := newSleeper(t, address.Host)
	cfg := f.server.Config("old")
	cfg.Server, cfg.URL = nil, "nats://"+way.listener.Addr().String()
	old, next := f.worker(t, "old", cfg), f.newWorker(t, "next")

	id := f.submit(t, spec)
	ended, led := make(chan error, 1), make(chan error, 1)
	go func() { ended <- old.Lead(t.Context(), id) }()
	must(t, f.waitStep(t.Context(), id, 5))
	way.sleep(true)
	silent := time.Now()
	go func() { led <- next.Lead(t.Context(), id) }()
	for len(next.log.lines("leads")) == 0 {
		time.Sleep(5 * time.Millisecond) // between two looks
	}
	if took := time.Since(silent); !(took <= 10*time.Second) {
		t.Errorf("the standby leads after %v, want 10 s or less", took)
	}
	must(t, <-led)
	took, on, replayed := next.log.lines("leads")[0], next.log.lines("resumed"), next.log.lines("replayed")
	if len(on) == 0 || on[0]["load_ms"] == nil {
		t.Fatalf("the standby does not say how it went on: %v", on)
	}
	if ms := took["takeover_ms"].(float64); !(ms > 1000 && ms < 10000) {
		t.Errorf("the takeover is said to have taken %v ms", ms)
	}
	t.Logf("takeover %v ms, load %v ms from step %v, replay %v", took["takeover_ms"], on[0]["load_ms"], on[0]["step"], replayed)
	if diff := unequal(f.result(t, id), want); len(diff) > 0 {
		t.Errorf("these differ from the undisturbed run: %v", diff)
	}
	f.once(t)
	f.clean(t, id)

	before := f.state(t)
	way.sleep(false)
	if err := <-ended; err == nil {
		t.Error("the old leader believes that it has led the run to its end")
	}
	old.conn.Close()
	if after := f.state(t); after != before {
		t.Errorf("the woken leader has changed something:\nbefore %s\nafter  %s", before, after)
	}
	f.clean(t, id)
}

// state is where every stream and the control bucket stand.
func (f *cluster) state(t *testing.T) string {
	t.Helper()
	s := ""
	for _, stream := range []string{bus.Games, bus.Steps, bus.Checkpoints, bus.Scores, bus.Dead, "KV_spin_control"} {
		info, err := f.conn.StreamInfo(t.Context(), stream)
		must(t, err)
		s += fmt.Sprintf("%s %d-%d (%d) ", stream, info.First, info.Last, info.Messages)
	}
	return s
}

// Several trainers share the runs of a broker, each of them several at once. One that leaves, and one
// that is killed, are replaced; a run that is paused holds up none; all come to the weights that one
// trainer makes of them.
func TestSharedRuns(t *testing.T) {
	f := newCluster(t, t.TempDir(), quickLimits())
	f.generator(t, func(*event.Prompt) bool { return false })
	spec := stagedSpec(t)
	spec.Control, spec.CheckpointEvery = "none", 2
	calm := f.submit(t, spec)
	must(t, f.newWorker(t, "calm").Lead(t.Context(), calm))
	want := f.result(t, calm)

	var ids []string
	for range 6 {
		ids = append(ids, f.submit(t, spec))
	}
	paused := ids[2]
	f.command(t, paused, run.Pause)
	workers, stops := []*worker{}, []func(){}
	for n := range 3 {
		w := f.newWorker(t, fmt.Sprint("trainer-", n))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		workers, stops = append(workers, w), append(stops, func() { stop(); <-done })
	}
	must(t, f.waitStep(t.Context(), ids[0], 2))
	stops[0]()
	workers[1].conn.Close()
	over := func(id string) {
		t.Helper()
		enough := errors.New("enough")
		err := f.runs.Watch(t.Context(), run.Key(id), func(_ string, r *run.Run, _ uint64) error {
			if !active(r.Status) {
				return enough
			}
			return nil
		})
		if r, _ := f.load(t, id); !errors.Is(err, enough) || r.Status != run.Finished {
			t.Errorf("run %s is %s: %s", id, r.Status, r.Reason)
		}
		if diff := unequal(f.result(t, id), want); len(diff) > 0 {
			t.Errorf("run %s: these differ from the undisturbed run: %v", id, diff)
		}
	}
	for _, id := range ids {
		if id != paused {
			over(id)
		}
	}
	f.command(t, paused, run.Resume)
	over(paused)
	f.once(t)
	for _, stop := range stops[1:] {
		stop()
	}
	for _, id := range ids {
		f.clean(t, id)
	}
	for _, w := range workers {
		t.Logf("%d times led", len(w.log.lines("leads")))
	}
}

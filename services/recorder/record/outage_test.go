package record

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// gate is a way to ClickHouse that can be shut, which breaks what is under way.
type gate struct {
	to, address string
	mu          sync.Mutex
	listener    net.Listener
	conns       []net.Conn
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	g := &gate{to: to, address: "127.0.0.1:0"}
	g.open(t)
	t.Cleanup(g.shut)
	return g
}

func (g *gate) open(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", g.address)
	must(t, err)
	g.mu.Lock()
	g.listener, g.address = l, l.Addr().String()
	g.mu.Unlock()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", g.to)
			if err != nil {
				in.Close()
				continue
			}
			g.mu.Lock()
			g.conns = append(g.conns, in, out)
			g.mu.Unlock()
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listener.Close()
	for _, c := range g.conns {
		c.Close()
	}
	g.conns = nil
}

// A ClickHouse that goes away, for long or in the middle of an insert, loses no row and doubles none;
// services go on publishing meanwhile, and the lag says how much waits.
func TestOutage(t *testing.T) {
	server, _ := storetest.Serve(t, t.TempDir())
	direct, err := url.Parse(server.URL())
	must(t, err)
	g := newGate(t, direct.Host)
	through := *direct
	through.Host = g.address
	archive, err := store.Open(t.Context(), store.Options{URL: through.String()})
	must(t, err)
	t.Cleanup(func() { archive.Close() })
	must(t, archive.Migrate(t.Context()))

	conn, id := newBus(t), newRunID(t)
	s := newRecorder(conn, archive)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	publishSteps(t, conn, id, 1, 10)
	must(t, s.Drain(t.Context()))

	g.shut()
	publishSteps(t, conn, id, 11, 60) // nobody waits for ClickHouse
	lags, err := s.Lags(t.Context())
	must(t, err)
	behind := uint64(0)
	for _, l := range lags {
		if l.Stream == bus.Steps {
			behind = l.Behind
		}
		if l.Missing > 0 {
			t.Errorf("%s: %d missing", l.Stream, l.Missing)
		}
	}
	if behind != 100 {
		t.Errorf("the lag is %d messages, want 100", behind)
	}
	g.open(t)
	must(t, s.Drain(t.Context()))
	wantRows(t, archive, id, 60)

	for from := 61; from <= 180; from += 30 { // in the middle of whatever is under way
		publishSteps(t, conn, id, from, from+29)
		g.shut()
		g.open(t)
	}
	must(t, s.Drain(t.Context()))
	wantRows(t, archive, id, 180)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the recorder ended with %v", err)
	}

	t.Run("what the streams lose is an alarm", func(t *testing.T) {
		conn, id := newBus(t), newRunID(t)
		publishSteps(t, conn, id, 1, 3)
		must(t, conn.Purge(t.Context(), bus.Steps, event.Filter(id, event.Steps), 0))
		must(t, conn.Purge(t.Context(), bus.Steps, event.Filter(id, event.Pairs), 2))
		record(t, newRecorder(conn, archive))
		var alarms []*event.Event
		must(t, conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Events, Filters: []string{event.Filter(fleetID, event.Events, "recorder")}}, func(d bus.Delivery) error {
			alarms = append(alarms, d.Message.(*event.Event))
			return d.Err
		}))
		if len(alarms) != 1 || alarms[0].GetKind() != "gap" || alarms[0].GetLevel() != event.Level_LEVEL_ALARM {
			t.Errorf("alarms: %v, want one of a gap", alarms)
		}
	})
	t.Run("trim", func(t *testing.T) { testTrim(t, archive) })
}

// Streams let go what is recorded and needed no more, and nothing else: not the games that the next
// iteration trains on, not those that a checkpoint is still to be measured by, nothing of a run that is
// paused before its end.
func testTrim(t *testing.T, archive *store.Store) {
	conn := newBus(t)
	spec, err := run.Preset("default")
	must(t, err)
	spec.Engine.DType, spec.Iterations, spec.SFT.Epochs, spec.Data.Heldout = "f32", 2, 1, 1
	r, err := run.NewRun(newRunID(t), spec, time.Now())
	must(t, err)
	r.Status = run.Running
	runs, turns := bus.State[run.Run]{Bucket: conn.Control()}, bus.State[run.Iteration]{Bucket: conn.Control()}
	revision, err := runs.Create(t.Context(), run.Key(r.ID), r)
	must(t, err)
	set := func(status run.Status) {
		t.Helper()
		r.Status = status
		revision, err = runs.Swap(t.Context(), run.Key(r.ID), r, revision)
		must(t, err)
	}
	phase := func(stage run.Stage, n int, p run.Phase) {
		t.Helper()
		key := run.IterationKey(r.ID, stage, n)
		it, rev, err := turns.Load(t.Context(), key)
		if errors.Is(err, bus.ErrNotFound) {
			it = run.NewIteration(r.ID, stage, n)
			rev, err = turns.Create(t.Context(), key, it)
		}
		must(t, err)
		it.Phase = p
		_, err = turns.Swap(t.Context(), key, it, rev)
		must(t, err)
	}
	step := func(p event.Phase, t0, n uint32) {
		t.Helper()
		_, err := conn.PublishExpected(t.Context(), &event.Step{RunId: r.ID, Phase: p, Iteration: t0, Step: n}, 0)
		must(t, err)
	}
	score := func(p event.Phase, t0 uint32, task, metric string) {
		t.Helper()
		m := &event.Score{RunId: r.ID, Phase: p, Iteration: t0, Task: task, Metric: metric, Split: event.Split_SPLIT_HELDOUT, WeightsSha256: digestOf("0")}
		_, err := conn.PublishOnce(t.Context(), m)
		must(t, err)
	}
	game := func(t0 uint32, prompt string) {
		t.Helper()
		_, err := conn.PublishOnce(t.Context(), &event.Game{RunId: r.ID, Iteration: t0, PromptId: prompt, Split: event.Split_SPLIT_TRAIN, Hole: &event.Hole{Reason: "test"}})
		must(t, err)
	}
	want := func(when string, games, steps int) {
		t.Helper()
		s := newRecorder(conn, archive)
		record(t, s)
		must(t, s.trim(t.Context(), map[string]bool{}))
		for _, c := range []struct {
			stream, filter string
			want           int
		}{{bus.Games, event.Filter(r.ID, event.Games), games}, {bus.Steps, event.Filter(r.ID, event.Steps), steps}} {
			there, err := conn.Subjects(t.Context(), c.stream, c.filter)
			must(t, err)
			if len(there) != c.want {
				t.Errorf("%s: %s has %d messages, want %d: %v", when, c.stream, len(there), c.want, there)
			}
		}
	}
	phase(run.SFTStage, 0, run.Training)
	step(event.Phase_PHASE_SFT, 0, 1)
	step(event.Phase_PHASE_SFT, 0, 2)
	want("while a stage trains", 0, 2)
	phase(run.SFTStage, 0, run.Done)
	phase(run.SPINStage, 0, run.Generating)
	want("when it is done", 0, 1) // the newest stays
	game(0, "a")
	game(0, "b")
	step(event.Phase_PHASE_SPIN, 0, 1)
	step(event.Phase_PHASE_SPIN, 0, 2)
	want("while iteration 0 trains", 2, 2)
	phase(run.SPINStage, 0, run.Done)
	phase(run.SPINStage, 1, run.Generating)
	for _, metric := range []string{"nll"} {
		score(event.Phase_PHASE_BASE, 0, "heldout", metric)
		score(event.Phase_PHASE_SFT, 0, "heldout", metric)
		score(event.Phase_PHASE_SPIN, 1, "heldout", metric)
	}
	score(event.Phase_PHASE_SFT, 0, "answers", "near_copy")
	want("while iteration 1 needs the games of 0", 2, 1)
	game(1, "a")
	step(event.Phase_PHASE_SPIN, 1, 1)
	set(run.Halted)
	want("while the run is paused", 3, 1)
	set(run.Running)
	phase(run.SPINStage, 1, run.Done)
	set(run.Finished)
	want("while θ_2 is not measured", 1, 1)
	score(event.Phase_PHASE_SPIN, 2, "heldout", "nll")
	score(event.Phase_PHASE_SPIN, 1, "answers", "near_copy")
	want("in the end", 0, 1)
	if got := count(t, archive, "games", r.ID); got != "3" {
		t.Errorf("games has %s rows, want 3", got)
	}
	if got := count(t, archive, "steps", r.ID); got != "5" {
		t.Errorf("steps has %s rows, want 5", got)
	}
}

// digestOf is 64 digits.
func digestOf(digit string) string {
	s := ""
	for range 64 {
		s += digit
	}
	return s
}

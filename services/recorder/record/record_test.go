package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newBus(t *testing.T) *bus.Conn {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()}, zerolog.Nop())
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	conn, err := bus.Init(t.Context(), server.Config("test"), zerolog.Nop())
	must(t, err)
	t.Cleanup(conn.Close)
	return conn
}

// small batches, so that a few messages make several.
func newRecorder(conn *bus.Conn, archive *store.Store) *Service {
	return New(Config{MaxRows: 4, MaxBytes: 1 << 20, MaxWait: 10 * time.Millisecond, LookEvery: 10 * time.Millisecond}, conn, archive, zerolog.Nop())
}

// record runs a recorder until all is recorded.
func record(t *testing.T, s *Service) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	err := s.Drain(t.Context())
	cancel()
	if stopped := <-done; !errors.Is(stopped, context.Canceled) {
		t.Errorf("the recorder ended with %v", stopped)
	}
	must(t, err)
}

// publishSteps publishes steps from..to of a run, each with two pairs.
func publishSteps(t *testing.T, conn *bus.Conn, runID string, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		_, err := conn.PublishExpected(t.Context(), &event.Step{RunId: runID, Phase: event.Phase_PHASE_SPIN, Step: uint32(n), Loss: float64(n)}, 0)
		must(t, err)
		_, err = conn.PublishExpected(t.Context(), &event.PairTraces{RunId: runID, Step: uint32(n), Pairs: []*event.PairTrace{
			{PromptId: fmt.Sprintf("p%d", n), Loss: 1}, {PromptId: fmt.Sprintf("p%d", n), Draw: 1, Loss: 2},
		}}, 0)
		must(t, err)
	}
}

func newRunID(t *testing.T) string {
	t.Helper()
	id, err := run.NewID()
	must(t, err)
	return id
}

// count is a table's rows of a run, as they lie there: no FINAL.
func count(t *testing.T, archive *store.Store, table, runID string) string {
	t.Helper()
	var out bytes.Buffer
	must(t, archive.Query(t.Context(), "SELECT count() FROM "+table+" WHERE run_id = '"+runID+"'", "TSV", &out))
	return strings.TrimSpace(out.String())
}

func wantRows(t *testing.T, archive *store.Store, runID string, steps int) {
	t.Helper()
	for table, want := range map[string]int{"steps": steps, "pairs": 2 * steps} {
		if got := count(t, archive, table, runID); got != fmt.Sprint(want) {
			t.Errorf("%s has %s rows, want %d", table, got, want)
		}
	}
}

// TestRecorder shares one ClickHouse: there is one engine in a process.
func TestRecorder(t *testing.T) {
	archive := storetest.Open(t)

	// A recorder that dies anywhere between writing its plan and writing that it is done leaves a plan
	// that the next one repeats: each row is there once.
	for _, died := range []struct {
		when string
		what func(t *testing.T, s *Service, l *ledger, p plan, b *store.Batch)
	}{
		{"before the plan", func(*testing.T, *Service, *ledger, plan, *store.Batch) {}},
		{"after the plan", func(t *testing.T, _ *Service, l *ledger, p plan, _ *store.Batch) { must(t, l.write(t.Context(), p)) }},
		{"in the middle of the insert", func(t *testing.T, s *Service, l *ledger, p plan, b *store.Batch) {
			must(t, l.write(t.Context(), p))
			must(t, s.insert(t.Context(), p.token(bus.Steps), &store.Batch{Pairs: b.Pairs})) // one table of two
		}},
		{"after the insert", func(t *testing.T, s *Service, l *ledger, p plan, b *store.Batch) {
			must(t, l.write(t.Context(), p))
			must(t, s.insert(t.Context(), p.token(bus.Steps), b))
		}},
	} {
		t.Run("died "+died.when, func(t *testing.T) {
			conn, id := newBus(t), newRunID(t)
			publishSteps(t, conn, id, 1, 3)
			record(t, newRecorder(conn, archive))
			publishSteps(t, conn, id, 4, 7)

			s := newRecorder(conn, archive)
			l, err := s.openLedger(t.Context(), bus.Steps)
			must(t, err)
			p := plan{ID: l.ID, First: l.Last + 1, Last: l.Last + 5}
			var b store.Batch
			must(t, conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Steps, From: p.First, Until: p.Last}, func(d bus.Delivery) error {
				s.decode(d).add(&b)
				return nil
			}))
			died.what(t, s, l, p, &b)

			record(t, newRecorder(conn, archive))
			wantRows(t, archive, id, 7)
			record(t, newRecorder(conn, archive)) // and there is nothing left to do
			wantRows(t, archive, id, 7)
		})
	}

	// Two brokers number their messages alike, and are two sources all the same.
	t.Run("two brokers", func(t *testing.T) {
		for range 2 {
			conn, id := newBus(t), newRunID(t)
			publishSteps(t, conn, id, 1, 5)
			record(t, newRecorder(conn, archive))
			wantRows(t, archive, id, 5)
		}
	})

	t.Run("a second recorder is fenced off", func(t *testing.T) {
		conn, id := newBus(t), newRunID(t)
		publishSteps(t, conn, id, 1, 2)
		first := newRecorder(conn, archive)
		l, err := first.openLedger(t.Context(), bus.Steps)
		must(t, err)
		record(t, newRecorder(conn, archive))
		if err := first.commit(t.Context(), bus.Steps, l, plan{ID: l.ID, First: 1, Last: 4}, &store.Batch{}); !errors.Is(err, bus.ErrConflict) {
			t.Errorf("an old recorder's plan: %v, want ErrConflict", err)
		}
		wantRows(t, archive, id, 2)
	})

	// Drain covers the control bucket: the last state of the run is there.
	t.Run("runs and iterations", func(t *testing.T) {
		conn := newBus(t)
		spec, err := run.Preset("default")
		must(t, err)
		spec.Engine.DType = "f32"
		r, err := run.NewRun(newRunID(t), spec, time.Now())
		must(t, err)
		_, err = bus.State[run.Run]{Bucket: conn.Control()}.Create(t.Context(), run.Key(r.ID), r)
		must(t, err)
		it := run.NewIteration(r.ID, run.SPINStage, 0)
		iterations := bus.State[run.Iteration]{Bucket: conn.Control()}
		revision, err := iterations.Create(t.Context(), run.IterationKey(r.ID, run.SPINStage, 0), it)
		must(t, err)
		it.Phase, it.Steps = run.Done, 7
		_, err = iterations.Swap(t.Context(), run.IterationKey(r.ID, run.SPINStage, 0), it, revision)
		must(t, err)
		record(t, newRecorder(conn, archive))
		var out bytes.Buffer
		must(t, archive.Query(t.Context(), "SELECT r.state, i.state, i.steps FROM (SELECT * FROM runs FINAL) AS r INNER JOIN (SELECT * FROM iterations FINAL) AS i USING (run_id) WHERE run_id = '"+r.ID+"'", "TSV", &out))
		if got := strings.TrimSpace(out.String()); got != "submitted\tdone\t7" {
			t.Errorf("recorded is %q, want submitted, done, 7", got)
		}
	})
}

func TestConfig(t *testing.T) {
	must(t, DefaultConfig().Validate())
	for _, c := range []Config{{MaxRows: 0, MaxBytes: 1}, {MaxRows: store.MaxRows, MaxBytes: 1}, {MaxRows: 1}, {MaxRows: 1, MaxBytes: 1, MaxWait: -1}, {MaxRows: 1, MaxBytes: 1, LookEvery: -1}} {
		if c.Validate() == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

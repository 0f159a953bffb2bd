package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// cluster is a broker, its blobs, and trainers that come and go.
type cluster struct {
	*plane
	dir    string
	server *embedded.Server
	limits bus.Limits
	blobs  *blob.Store
	dev    compute.Device
}

// quickLimits are those of one machine with the patience of a test.
func quickLimits() bus.Limits {
	l := bus.DefaultLimits()
	l.AckWait, l.RetryDelay, l.LeaseTTL = 2*time.Second, 5*time.Millisecond, time.Second
	return l
}

func newCluster(t *testing.T, dir string, limits bus.Limits) *cluster {
	t.Helper()
	f := &cluster{dir: dir, limits: limits}
	var err error
	f.server, err = embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"}, zerolog.Nop())
	must(t, err)
	t.Cleanup(func() { must(t, f.server.Close()) })
	cfg := f.server.Config("test")
	cfg.Limits = limits
	conn, err := bus.Init(t.Context(), cfg, zerolog.Nop())
	must(t, err)
	t.Cleanup(conn.Close)
	f.plane = &plane{conn: conn, runs: bus.State[run.Run]{Bucket: conn.Control()}}
	f.blobs, err = blob.New(filepath.Join(dir, "blobs"))
	must(t, err)
	f.dev, err = cpu.New(cpu.Config{Threads: 1})
	must(t, err)
	t.Cleanup(func() { must(t, f.dev.Close()) })
	return f
}

// worker is a trainer with a connection and a log of its own.
type worker struct {
	*Service
	conn *bus.Conn
	log  *logBuffer
}

// logBuffer is a log that tests read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines are the log's entries with this message.
func (l *logBuffer) lines(message string) (found []map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(l.b.Bytes()) {
		entry := map[string]any{}
		if json.Unmarshal(line, &entry) == nil && strings.Contains(fmt.Sprint(entry["message"]), message) {
			found = append(found, entry)
		}
	}
	return found
}

func (f *cluster) worker(t *testing.T, name string, cfg bus.Config) *worker {
	t.Helper()
	w := &worker{log: &logBuffer{}}
	log := zerolog.New(w.log)
	cfg.Limits = f.limits
	var err error
	w.conn, err = bus.Connect(t.Context(), cfg, log)
	must(t, err)
	t.Cleanup(w.conn.Close)
	w.Service = New(Config{Scratch: filepath.Join(f.dir, "scratch"), Runs: 4}, name, w.conn, f.blobs, f.dev, log)
	return w
}

func (f *cluster) newWorker(t *testing.T, name string) *worker {
	t.Helper()
	return f.worker(t, name, f.server.Config(name))
}

// result is what a run must come to, whoever led it.
func (f *cluster) result(t *testing.T, id string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, f.conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Checkpoints, Filters: []string{event.Filter(id, event.Checkpoints)}}, func(d bus.Delivery) error {
		m := d.Message.(*event.Checkpoint)
		out[fmt.Sprintf("weights %s %d", m.GetPhase().Token(), m.GetIteration())] = m.GetWeightsSha256()
		return d.Err
	}))
	must(t, f.conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Steps, Filters: []string{event.Filter(id, event.Steps), event.Filter(id, event.Pairs)}}, func(d bus.Delivery) error {
		switch m := d.Message.(type) {
		case *event.Step:
			out[fmt.Sprintf("step %s %d.%d", m.GetPhase().Token(), m.GetIteration(), m.GetStep())] = fmt.Sprint(m.GetLoss(), m.GetGradNorm(), m.GetLearningRate(), m.GetTokens())
		case *event.PairTraces:
			out[fmt.Sprintf("pairs %d.%d", m.GetIteration(), m.GetStep())] = fmt.Sprint(m.GetPairs())
		}
		return d.Err
	}))
	return out
}

// once checks that no step was written twice: a message that replaces another leaves a gap.
func (f *cluster) once(t *testing.T) {
	t.Helper()
	info, err := f.conn.StreamInfo(t.Context(), bus.Steps)
	must(t, err)
	if info.Messages != info.Last {
		t.Errorf("%d messages of steps and pairs, the last is number %d: some were written twice", info.Messages, info.Last)
	}
}

// nothing is saved any more when a run is over.
func (f *cluster) clean(t *testing.T, id string) {
	t.Helper()
	if _, err := f.conn.Control().Get(t.Context(), saveKey(id)); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("the run is over and its save is there: %v", err)
	}
	named := map[string]bool{}
	must(t, f.conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Checkpoints}, func(d bus.Delivery) error {
		for _, file := range d.Message.(*event.Checkpoint).GetFiles() {
			named[file.GetSha256()] = true
		}
		return nil
	}))
	there, err := f.blobs.List(t.Context())
	must(t, err)
	for _, b := range there {
		if !named[b.SHA256] {
			t.Errorf("blob %.12s of %d bytes is nobody's", b.SHA256, b.Size)
		}
	}
}

// stagedSpec has every kind of stage: 2 epochs of fine-tuning, two iterations, the second one mixed, and
// the control; each of several steps.
func stagedSpec(t *testing.T) run.Spec {
	spec := tinySpec(t)
	spec.SFT.Epochs, spec.SFT.Batch, spec.Iterations, spec.Control = 2, 2, 2, "sft"
	spec.SPIN.Batch, spec.SPIN.Epochs = 2, run.Each(2)
	spec.SPIN.LR, spec.SFT.LR = run.Each(1e-3), 1e-3
	must(t, spec.Validate())
	return spec
}

// leading is a trainer at work on a run. reaches waits for so many published steps, and fails where the
// trainer has failed before.
type leading struct {
	f    *cluster
	id   string
	stop context.CancelFunc
	done chan error

	ctx context.Context
}

func (f *cluster) lead(t *testing.T, w *worker, id string) *leading {
	ctx, stop := context.WithCancel(t.Context())
	failed, fail := context.WithCancelCause(t.Context())
	l := &leading{f: f, id: id, stop: stop, done: make(chan error, 1), ctx: failed}
	t.Cleanup(func() { stop(); fail(nil) })
	go func() {
		err := w.Lead(ctx, id)
		fail(fmt.Errorf("the trainer has left: %v", err)) // also without an error: it would never come so far
		l.done <- err
	}()
	return l
}

func (l *leading) reaches(t *testing.T, steps int) {
	t.Helper()
	must(t, l.f.waitStep(l.ctx, l.id, steps))
}

// waitStep returns when so many steps of the run are published.
func (f *cluster) waitStep(ctx context.Context, id string, n int) error {
	enough, seen := errors.New("enough"), 0
	err := f.conn.Read(ctx, bus.ReadConfig{Stream: bus.Steps, Filters: []string{event.Filter(id, event.Steps)}, Follow: true}, func(bus.Delivery) error {
		if seen++; seen >= n {
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		return nil
	}
	return err
}

func unequal(a, b map[string]string) (keys []string) {
	for k := range a {
		if a[k] != b[k] {
			keys = append(keys, k)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// A trainer that is killed in the middle of a stage is replaced by one that goes on from its save, and
// one that is told to go, or whose run is paused, saves before it does: weights, steps and pairs have the
// bits of the run that nobody disturbed, and each step is there once.
func TestGoesOnMidStage(t *testing.T) {
	for _, c := range []struct {
		name string
		with func(*run.Spec)
	}{
		{"full", func(*run.Spec) {}},
		{"lora", func(s *run.Spec) {
			s.LoRA.Rank, s.LoRA.Alpha, s.SFT.Epochs = 4, 8, 1
			s.SPIN.Optimizer = run.Optimizer{Name: "adamw", Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newCluster(t, t.TempDir(), quickLimits())
			f.generator(t, func(*event.Prompt) bool { return false })
			spec := stagedSpec(t)
			c.with(&spec)
			must(t, spec.Validate())
			calm := f.submit(t, spec)
			must(t, f.newWorker(t, "calm").Lead(t.Context(), calm))
			want := f.result(t, calm)
			steps := 0
			for k := range want {
				if strings.HasPrefix(k, "step ") {
					steps++
				}
			}
			t.Run("killed", func(t *testing.T) {
				spec := spec
				spec.CheckpointEvery = 2
				id, resumed, n := f.submit(t, spec), 0, 0
				for at := 1; at < steps; at += 4 { // in every stage
					w := f.newWorker(t, fmt.Sprint("killed-", n))
					n++
					l := f.lead(t, w, id)
					l.reaches(t, at)
					w.conn.Close() // nothing that it still does is heard
					err := <-l.done
					must(t, f.conn.TakeOver(t.Context())) // its lease need not run out here
					if err == nil {
						t.Fatalf("killed after %d of %d steps, the run is done", at, steps)
					}
					for _, line := range w.log.lines("resumed") {
						if line["step"].(float64) > 0 {
							resumed++
						}
					}
				}
				must(t, f.newWorker(t, "last").Lead(t.Context(), id))
				if diff := unequal(f.result(t, id), want); len(diff) > 0 {
					t.Errorf("these differ from the undisturbed run: %v", diff)
				}
				if resumed == 0 {
					t.Error("nobody went on from a save")
				}
				f.once(t)
				f.clean(t, id)
				t.Logf("%d trainers killed, %d times training went on in the middle of a stage", n, resumed)
			})
			t.Run("paused and stopped", func(t *testing.T) {
				id := f.submit(t, spec) // saves by time alone: none, but for those of leaving
				left := 0
				for i, at := range []int{2, 5, 9, steps - 3} {
					w := f.newWorker(t, fmt.Sprint("left-", i))
					l := f.lead(t, w, id)
					l.reaches(t, at)
					if i%2 == 0 {
						f.command(t, id, run.Pause)
					} else {
						l.stop()
					}
					err := <-l.done
					if i%2 == 0 {
						must(t, err)
						f.command(t, id, run.Resume)
					} else if !errors.Is(err, context.Canceled) {
						t.Errorf("stopped: %v", err)
					}
					s, _, err := bus.State[saved]{Bucket: f.conn.Control()}.Load(t.Context(), saveKey(id))
					must(t, err)
					if len(w.log.lines("saved")) > 0 && len(s.Files) > 0 { // else it was between two stages
						left++
					}
				}
				if left == 0 {
					t.Error("nobody saved before they left")
				}
				w := f.newWorker(t, "last")
				must(t, w.Lead(t.Context(), id))
				if diff := unequal(f.result(t, id), want); len(diff) > 0 {
					t.Errorf("these differ from the undisturbed run: %v", diff)
				}
				f.once(t)
				f.clean(t, id)
			})
			t.Run("a save that is damaged", func(t *testing.T) {
				spec := spec
				spec.CheckpointEvery = 1
				id := f.submit(t, spec)
				w := f.newWorker(t, "damaged")
				l := f.lead(t, w, id)
				l.reaches(t, 3)
				l.stop()
				<-l.done
				s, _, err := bus.State[saved]{Bucket: f.conn.Control()}.Load(t.Context(), saveKey(id))
				must(t, err)
				must(t, f.blobs.Delete(t.Context(), s.Files[0].SHA256))
				w = f.newWorker(t, "last")
				must(t, w.Lead(t.Context(), id))
				if len(w.log.lines("cannot be read: the stage begins again")) != 1 {
					t.Error("no line says that the save is lost")
				}
				if diff := unequal(f.result(t, id), want); len(diff) > 0 {
					t.Errorf("these differ from the undisturbed run: %v", diff)
				}
				f.once(t)
			})
		})
	}
}

// What the Steps stream does not take waits in the journal: training goes on to the next checkpoint, the
// trainer may be replaced meanwhile, and in the end every step is there once, in order.
func TestJournal(t *testing.T) {
	limits := quickLimits()
	limits.StepsBytes = 4 << 10
	f := newCluster(t, t.TempDir(), limits)
	f.generator(t, func(*event.Prompt) bool { return false })
	spec := stagedSpec(t)
	spec.Control, spec.Iterations, spec.CheckpointEvery = "none", 1, 3
	id := f.submit(t, spec)
	first := f.newWorker(t, "first")
	ctx, terminate := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- first.Lead(ctx, id) }()
	trained, enough := &event.Checkpoint{}, errors.New("enough")
	err := f.conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Checkpoints, Filters: []string{event.Filter(id, event.Checkpoints)}, Follow: true}, func(d bus.Delivery) error {
		if trained = d.Message.(*event.Checkpoint); trained.GetPhase() == event.Phase_PHASE_SPIN {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	if len(first.log.lines("a stream is full: steps wait in the journal")) == 0 {
		t.Error("no line says that the stream is full")
	}
	if r, _ := f.load(t, id); r.Status != run.Running {
		t.Errorf("the run is %s while steps are not published, want running", r.Status)
	}
	terminate()
	<-done
	second := f.newWorker(t, "second")
	go func() { done <- second.Lead(t.Context(), id) }()
	f.limits.StepsBytes = 64 << 20 // room returns
	cfg := f.server.Config("owner")
	cfg.Limits = f.limits
	owner, err := bus.Init(t.Context(), cfg, zerolog.Nop())
	must(t, err)
	defer owner.Close()
	must(t, <-done)
	got := f.result(t, id)
	calm := f.submit(t, spec)
	must(t, f.newWorker(t, "calm").Lead(t.Context(), calm))
	if diff := unequal(got, f.result(t, calm)); len(diff) > 0 {
		t.Errorf("these differ from the undisturbed run: %v", diff)
	}
	f.once(t)
	f.clean(t, id)
}

// The journal spills to its file and back without losing or turning round a message, waits where the
// file may grow no more, and can be copied at any time.
func TestJournalSpills(t *testing.T) {
	var mu sync.Mutex
	open, got := make(chan bool), []uint32(nil)
	log := &logBuffer{}
	publish := func(ctx context.Context, m event.Message) error {
		select {
		case <-open:
		case <-ctx.Done():
			return ctx.Err()
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, m.(*event.Step).GetStep())
		return nil
	}
	step := func(n int) *event.Step {
		return &event.Step{RunId: strings.Repeat("a", 32), Phase: event.Phase_PHASE_SFT, Step: uint32(1<<20 + n), Circumstance: &event.Circumstance{Instance: strings.Repeat("x", 60)}}
	}
	entry, err := encodeEntry(step(1))
	must(t, err)
	most := 1000 * len(entry)
	j, err := openJournal(t.Context(), filepath.Join(t.TempDir(), "journal"), int64(most), telemetry.NewTrainer(nil).Journal, publish, func(err error) { t.Error(err) }, zerolog.New(log))
	must(t, err)
	defer j.close()
	n, full := 0, context.DeadlineExceeded
	for err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // it waits, as long as it is let
		err = j.add(ctx, step(n+1))
		cancel()
		if err == nil {
			n++
		}
	}
	if !errors.Is(err, full) || n < journalMemory/len(entry)+990 || n > journalMemory/len(entry)+1001 {
		t.Errorf("%d steps were taken, then %v", n, err)
	}
	if len(log.lines("is full: training waits")) != 1 {
		t.Error("no line says that the journal is full")
	}
	var copied bytes.Buffer
	if pending, err := j.copyTo(&copied); err != nil || pending != n {
		t.Errorf("%d messages were copied, %v; want %d", pending, err, n)
	}
	close(open)
	must(t, j.flush(t.Context()))
	for i := range n {
		m, err := readEntry(&copied)
		must(t, err)
		s, err := decodeEntry(m)
		must(t, err)
		if want := step(i + 1).GetStep(); got[i] != want || s.(*event.Step).GetStep() != want {
			t.Fatalf("message %d is step %d, copied as %d", i+1, got[i], s.(*event.Step).GetStep())
		}
	}
	if _, err := os.Stat(j.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of an empty journal: %v", err)
	}
}

func FuzzJournalEntry(f *testing.F) {
	e, err := encodeEntry(&event.Step{RunId: "a", Phase: event.Phase_PHASE_SFT, Step: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e)
	f.Add(e[:len(e)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		entry, err := readEntry(bytes.NewReader(b))
		if err != nil {
			return
		}
		if !bytes.HasPrefix(b, entry) {
			t.Error("an entry that was not read")
		}
		_, _ = decodeEntry(entry)
	})
}

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/checkpoint"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
	"github.com/seed-8780d58e/spin/pkg/weights"
	"github.com/seed-8780d58e/spin/services/evaluator/evaluate"
	"github.com/seed-8780d58e/spin/services/generator/generate"
	"github.com/seed-8780d58e/spin/services/recorder/record"
	"github.com/seed-8780d58e/spin/services/trainer/train"
)

// What the tests play: 14 prompts to train on, 6 held out, 2 draws, θ_0 by an epoch of fine-tuning,
// two iterations, the second one mixed.
const (
	trained, heldout, draws, iterations = 14, 6, 2, 2
	tinyModel                           = "../trainer/train/testdata/tiny"
)

// dataset writes questions with answers, one row more than are played.
func dataset(t testing.TB) string {
	t.Helper()
	words := strings.Fields("tea coffee rain snow music books chess garden trains rivers winter summer bread cheese dogs cats")
	var b bytes.Buffer
	for i := range trained + heldout + 1 {
		line, err := json.Marshal(map[string]any{"messages": []map[string]string{
			{"role": "user", "content": fmt.Sprintf("Do you like %s, or is it %d?", words[i%len(words)], i)},
			{"role": "assistant", "content": fmt.Sprintf("%s, yes.", words[i*3%len(words)])},
		}})
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	path := filepath.Join(t.TempDir(), "answers.jsonl")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// newSpec is the run of the tests.
func newSpec(t testing.TB, data string) run.Spec {
	t.Helper()
	spec, err := run.Preset("default")
	if err != nil {
		t.Fatal(err)
	}
	if spec.Model.Path, err = filepath.Abs(tinyModel); err != nil {
		t.Fatal(err)
	}
	p, err := pretrained.Open(spec.Model.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if spec.Model.SHA256, err = checkpoint.Digest(p); err != nil {
		t.Fatal(err)
	}
	rows, err := os.ReadFile(data)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(rows)
	spec.Data.Path, spec.Data.SHA256 = data, hex.EncodeToString(sum[:])
	spec.Data.Prompts, spec.Data.Heldout, spec.Data.MaxPromptTokens = trained, heldout, 100
	spec.Iterations, spec.Draws, spec.Sampling.MaxNewTokens = iterations, draws, 12
	spec.SFT.Epochs, spec.SFT.Batch, spec.SPIN.Batch = 1, 4, 8
	spec.SPIN.LR, spec.Control = run.Each(1e-4), "sft"
	spec.Engine.DType, spec.Engine.MicroTokens = "f32", 512
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	return spec
}

// plane is a broker's folder with the blobs beside it. Services are started on it any number of
// times.
type plane struct {
	t      testing.TB
	dir    string
	listen string // the broker's address for other processes; empty: none
	store  *store.Store
	log    zerolog.Logger

	metrics *telemetry.Registry // of all services; nil: nobody reads them
}

func newPlane(t testing.TB, s *store.Store) *plane {
	log := zerolog.Nop()
	if os.Getenv("SPIN_TEST_LOG") != "" {
		log = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel)
	}
	return &plane{t: t, dir: t.TempDir(), store: s, log: log}
}

// fleet is who plays.
type fleet struct {
	threads    int               // of the device that all share
	generators []generate.Config // one each
}

func oneGenerator(threads int) fleet { return fleet{threads, []generate.Config{slots(16)}} }

func slots(n int) generate.Config {
	return generate.Config{Slots: n, Sequences: 8, PageTokens: 16, CacheTokens: 2048, ScoreTokens: 256}
}

// limits are those of one machine with the patience of a test.
func limits() bus.Limits {
	l := bus.DefaultLimits()
	l.AckWait, l.RetryDelay, l.LeaseTTL = 5*time.Second, 20*time.Millisecond, 2*time.Second
	l.MaxInstances = l.MaxAttempts
	return l
}

// benchmarks are what the tests' evaluators ask beside held-out games.
func benchmarks() evaluate.Config {
	return evaluate.Config{ScoreTokens: 256, Tasks: []string{"arc_easy"}, TaskData: "../../pkg/harness/testdata/data", TaskLimit: 3}
}

// services are started ones.
type services struct {
	*plane
	ctx       context.Context
	cancel    context.CancelCauseFunc
	server    *embedded.Server
	admin     *bus.Conn
	conns     []*bus.Conn
	dev       compute.Device
	running   sync.WaitGroup
	trainer   *train.Service
	evaluator *evaluate.Service
	recorder  *record.Service
}

var errStopped = errors.New("stopped by the test")

// start starts the broker and the services, the trainer not yet leading. The caller stops them.
func (p *plane) start(f fleet) *services {
	p.t.Helper()
	s := &services{plane: p}
	s.ctx, s.cancel = context.WithCancelCause(p.t.Context())
	var err error
	if s.server, err = embedded.Start(s.ctx, embedded.Config{Dir: filepath.Join(p.dir, "broker"), Listen: p.listen}, zerolog.Nop()); err != nil {
		p.t.Fatal(err)
	}
	if s.admin, err = bus.Init(s.ctx, s.config("admin"), p.log); err != nil {
		p.t.Fatal(err)
	}
	s.conns = append(s.conns, s.admin)
	if err := s.admin.TakeOver(s.ctx); err != nil {
		p.t.Fatal(err)
	}
	if s.dev, err = cpu.New(cpu.Config{Threads: f.threads}); err != nil {
		p.t.Fatal(err)
	}
	blobs, err := blob.New(filepath.Join(p.dir, "blobs"))
	if err != nil {
		p.t.Fatal(err)
	}
	scratch := filepath.Join(p.dir, "scratch")
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		p.t.Fatal(err)
	}
	cache := func(conn *bus.Conn) *weights.Cache {
		return weights.NewCache(conn, blobs, scratch, s.dev, compute.F32, 0)
	}
	for _, cfg := range f.generators {
		instance, conn := s.connect("generator")
		cfg.Metrics = telemetry.NewGenerator(p.metrics)
		g, err := generate.New(cfg, instance, conn, cache(conn), p.log)
		if err != nil {
			p.t.Fatal(err)
		}
		s.serve("generator", g.Run)
	}
	instance, conn := s.connect("evaluator")
	ask := benchmarks()
	ask.Metrics = telemetry.NewEvaluator(p.metrics)
	if s.evaluator, err = evaluate.New(ask, instance, conn, weights.ByDType(cache(conn)), p.log); err != nil {
		p.t.Fatal(err)
	}
	s.serve("evaluator", s.evaluator.Run)
	_, conn = s.connect("recorder")
	s.recorder = record.New(record.Config{MaxRows: 40, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond, Metrics: telemetry.NewRecorder(p.metrics)}, conn, p.store, p.log)
	s.serve("recorder", s.recorder.Run)
	instance, conn = s.connect("trainer")
	s.trainer = train.New(train.Config{Scratch: scratch, Metrics: telemetry.NewTrainer(p.metrics)}, instance, conn, blobs, s.dev, p.log)
	return s
}

func (s *services) config(name string) bus.Config {
	c := s.server.Config(name)
	c.Limits = limits()
	return c
}

func (s *services) connect(service string) (instance string, conn *bus.Conn) {
	s.t.Helper()
	instance = service + "-" + uuid.NewString()[:8]
	conn, err := bus.Connect(s.ctx, s.config(service+"/"+instance), s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	s.conns = append(s.conns, conn)
	return instance, conn
}

func (s *services) serve(name string, run func(context.Context) error) {
	s.running.Go(func() {
		if err := run(s.ctx); s.ctx.Err() == nil {
			s.cancel(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// stop ends everything and reports a service that had failed.
func (s *services) stop() {
	s.t.Helper()
	s.cancel(errStopped)
	s.running.Wait()
	for _, c := range s.conns {
		c.Close()
	}
	s.dev.Close()
	if err := s.server.Close(); err != nil {
		s.t.Error(err)
	}
	if cause := context.Cause(s.ctx); !errors.Is(cause, errStopped) {
		s.t.Errorf("a service failed: %v", cause)
	}
}

// submit writes a run to the control bucket.
func (s *services) submit(spec run.Spec) string {
	s.t.Helper()
	id, err := run.NewID()
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := run.NewRun(id, spec, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := (bus.State[run.Run]{Bucket: s.admin.Control()}).Create(s.ctx, run.Key(id), r); err != nil {
		s.t.Fatal(err)
	}
	return id
}

// finish waits until the run's checkpoints are measured and all of it is recorded.
func (s *services) finish(id string) {
	s.t.Helper()
	for {
		idle, err := s.evaluator.Idle(s.ctx, id)
		if err != nil {
			s.t.Fatal(err)
		}
		if idle {
			break
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
	if err := s.recorder.Drain(s.ctx); err != nil {
		s.t.Fatal(err)
	}
}

// result is what must not depend on luck.
type result struct {
	id      string
	weights []string // that each iteration ends with
	tables  []store.TableDigest
	rows    string // rows_digest
	poison  string // the first prompt's id, for who wants to spoil it
}

func (s *services) result(id string) result {
	s.t.Helper()
	r := result{id: id}
	for t := range iterations {
		it, _, err := bus.State[run.Iteration]{Bucket: s.admin.Control()}.Load(s.ctx, run.IterationKey(id, run.SPINStage, t))
		if err != nil {
			s.t.Fatal(err)
		}
		r.weights = append(r.weights, it.Result)
	}
	var err error
	if r.tables, err = s.store.TableDigests(s.ctx, id); err != nil {
		s.t.Fatal(err)
	}
	if r.rows, err = s.store.RowsDigest(s.ctx, id); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// play plays a whole run on a new plane.
func play(t testing.TB, archive *store.Store, spec run.Spec, f fleet) result {
	t.Helper()
	s := newPlane(t, archive).start(f)
	defer s.stop()
	id := s.submit(spec)
	if err := s.trainer.Lead(s.ctx, id); err != nil {
		t.Fatal(errors.Join(err, context.Cause(s.ctx)))
	}
	s.finish(id)
	return s.result(id)
}

// same compares two results, and names the tables that differ.
func same(t testing.TB, what string, got, want result) {
	t.Helper()
	for i := range want.weights {
		if got.weights[i] != want.weights[i] {
			t.Errorf("%s: iteration %d ends with weights %.12s, want %.12s", what, i, got.weights[i], want.weights[i])
		}
	}
	for i := range want.tables {
		if got.tables[i] != want.tables[i] {
			t.Errorf("%s: table %s has %d rows, %.12s; want %d, %.12s", what, want.tables[i].Table, got.tables[i].Rows, got.tables[i].SHA256, want.tables[i].Rows, want.tables[i].SHA256)
		}
	}
	if got.rows != want.rows {
		t.Errorf("%s: rows_digest %.12s, want %.12s", what, got.rows, want.rows)
	}
}

// ask runs a query of one line and returns its values.
func ask(t testing.TB, s *store.Store, sql string) []string {
	t.Helper()
	var out bytes.Buffer
	if err := s.Query(t.Context(), sql, "TSV", &out); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\t")
}

package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/store"
	clickhouse "github.com/seed-8780d58e/spin/pkg/store/embedded"
	"github.com/seed-8780d58e/spin/pkg/weights"
	"github.com/seed-8780d58e/spin/services/evaluator/evaluate"
	"github.com/seed-8780d58e/spin/services/generator/generate"
	"github.com/seed-8780d58e/spin/services/recorder/record"
	"github.com/seed-8780d58e/spin/services/trainer/train"
)

// places is where a run on this machine keeps things, all below one folder.
type places struct {
	dir    string
	listen string // of the broker; empty: not at all
	engine clickhouse.Config
	store  store.Options
}

func (p *places) flags(f *pflag.FlagSet) {
	f.StringVar(&p.dir, "dir", "./spin-data", "folder for everything a run leaves")
	p.engine.Library = clickhouse.LibraryPath(cacheDir())
	p.engine.Flags(f)
	p.store.Flags(f)
}

func (p *places) broker() string      { return filepath.Join(p.dir, "broker") }
func (p *places) blobs() string       { return filepath.Join(p.dir, "blobs") }
func (p *places) scratch() string     { return filepath.Join(p.dir, "scratch") }
func (p *places) clickhouse() string  { return filepath.Join(p.dir, "clickhouse") }
func (p *places) checkpoints() string { return filepath.Join(p.dir, "checkpoints") }

// maxStore lets the broker promise its streams their bounds whatever is free: train.CheckDisk knows
// what a run really takes, which is far less.
const maxStore = 64 << 30

// local is the event plane of one process: the embedded broker, ClickHouse, and the blobs.
type local struct {
	log    zerolog.Logger
	server *embedded.Server
	bus    *bus.Conn // the command's own
	blobs  *blob.Store
	store  *store.Store

	background sync.WaitGroup
	cancel     context.CancelCauseFunc
	ctx        context.Context
	closers    []func() error
}

// openLocal starts broker and ClickHouse, or connects to the ClickHouse that the flags name.
func openLocal(ctx context.Context, p *places, log zerolog.Logger) (_ *local, err error) {
	l := &local{log: log}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if l.server, err = embedded.Start(ctx, embedded.Config{Dir: p.broker(), Listen: p.listen, MaxStore: maxStore}, log.Level(zerolog.WarnLevel)); err != nil {
		return nil, badInput(err)
	}
	l.closers = append(l.closers, l.server.Close)
	if l.bus, err = bus.Init(ctx, l.config("spin/command"), log); err != nil {
		return nil, err
	}
	l.closers = append(l.closers, func() error { l.bus.Close(); return nil })
	if err = l.bus.TakeOver(ctx); err != nil { // the folder's lock says that nobody else is there
		return nil, err
	}
	// What a killed process left there keeps its blobs' bytes on the disk.
	if err = errors.Join(os.RemoveAll(p.scratch()), os.MkdirAll(p.scratch(), 0o755)); err != nil {
		return nil, badInput(err)
	}
	if l.blobs, err = blob.New(p.blobs()); err != nil {
		return nil, badInput(err)
	}
	if err = l.openStore(ctx, p); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *local) openStore(ctx context.Context, p *places) error {
	options := p.store
	if err := options.Check(); err != nil {
		return badInput(err)
	}
	if options.URL == "" {
		if _, err := os.Stat(p.engine.Library); err != nil {
			return badInput(fmt.Errorf("no ClickHouse: fetch the embedded engine with `make clickhouse` (looked for %s), or give --chdb-lib FILE or --clickhouse-url URL", p.engine.Library))
		}
		cfg := p.engine
		cfg.Dir = p.clickhouse()
		server, err := clickhouse.Open(cfg)
		if err != nil {
			return badInput(err)
		}
		served, stop := context.WithCancel(context.WithoutCancel(ctx)) // until the recorder is done
		done := make(chan error, 1)
		go func() { done <- server.Run(served) }()
		l.closers = append(l.closers, func() error { stop(); return <-done })
		options.URL = server.URL()
	}
	var err error
	if l.store, err = store.Open(ctx, options); err != nil {
		return badInput(err)
	}
	l.closers = append(l.closers, l.store.Close)
	return l.store.Migrate(ctx)
}

// config is a service's connection. A leader that was killed is replaced after seconds: on one
// machine nothing stays silent for long. Each start of this process is another instance of the one
// generator, so that instances that died on a prompt say little: attempts decide.
func (l *local) config(name string) bus.Config {
	c := l.server.Config(name)
	c.Limits = bus.DefaultLimits()
	c.Limits.LeaseTTL = 4 * time.Second
	c.Limits.MaxInstances = c.Limits.MaxAttempts
	return c
}

// services are those of one run, each with a connection of its own.
type services struct {
	trainer   *train.Service
	evaluator *evaluate.Service
	recorder  *record.Service
}

// start starts generator, evaluator and recorder in the background, and makes the trainer ready to
// lead.
func (l *local) start(spec run.Spec, dev compute.Device, dtype compute.DType, gen generate.Config, ev evaluate.Config, tr train.Config) (*services, error) {
	connect := func(service string) (*bus.Conn, string, error) {
		instance := service + "-" + uuid.NewString()[:8]
		conn, err := bus.Connect(l.ctx, l.config(service+"/"+instance), l.log)
		if err == nil {
			l.closers = append(l.closers, func() error { conn.Close(); return nil })
		}
		return conn, instance, err
	}
	context := spec.Data.MaxPromptTokens + spec.Sampling.MaxNewTokens
	if len(ev.Tasks) > 0 {
		context = 0 // benchmarks take what the model has
	}
	s := &services{}
	conn, _, err := connect("recorder")
	if err != nil {
		return nil, err
	}
	s.recorder = record.New(record.DefaultConfig(), conn, l.store, l.log)
	l.serve("recorder", s.recorder.Run)

	conn, instance, err := connect("generator")
	if err != nil {
		return nil, err
	}
	cache := weights.NewCache(conn, l.blobs, tr.Scratch, dev, dtype, context)
	generator, err := generate.New(gen, instance, conn, cache, l.log)
	if err != nil {
		return nil, badInput(err)
	}
	l.serve("generator", generator.Run)

	if conn, instance, err = connect("evaluator"); err != nil {
		return nil, err
	}
	ev.ScoreTokens = gen.ScoreTokens
	if s.evaluator, err = evaluate.New(ev, instance, conn, weights.ByDType(cache), l.log); err != nil {
		return nil, badInput(err)
	}
	l.serve("evaluator", s.evaluator.Run)

	if conn, instance, err = connect("trainer"); err != nil {
		return nil, err
	}
	s.trainer = train.New(tr, instance, conn, l.blobs, dev, l.log)
	return s, nil
}

// serve runs a service until the end; one that fails ends all.
func (l *local) serve(name string, run func(context.Context) error) {
	l.background.Go(func() {
		if err := run(l.ctx); err != nil && l.ctx.Err() == nil {
			l.cancel(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// close stops the services, then what they stand on, the last opened first.
func (l *local) close() error {
	l.cancel(errClosed)
	l.background.Wait()
	var errs []error
	for i := len(l.closers) - 1; i >= 0; i-- {
		errs = append(errs, l.closers[i]())
	}
	l.closers = nil
	return errors.Join(errs...)
}

var errClosed = errors.New("closed")

package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/services/evaluator/evaluate"
	"github.com/seed-8780d58e/spin/services/generator/generate"
	"github.com/seed-8780d58e/spin/services/trainer/train"
)

// runCommand plays a run in this process, over an embedded broker and an embedded ClickHouse. The
// same command goes on where it was interrupted.
type runCommand struct {
	machine
	specFlags
	places
	logging
	generator generate.Config
	evaluator evaluate.Config
	trainer   train.Config
	summary   string
	print     bool
}

func (c *runCommand) flags(f *pflag.FlagSet) {
	c.machine.flags(f)
	c.specFlags.flags(f)
	c.places.flags(f)
	f.StringVar(&c.summary, "summary", "", "file for the summary, JSON")
	f.StringVar(&c.listen, "listen", "127.0.0.1:0", "address of the broker for `spin watch`, `spin tap` and more services; they find it and its token in the folder. Empty: none")
	f.BoolVar(&c.print, "print-config", false, "print the run file that the flags amount to, and stop")
	c.logging.flags(f)
	c.generator.RegisterFlags(f)
	c.evaluator.TaskFlags(f)
	f.BoolVar(&c.trainer.AcceptEngineChange, "accept-engine-change", false, "go on with a run that another engine began")
}

func (c *runCommand) run(ctx context.Context, _ []string, s Streams) (err error) {
	began := time.Now()
	screen := newScreen(s, c.JSON())
	log, err := c.logger(screen)
	if err != nil {
		return err
	}
	spec, err := c.spec()
	if err != nil {
		return badInput(err)
	}
	if c.print {
		data, err := run.Format(spec)
		if err != nil {
			return err
		}
		_, err = s.Out.Write(data)
		return err
	}
	if err := c.generator.Validate(); err != nil {
		return badInput(err)
	}
	p, err := c.prepare(&c.machine, spec)
	if err != nil {
		return err
	}
	defer p.close()
	spec = p.spec
	if err := train.CheckDisk(spec, p.model.ModelConfig, c.places.dir); err != nil {
		return badInput(err)
	}
	plane, err := openLocal(ctx, &c.places, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.close()) }()
	r, err := findOrSubmit(ctx, plane.bus, spec)
	if err != nil {
		return err
	}
	c.trainer.Scratch = c.places.scratch()
	services, err := plane.start(spec, p.dev, p.dtype, c.generator, c.evaluator, c.trainer)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "run %s: %d training and %d held-out prompts, %d iterations, %s on %s, %d cores\n",
		r.ID, spec.Data.Prompts, spec.Data.Heldout, spec.Iterations, filepath.Base(p.model.Path), p.dev.Fingerprint()+"/"+p.dtype.String(), runtime.GOMAXPROCS(0))
	plane.serve("disk", func(ctx context.Context) error { return watchDisk(ctx, c.places.dir) })
	stop := newProgress(plane.bus, r, newDisplay(screen, log)).follow(plane.ctx)
	err = c.lead(plane, services, r.ID)
	stop()
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted; the same command goes on where it was: %w", ctx.Err())
		}
		if cause := context.Cause(plane.ctx); cause != nil {
			return cause // a service that failed; all else followed from it
		}
		return err
	}
	return c.report(plane.ctx, plane, r.ID, s, time.Since(began))
}

// lead plays the run, and waits until all of it is measured and recorded.
func (c *runCommand) lead(l *local, s *services, id string) error {
	if err := s.trainer.Lead(l.ctx, id); err != nil {
		return errors.Join(err, context.Cause(l.ctx))
	}
	r, _, err := bus.State[run.Run]{Bucket: l.bus.Control()}.Load(l.ctx, run.Key(id))
	if err != nil {
		return err
	}
	if r.Status != run.Finished {
		return fmt.Errorf("run %s is %s: %s", id, r.Status, r.Reason)
	}
	for {
		idle, err := s.evaluator.Idle(l.ctx, id)
		if err != nil {
			return err
		}
		if idle {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		}
	}
	if err := s.trainer.Retain(l.ctx, id); err != nil {
		return err
	}
	return s.recorder.Drain(l.ctx)
}

// findOrSubmit returns the run of this spec that is in the broker's folder, to go on with it or to
// show its result; else it submits one.
func findOrSubmit(ctx context.Context, conn *bus.Conn, spec run.Spec) (run.Run, error) {
	state := bus.State[run.Run]{Bucket: conn.Control()}
	entries, err := conn.Control().List(ctx, run.KeyPattern)
	if err != nil {
		return run.Run{}, err
	}
	digest := spec.Digest()
	for _, e := range entries {
		r, revision, err := state.Load(ctx, e.Key)
		if err != nil {
			return run.Run{}, err
		}
		if r.SpecDigest != digest || r.Status == run.Aborted {
			continue
		}
		if r.Status == run.Broken || r.Status == run.Halted || r.Status == run.Blocked {
			next, err := r.Apply(run.Resume, "")
			if err != nil {
				return run.Run{}, err
			}
			if _, err := state.Swap(ctx, e.Key, next, revision); err != nil {
				return run.Run{}, err
			}
			r = next
		}
		return r, nil
	}
	id, err := run.NewID()
	if err != nil {
		return run.Run{}, err
	}
	r, err := run.NewRun(id, spec, time.Now())
	if err != nil {
		return run.Run{}, badInput(err)
	}
	_, err = state.Create(ctx, run.Key(id), r)
	return r, err
}

// placeCheckpoints makes each checkpoint that the run keeps a directory that transformers loads, below the
// data folder, and returns them by phase and iteration, as in "spin-1".
func placeCheckpoints(ctx context.Context, l *local, p *places, runID string) (map[string]string, error) {
	dirs := map[string]string{}
	err := l.bus.Read(ctx, bus.ReadConfig{Stream: bus.Checkpoints, Filters: []string{event.Filter(runID, event.Checkpoints)}}, func(d bus.Delivery) error {
		m, ok := d.Message.(*event.Checkpoint)
		if !ok {
			return d.Err
		}
		name := fmt.Sprintf("%s-%d", m.GetPhase().Token(), m.GetIteration())
		dir, err := filepath.Abs(filepath.Join(p.checkpoints(), runID, name))
		if err != nil {
			return err
		}
		if _, err := os.Stat(dir); err == nil {
			dirs[name] = dir
			return nil
		}
		for _, f := range m.GetFiles() {
			if there, err := l.blobs.Has(ctx, f.GetSha256()); !there {
				return err // retention has dropped it
			}
		}
		dirs[name] = dir
		part := dir + ".part"
		if err := errors.Join(os.RemoveAll(part), os.MkdirAll(part, 0o755)); err != nil {
			return err
		}
		for _, f := range m.GetFiles() {
			if err := l.blobs.Fetch(ctx, f.GetSha256(), filepath.Join(part, f.GetName())); err != nil {
				return err
			}
		}
		return os.Rename(part, dir)
	})
	return dirs, err
}

// peakMemory is the most memory that this process has had resident, in bytes; 0: not known here.
func peakMemory() int64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		var kb int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	return 0
}

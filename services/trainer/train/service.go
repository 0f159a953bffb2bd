package train

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// Config of a trainer.
type Config struct {
	// Scratch is a folder for what is being written, on the blob store's file system if it can be.
	Scratch string
	// Runs that are led at once at most, each with its model in memory; 0: one. Training of several
	// takes turns at the device, step by step: a run that waits for its games leaves it to the others.
	Runs int
	// JournalBytes bounds each run's file of steps that the broker does not take; 0: a gibibyte.
	JournalBytes int64
	// AcceptEngineChange lets a run go on that another engine began. Its digest is then not
	// promised.
	AcceptEngineChange bool

	Metrics *telemetry.Trainer // nil: nobody reads them
}

// RegisterFlags of the trainer.
func (c *Config) RegisterFlags(f *pflag.FlagSet) {
	f.IntVar(&c.Runs, "runs", 1, "runs led at once, each with its model in memory; more wait, or go to other trainers")
	f.Int64Var(&c.JournalBytes, "journal-bytes", 1<<30, "disk for steps that the broker does not take, for each run")
	f.BoolVar(&c.AcceptEngineChange, "accept-engine-change", false, "go on with a run that another engine began")
}

// Validate refuses settings that cannot work.
func (c Config) Validate() error {
	if c.Runs < 0 || c.Runs > 1000 {
		return fmt.Errorf("--runs is %d, want 1 to 1000", c.Runs)
	}
	if c.JournalBytes < 0 {
		return fmt.Errorf("--journal-bytes is %d, want 0 or more", c.JournalBytes)
	}
	return nil
}

// Service is one trainer.
type Service struct {
	cfg      Config
	instance string // unique per process start
	bus      *bus.Conn
	blobs    *blob.Store
	dev      compute.Device
	log      zerolog.Logger

	slots chan struct{} // one for each run that is led
	seen  *sightings
}

// New makes a trainer that computes on dev and keeps checkpoints in blobs. cfg is valid.
func New(cfg Config, instance string, conn *bus.Conn, blobs *blob.Store, dev compute.Device, log zerolog.Logger) *Service {
	if cfg.JournalBytes == 0 {
		cfg.JournalBytes = 1 << 30
	}
	if cfg.Metrics == nil {
		cfg.Metrics = telemetry.NewTrainer(nil)
	}
	return &Service{cfg: cfg, instance: instance, bus: conn, blobs: blobs, dev: dev, log: log, slots: make(chan struct{}, max(1, cfg.Runs)), seen: &sightings{status: map[string]run.Status{}}}
}

// Run leads submitted and interrupted runs until ctx ends, as many at once as Config says. What another
// trainer leads is left to it, and taken over when it falls silent: any number of trainers share a
// broker's runs.
func (s *Service) Run(ctx context.Context) error {
	defer s.sweepScratch()()
	var leading sync.WaitGroup
	defer leading.Wait()
	var mu sync.Mutex
	attended := map[string]bool{}
	state := bus.State[run.Run]{Bucket: s.bus.Control()}
	s.seen.mu.Lock()
	s.seen.began = true
	s.seen.mu.Unlock()
	return state.Watch(ctx, run.KeyPattern, func(key string, r *run.Run, _ uint64) error {
		s.saw(key, r)
		if r == nil || !active(r.Status) {
			return ctx.Err()
		}
		mu.Lock()
		defer mu.Unlock()
		if attended[r.ID] {
			return nil
		}
		attended[r.ID] = true
		leading.Go(func() {
			for again := true; again && ctx.Err() == nil; {
				s.attend(ctx, r.ID)
				mu.Lock()
				again = s.isActive(ctx, r.ID) // under the lock, so that what the watch passed over is seen here
				if !again {
					delete(attended, r.ID)
				}
				mu.Unlock()
			}
		})
		return nil
	})
}

// active reports whether a trainer has to work on such a run.
func active(s run.Status) bool { return s == run.Submitted || s == run.Running }

func (s *Service) isActive(ctx context.Context, id string) bool {
	r, _, err := bus.State[run.Run]{Bucket: s.bus.Control()}.Load(ctx, run.Key(id))
	return err == nil && active(r.Status)
}

// attend waits until nobody leads the run and this trainer has a slot for it, and leads it.
func (s *Service) attend(ctx context.Context, id string) {
	silent, err := s.bus.Vacant(ctx, leaseKey(id))
	if err != nil {
		return
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-s.slots }()
	if !s.isActive(ctx, id) { // it may have waited for long
		return
	}
	// Whoever leads less comes first.
	select {
	case <-time.After(time.Duration(len(s.slots)-1) * giveWay):
	case <-ctx.Done():
		return
	}
	err = s.bus.TryLead(ctx, leaseKey(id), s.instance, silent, s.leader(id))
	if err != nil && !errors.Is(err, bus.ErrHeld) && ctx.Err() == nil {
		s.log.Error().Err(err).Str("run", id).Msg("run left")
		select {
		case <-time.After(giveWay): // whoever took it has it by then
		case <-ctx.Done():
		}
	}
}

// giveWay is how long a trainer that leads a run leaves another one to those that lead none.
const giveWay = 200 * time.Millisecond

func leaseKey(id string) string { return "trainer." + id }

// Lead plays one run to its end, or from where an earlier leader left it. It waits while another trainer
// leads it. A run that is done, or that a person paused or aborted, is left alone. ErrBlocked: a person
// must act.
func (s *Service) Lead(ctx context.Context, id string) error {
	return s.bus.Lead(ctx, leaseKey(id), s.instance, s.leader(id))
}

// leader is what the holder of a run's lease does.
func (s *Service) leader(id string) func(context.Context, uint64) error {
	return func(ctx context.Context, _ uint64) error {
		s.leading(1)
		defer s.leading(-1)
		l := &lead{Service: s, state: bus.State[run.Run]{Bucket: s.bus.Control()}, iterations: bus.State[run.Iteration]{Bucket: s.bus.Control()}}
		defer l.close()
		steered, stop := s.obey(ctx, id)
		err := l.play(steered, id)
		stop()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if still, lookup := s.standStill(ctx, id); still || lookup != nil {
			return lookup
		}
		if errors.Is(err, bus.ErrFenced) || errors.Is(err, bus.ErrConflict) {
			return err // done, or somebody else's now
		}
		return errors.Join(err, l.giveUp(context.WithoutCancel(ctx), err))
	}
}

// scratch is a folder of this trainer's own for a run. It is locked while the process lives, so that
// another one can tell what a killed one has left.
func (s *Service) scratch(runID string, name string) string {
	return filepath.Join(s.cfg.Scratch, scratchPrefix+s.instance, runID, name)
}

const scratchPrefix = "trainer-of-"

// sweepScratch removes what killed trainers have left, and locks this one's folder while the process
// lives. It is a courtesy: errors are of no consequence.
func (s *Service) sweepScratch() (unlock func()) {
	found, _ := filepath.Glob(filepath.Join(s.cfg.Scratch, scratchPrefix+"*"))
	for _, dir := range found {
		if f, err := os.Open(dir); err == nil {
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				os.RemoveAll(dir)
			}
			f.Close()
		}
	}
	own := s.scratch("", "")
	_ = os.MkdirAll(own, 0o755)
	f, err := os.Open(own)
	if err != nil {
		return func() {}
	}
	_ = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	return func() { os.RemoveAll(own); f.Close() }
}

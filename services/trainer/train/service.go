package train

import (
	"context"
	"errors"
	"path/filepath"
	"sync"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// Config of a trainer.
type Config struct {
	// Scratch is a folder for what is being written, on the blob store's file system if it can be.
	Scratch string
	// AcceptEngineChange lets a run go on that another engine began. Its digest is then not
	// promised.
	AcceptEngineChange bool
}

// RegisterFlags of the trainer.
func (c *Config) RegisterFlags(f *pflag.FlagSet) {
	f.BoolVar(&c.AcceptEngineChange, "accept-engine-change", false, "go on with a run that another engine began")
}

// Service is one trainer. It leads one run at a time.
type Service struct {
	cfg      Config
	instance string // unique per process start
	bus      *bus.Conn
	blobs    *blob.Store
	dev      compute.Device
	log      zerolog.Logger
}

// New makes a trainer that computes on dev and keeps checkpoints in blobs.
func New(cfg Config, instance string, conn *bus.Conn, blobs *blob.Store, dev compute.Device, log zerolog.Logger) *Service {
	return &Service{cfg: cfg, instance: instance, bus: conn, blobs: blobs, dev: dev, log: log}
}

// Run leads submitted and interrupted runs, one after the other, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	state := bus.State[run.Run]{Bucket: s.bus.Control()}
	runs := make(chan string)
	var watching sync.WaitGroup
	watching.Go(func() {
		err := state.Watch(ctx, run.KeyPattern, func(_ string, r *run.Run, _ uint64) error {
			if r != nil && (r.Status == run.Submitted || r.Status == run.Running) {
				select {
				case runs <- r.ID:
				case <-ctx.Done():
				}
			}
			return ctx.Err()
		})
		if err != nil && ctx.Err() == nil {
			s.log.Error().Err(err).Msg("watch for runs")
		}
	})
	defer watching.Wait()
	for {
		select {
		case id := <-runs:
			if err := s.Lead(ctx, id); err != nil && ctx.Err() == nil {
				s.log.Error().Err(err).Str("run", id).Msg("run failed")
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Lead plays one run to its end, or from where an earlier leader left it. A run that is done, or
// that a person paused or aborted, is left alone. ErrBlocked: a person must act.
func (s *Service) Lead(ctx context.Context, id string) error {
	return s.bus.Lead(ctx, "trainer."+id, s.instance, func(ctx context.Context, _ uint64) error {
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
	})
}

// scratch is a folder of this run's own.
func (s *Service) scratch(runID string, name string) string {
	return filepath.Join(s.cfg.Scratch, runID, name)
}

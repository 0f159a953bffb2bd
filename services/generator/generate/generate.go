// Package generate is the generator: it plays the opponent. Tasks in, games out.
//
// For each prompt of a task it samples the draws under θ_t, scores them, the human answer and the
// kept draws of t−1 by the packed pass that the trainer uses, and publishes one Game. Any number of
// generators serve any number of runs; joining is starting one, leaving is killing it.
//
// Read Service.Run, then player.loop (one engine that all tasks in hand share), then play.go.
package generate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/weights"
)

// Config is how much a generator takes on.
type Config struct {
	Slots       int // tasks in hand at once
	Sequences   int // draws under way at once
	PageTokens  int // positions a cache page holds
	CacheTokens int // positions the whole cache holds
	ScoreTokens int // of a packed scoring batch
}

// RegisterFlags of the generator.
func (c *Config) RegisterFlags(f *pflag.FlagSet) {
	f.IntVar(&c.Slots, "slots", 16, "tasks in hand at once")
	f.IntVar(&c.Sequences, "sequences", 32, "answers sampled at once")
	f.IntVar(&c.PageTokens, "page-tokens", 32, "positions that a page of the key/value cache holds")
	f.IntVar(&c.CacheTokens, "cache-tokens", 8192, "positions that the key/value cache holds")
	f.IntVar(&c.ScoreTokens, "score-tokens", 1024, "tokens of a packed scoring batch")
}

// Validate refuses settings that cannot work.
func (c Config) Validate() error {
	for name, v := range map[string]int{"slots": c.Slots, "sequences": c.Sequences, "page-tokens": c.PageTokens, "cache-tokens": c.CacheTokens, "score-tokens": c.ScoreTokens} {
		if v < 1 {
			return fmt.Errorf("--%s is %d, want 1 or more", name, v)
		}
	}
	return nil
}

// Service is one generator.
type Service struct {
	cfg      Config
	instance string // unique per process start
	bus      *bus.Conn
	weights  *weights.Cache
	log      zerolog.Logger

	mu      sync.Mutex
	player  *player  // of the weights in use; nil before the first task
	loading *loading // other weights on their way; nil: none
	refused string   // the last run that another engine must play
}

// New makes a generator that plays with what weights loads.
func New(cfg Config, instance string, conn *bus.Conn, w *weights.Cache, log zerolog.Logger) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Service{cfg: cfg, instance: instance, bus: conn, weights: w, log: log}, nil
}

// Run serves tasks until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	work := func(task context.Context, lease *bus.Lease) error { return s.handle(ctx, task, lease) }
	err := s.bus.Work(ctx, bus.WorkConfig{Instance: s.instance, Slots: s.cfg.Slots, Service: "generator"}, work)
	s.mu.Lock()
	last := s.loading // no task is left that could start another
	s.mu.Unlock()
	if last != nil {
		<-last.done
	}
	if s.player != nil {
		s.player.stop()
		s.player = nil
	}
	return err
}

// handle plays one task. service is the generator's own life, ctx the task's.
func (s *Service) handle(service, ctx context.Context, lease *bus.Lease) error {
	fault.Point(fault.GeneratorTaken)
	chunk := lease.Chunk
	if engine := s.weights.Fingerprint(); len(chunk.GetEngines()) > 0 && !slices.Contains(chunk.GetEngines(), engine) {
		s.warnOnce(chunk.GetRunId(), engine, chunk.GetEngines())
		return fmt.Errorf("engine %s is not one of the run's %v: %w", engine, chunk.GetEngines(), bus.ErrRelease)
	}
	p, err := s.playerFor(service, ctx, lease)
	if err != nil {
		return err
	}
	defer p.leave()
	fault.Point(fault.GeneratorLoaded)
	games, err := p.play(ctx, lease)
	if err != nil {
		return err
	}
	fault.Point(fault.GeneratorPlayed)
	for _, g := range games {
		g.Circumstance.Instance, g.Circumstance.Attempt = s.instance, lease.Attempt
		ack, err := s.bus.PublishOnce(ctx, g)
		if errors.Is(err, bus.ErrFull) { // no fault of the prompt's: it must not become a dead letter
			s.log.Warn().Err(err).Str("run", g.RunId).Msg("no room for a game; the task goes back")
			return fmt.Errorf("%w: %w", err, bus.ErrRelease)
		}
		if err != nil {
			return err
		}
		if ack.Existed && ack.Differs {
			// Equal bits make a second playing harmless; this says that they are not equal.
			s.log.Warn().Str("run", g.RunId).Uint32("iteration", g.Iteration).Str("prompt", g.PromptId).Msg("another generator played this game differently; the first one counts")
		}
		fault.Point(fault.GeneratorGame)
		lease.Progress()
	}
	fault.Point(fault.GeneratorPlayout)
	return nil
}

// warnOnce says that this generator cannot serve a run: where no other one can, the run waits.
func (s *Service) warnOnce(runID, engine string, wanted []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused == runID {
		return
	}
	s.refused = runID
	s.log.Warn().Str("run", runID).Str("engine", engine).Strs("wanted", wanted).Msg("this engine may not play the run's games: another instruction set or --dtype than its trainer's")
}

// loading is weights on their way to the device.
type loading struct {
	done chan struct{}
	err  error
}

// playerFor returns the player of the task's weights. Where others are loaded it changes them when
// no task with those is in hand. Loading is not any one task's: it takes longer than a lease, and
// all that wait for it renew theirs. The caller leaves the player.
func (s *Service) playerFor(service, ctx context.Context, lease *bus.Lease) (*player, error) {
	chunk := lease.Chunk
	for {
		s.mu.Lock()
		if p := s.player; p != nil && p.digest == chunk.GetWeightsSha256() && p.err() == nil {
			p.enter()
			s.mu.Unlock()
			return p, nil
		}
		if s.loading == nil {
			if s.player != nil && s.player.busy() {
				s.mu.Unlock()
				return nil, fmt.Errorf("tasks with other weights are in hand: %w", bus.ErrRelease)
			}
			s.loading = &loading{done: make(chan struct{})}
			go s.load(service, s.loading, chunk)
		}
		wait := s.loading
		s.mu.Unlock()
		if err := wait.wait(ctx, lease); err != nil {
			return nil, err
		}
	}
}

// wait blocks until the weights are there, or are known not to come.
func (l *loading) wait(ctx context.Context, lease *bus.Lease) error {
	alive := time.NewTicker(time.Second)
	defer alive.Stop()
	for {
		select {
		case <-l.done:
			return l.err
		case <-alive.C:
			lease.Progress()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// load replaces the player by one with the chunk's weights.
func (s *Service) load(ctx context.Context, l *loading, chunk *event.Chunk) {
	s.mu.Lock()
	old := s.player
	s.player = nil
	s.mu.Unlock()
	if old != nil {
		old.stop()
	}
	loaded, err := s.weights.Get(ctx, chunk.GetRunId(), chunk.GetWeightsSha256())
	var next *player
	switch {
	case errors.Is(err, weights.ErrNotPublished):
		l.err = fmt.Errorf("%w: %w", err, bus.ErrRelease)
	case err != nil:
		l.err = err
	case loaded.Template.ID() != chunk.GetTemplateId():
		l.err = fmt.Errorf("the checkpoint's chat template is %s, the task wants %s", loaded.Template.ID(), chunk.GetTemplateId())
		loaded.Release()
	default:
		next = s.newPlayer(loaded, int(chunk.GetDraws()))
	}
	s.mu.Lock()
	s.player, s.loading = next, nil
	s.mu.Unlock()
	close(l.done)
}

// decoderConfig sizes the cache for the model, and for the draws of a prompt, which run at once.
func (c Config) decoderConfig(m *model.Model, draws int) model.DecoderConfig {
	pages := (max(c.CacheTokens, m.Context) + c.PageTokens - 1) / c.PageTokens
	sequences := max(c.Sequences, draws)
	return model.DecoderConfig{Rows: max(256, sequences), Sequences: sequences, Pages: pages, PageTokens: c.PageTokens}
}

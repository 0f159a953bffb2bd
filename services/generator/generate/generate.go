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
	"github.com/seed-8780d58e/spin/pkg/telemetry"
	"github.com/seed-8780d58e/spin/pkg/weights"
)

// Config is how much a generator takes on.
type Config struct {
	Slots       int // tasks in hand at once
	Sequences   int // draws under way at once
	PageTokens  int // positions a cache page holds
	CacheTokens int // positions the whole cache holds
	ScoreTokens int // of a packed scoring batch

	Metrics *telemetry.Generator // nil: nobody reads them
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
	player  *player       // of the weights in use; nil before the first task
	line    []*party      // tasks that wait for other weights, in the order in which they get the device
	loading bool          // the first party's weights
	moved   chan struct{} // closed and replaced when any of it changes
	loads   sync.WaitGroup
	refused string // the last run that another engine must play
}

// New makes a generator that plays with what weights loads.
func New(cfg Config, instance string, conn *bus.Conn, w *weights.Cache, log zerolog.Logger) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Metrics == nil {
		cfg.Metrics = telemetry.NewGenerator(nil)
	}
	return &Service{cfg: cfg, instance: instance, bus: conn, weights: w, log: log, moved: make(chan struct{})}, nil
}

// Run serves tasks until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var member sync.WaitGroup
	member.Go(func() { s.join(ctx) })
	defer member.Wait()
	work := func(task context.Context, lease *bus.Lease) error { return s.observe(ctx, task, lease) }
	err := s.bus.Work(ctx, bus.WorkConfig{Instance: s.instance, Slots: s.cfg.Slots, Service: "generator"}, work)
	s.loads.Wait() // no task is left that could start another
	if s.player != nil {
		s.player.stop()
		s.player = nil
	}
	return err
}

// join says that this generator is there, so that a trainer knows whether anybody could help a slow one.
// What it plays does not depend on it.
func (s *Service) join(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.bus.Join(ctx, "generator", s.instance, func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		if ctx.Err() != nil {
			return
		}
		s.log.Warn().Err(err).Msg("join the fleet")
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// handle plays one task. service is the generator's own life, ctx the task's.
func (s *Service) handle(service, ctx context.Context, lease *bus.Lease) error {
	fault.Point(fault.GeneratorTaken)
	for _, p := range lease.Chunk.GetPrompts() {
		fault.PointOf(fault.GeneratorPrompt, p.GetPromptId())
	}
	chunk := lease.Chunk
	if engine := s.weights.Fingerprint(); len(chunk.GetEngines()) > 0 && !slices.Contains(chunk.GetEngines(), engine) {
		s.warnOnce(chunk.GetRunId(), engine, chunk.GetEngines())
		return fmt.Errorf("engine %s is not one of the run's %v: %w", engine, chunk.GetEngines(), bus.ErrRelease)
	}
	p, err := s.playerFor(service, ctx, lease)
	if err != nil {
		return err
	}
	defer s.leave(p)
	fault.Point(fault.GeneratorLoaded)
	games, err := p.play(ctx, lease)
	if err != nil {
		return err
	}
	fault.Point(fault.GeneratorPlayed)
	unplayable := &bus.Unplayable{}
	published := make([]func() (bus.Ack, error), len(games))
	for i, g := range games {
		g.Circumstance.Instance, g.Circumstance.Attempt = s.instance, lease.Attempt
		published[i] = s.bus.StartPublishOnce(ctx, g)
		fault.Point(fault.GeneratorGame)
	}
	for i, g := range games {
		ack, err := published[i]()
		if errors.Is(err, bus.ErrFull) { // no fault of the prompt's: it must not become a dead letter
			s.log.Warn().Err(err).Str("run", g.RunId).Uint32("iteration", g.Iteration).Uint32("chunk", lease.Chunk.GetChunk()).Msg("no room for a game; the task goes back")
			return fmt.Errorf("%w: %w", err, bus.ErrRelease)
		}
		if errors.Is(err, event.ErrInvalid) { // too large for a message: so it would be the next time
			unplayable.Prompts, unplayable.Reason = append(unplayable.Prompts, g.GetPromptId()), err.Error()
			continue
		}
		if err != nil {
			return err
		}
		if ack.Existed && ack.Differs {
			// Equal bits make a second playing harmless; this says that they are not equal.
			s.log.Warn().Str("run", g.RunId).Str("trace_id", telemetry.TraceID(ctx)).Uint32("iteration", g.Iteration).Str("prompt", g.PromptId).Msg("another generator played this game differently; the first one counts")
		}
		s.cfg.Metrics.Games.Inc()
		lease.Progress()
	}
	fault.Point(fault.GeneratorPlayout)
	if len(unplayable.Prompts) > 0 {
		return unplayable
	}
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

// decoderConfig sizes the cache for the model, and for the draws of a prompt, which run at once.
func (c Config) decoderConfig(m *model.Model, draws int) model.DecoderConfig {
	pages := (max(c.CacheTokens, m.Context) + c.PageTokens - 1) / c.PageTokens
	sequences := max(c.Sequences, draws)
	return model.DecoderConfig{Rows: max(256, sequences), Sequences: sequences, Pages: pages, PageTokens: c.PageTokens}
}

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

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
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
	f.IntVar(&c.CacheTokens, "cache-tokens", 16384, "positions that the key/value cache holds")
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

	mu     sync.Mutex
	player *player // of the weights in use; nil before the first task
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
	err := s.bus.Work(ctx, bus.WorkConfig{Instance: s.instance, Slots: s.cfg.Slots, Service: "generator"}, s.handle)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.player != nil {
		s.player.stop()
	}
	return err
}

// handle plays one task.
func (s *Service) handle(ctx context.Context, lease *bus.Lease) error {
	chunk := lease.Chunk
	if engine := s.weights.Fingerprint(); len(chunk.GetEngines()) > 0 && !slices.Contains(chunk.GetEngines(), engine) {
		return fmt.Errorf("engine %s is not one of the run's %v: %w", engine, chunk.GetEngines(), bus.ErrRelease)
	}
	p, err := s.playerFor(ctx, chunk)
	if err != nil {
		return err
	}
	defer p.leave()
	games, err := p.play(ctx, lease)
	if err != nil {
		return err
	}
	for _, g := range games {
		g.Circumstance.Instance, g.Circumstance.Attempt = s.instance, lease.Attempt
		ack, err := s.bus.PublishOnce(ctx, g)
		if err != nil {
			return err
		}
		if ack.Existed && ack.Differs {
			// Equal bits make a second playing harmless; this says that they are not equal.
			s.log.Warn().Str("run", g.RunId).Uint32("iteration", g.Iteration).Str("prompt", g.PromptId).Msg("another generator played this game differently; the first one counts")
		}
		lease.Progress()
	}
	return nil
}

// playerFor returns the player of the task's weights, loading them when no task with others is in
// hand. The caller leaves it.
func (s *Service) playerFor(ctx context.Context, chunk *event.Chunk) (*player, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.player != nil && s.player.digest == chunk.GetWeightsSha256() && s.player.err() == nil {
		s.player.enter()
		return s.player, nil
	}
	if s.player != nil {
		if s.player.busy() {
			return nil, fmt.Errorf("tasks with other weights are in hand: %w", bus.ErrRelease)
		}
		s.player.stop()
		s.player = nil
	}
	loaded, err := s.weights.Get(ctx, chunk.GetRunId(), chunk.GetWeightsSha256())
	if errors.Is(err, weights.ErrNotPublished) {
		return nil, fmt.Errorf("%w: %w", err, bus.ErrRelease)
	}
	if err != nil {
		return nil, err
	}
	if id := loaded.Template.ID(); id != chunk.GetTemplateId() {
		loaded.Release()
		return nil, fmt.Errorf("the checkpoint's chat template is %s, the task wants %s", id, chunk.GetTemplateId())
	}
	s.player = s.newPlayer(loaded)
	s.player.enter()
	return s.player, nil
}

// decoderConfig sizes the cache for the model.
func (c Config) decoderConfig(m *model.Model) model.DecoderConfig {
	pages := (max(c.CacheTokens, m.Context) + c.PageTokens - 1) / c.PageTokens
	return model.DecoderConfig{Rows: max(256, c.Sequences), Sequences: c.Sequences, Pages: pages, PageTokens: c.PageTokens}
}

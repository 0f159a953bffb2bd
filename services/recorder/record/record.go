// Package record is the recorder, the only writer to ClickHouse: every stream goes into its tables,
// each message exactly once.
//
// The one subtle thing is that ClickHouse recognises a repeated insert by its token and nothing
// else, so a batch must be the same after a crash. Hence a plan, written ahead to the control
// bucket: the range of sequences that is about to be inserted. A recorder that starts first repeats
// the plan it finds, with the same token. The plan's compare-and-set also fences off a second
// recorder. Tokens begin with an id that is new for each broker, so that several brokers can be
// recorded in one ClickHouse.
//
// A ClickHouse that is away, or has no room, is waited for: until then the streams keep everything, as far
// as their bounds allow, and no service stops. What is recorded and needed by nobody the recorder takes
// out of them: trim.go says what that is.
package record

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// Config says how large batches get.
type Config struct {
	MaxRows  int           // a batch is inserted when it has this many rows,
	MaxBytes int           // or this many bytes of messages,
	MaxWait  time.Duration // or when its first message has waited this long

	LookEvery time.Duration // between two looks at how far behind it is and at what can be trimmed; 0: never

	Metrics *telemetry.Recorder // nil: nobody reads them
}

// RegisterFlags of the recorder; what c holds is the defaults.
func (c *Config) RegisterFlags(f *pflag.FlagSet) {
	f.IntVar(&c.MaxRows, "max-rows", c.MaxRows, "rows of a batch")
	f.IntVar(&c.MaxBytes, "max-bytes", c.MaxBytes, "bytes of messages of a batch")
	f.DurationVar(&c.LookEvery, "look-every", c.LookEvery, "time between two looks at the lag and at what the streams need no more; 0: never")
	f.DurationVar(&c.MaxWait, "max-wait", c.MaxWait, "how long the first message of a batch waits for others")
}

// Validate refuses settings that cannot work. One message makes up to some ten thousand rows, and a
// batch must be one block of ClickHouse.
func (c Config) Validate() error {
	switch {
	case c.MaxRows < 1 || c.MaxRows > store.MaxRows/2:
		return fmt.Errorf("--max-rows is %d, want 1 to %d", c.MaxRows, store.MaxRows/2)
	case c.MaxBytes < 1:
		return fmt.Errorf("--max-bytes is %d, want 1 or more", c.MaxBytes)
	case c.LookEvery < 0:
		return fmt.Errorf("--look-every is %v, want 0 (never) or more", c.LookEvery)
	case c.MaxWait < 0:
		return fmt.Errorf("--max-wait is %v, want 0 or more", c.MaxWait)
	}
	return nil
}

// DefaultConfig is good for one machine and for many.
func DefaultConfig() Config {
	return Config{MaxRows: 10_000, MaxBytes: 16 << 20, MaxWait: 500 * time.Millisecond, LookEvery: 5 * time.Second}
}

// Service is one recorder.
type Service struct {
	cfg   Config
	bus   *bus.Conn
	store *store.Store
	log   zerolog.Logger

	mu       sync.Mutex
	recorded map[string]uint64    // last sequence of each stream that is in ClickHouse; of control, last revision
	moved    chan struct{}        // closed and replaced when recorded changes
	missed   map[string]uint64    // sequences of a stream that went unrecorded, as far as people were told
	caughtUp map[string]time.Time // when nothing of a stream was left to record

	inserting sync.Mutex      // of games, and of taking refused ones away
	refused   map[uint64]bool // sequences of games that are no part of their run
	repeated  chan struct{}   // closed when no half-done batch of games is left
}

// New makes a recorder.
func New(cfg Config, conn *bus.Conn, s *store.Store, log zerolog.Logger) *Service {
	if cfg.Metrics == nil {
		cfg.Metrics = telemetry.NewRecorder(nil)
	}
	return &Service{cfg: cfg, bus: conn, store: s, log: log, recorded: map[string]uint64{}, missed: map[string]uint64{}, caughtUp: map[string]time.Time{}, moved: make(chan struct{}),
		refused: map[uint64]bool{}, repeated: make(chan struct{})}
}

// control stands for the control bucket among the streams.
const control = "control"

// streams are what is recorded. Tasks are not: what comes of them is.
func streams() []string {
	return []string{bus.Games, bus.Steps, bus.Checkpoints, bus.Scores, bus.Events}
}

// Run records until ctx ends. A ClickHouse that is away is waited for.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var working sync.WaitGroup
	start := func(what string, f func(context.Context) error) {
		working.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("record %s: %w", what, err))
			}
		})
	}
	for _, name := range streams() {
		start(name, func(ctx context.Context) error { return s.recordStream(ctx, name) })
	}
	start(control, s.recordControl)
	start("refusals", s.recordRefusals)
	start("what is behind", s.keepHouse)
	working.Wait()
	return context.Cause(ctx)
}

// Drain waits until everything that the streams and the control bucket hold now is in ClickHouse, and
// what was refused is not.
func (s *Service) Drain(ctx context.Context) error {
	for _, name := range append(streams(), bus.Dead) {
		info, err := s.bus.StreamInfo(ctx, name)
		if err != nil {
			return err
		}
		if info.Messages == 0 { // what there was is recorded, or gone
			continue
		}
		if err := s.waitFor(ctx, name, info.Last); err != nil {
			return err
		}
	}
	for _, pattern := range []string{run.KeyPattern, run.IterationPattern("")} {
		entries, err := s.bus.Control().List(ctx, pattern)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := s.waitFor(ctx, control, e.Revision); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Service) waitFor(ctx context.Context, stream string, seq uint64) error {
	for {
		s.mu.Lock()
		done, moved := s.recorded[stream] >= seq, s.moved
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Service) advance(stream string, seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recorded[stream] = max(s.recorded[stream], seq)
	close(s.moved)
	s.moved = make(chan struct{})
}

// insert writes a batch, for as long as it takes.
func (s *Service) insert(ctx context.Context, token string, b *store.Batch) error {
	wait := 100 * time.Millisecond
	for {
		began := time.Now()
		err := s.store.Insert(ctx, token, b)
		s.cfg.Metrics.InsertSeconds.Observe(time.Since(began).Seconds())
		if err == nil {
			b.Rows(func(table string, rows int) { s.cfg.Metrics.Rows.WithLabelValues(table).Add(float64(rows)) })
		}
		if err == nil || errors.Is(err, store.ErrToken) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.cfg.Metrics.Retries.Inc()
		s.log.Warn().Err(err).Str("token", token).Msg("ClickHouse did not take a batch; trying again")
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		wait = min(2*wait, 10*time.Second)
	}
}

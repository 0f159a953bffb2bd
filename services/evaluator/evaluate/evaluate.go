// Package evaluate is the evaluator: checkpoints in, scores out. Every score names the weights, the
// template, the engine and the version of the measure, and carries its standard error.
//
// Measured so far is the self-play itself, on held-out games: heldout.go says which figures need the
// model, answers.go which only need what was said.
package evaluate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/weights"
)

// Tasks and the version of how they are measured: it changes whenever a figure could.
const (
	taskHeldout = "heldout"
	taskAnswers = "answers"
	version     = "1"
)

// errFinal: the run ended before the games that a measure needs were played.
var errFinal = errors.New("the run is over")

// Config of an evaluator.
type Config struct {
	ScoreTokens int // of a packed batch; a game that is larger is a batch of its own
}

// RegisterFlags of the evaluator.
func (c *Config) RegisterFlags(f *pflag.FlagSet) {
	f.IntVar(&c.ScoreTokens, "score-tokens", 1024, "tokens of a packed scoring batch")
}

// Validate refuses settings that cannot work.
func (c Config) Validate() error {
	if c.ScoreTokens < 1 {
		return fmt.Errorf("--score-tokens is %d, want 1 or more", c.ScoreTokens)
	}
	return nil
}

// Service is one evaluator.
type Service struct {
	cfg      Config
	instance string // unique per process start
	bus      *bus.Conn
	weights  *weights.Cache
	log      zerolog.Logger

	mu     sync.Mutex
	failed map[string]bool // subjects of checkpoints that could not be measured; the next process tries again
}

// New makes an evaluator that measures with what w loads. cfg is valid.
func New(cfg Config, instance string, conn *bus.Conn, w *weights.Cache, log zerolog.Logger) *Service {
	return &Service{cfg: cfg, instance: instance, bus: conn, weights: w, log: log, failed: map[string]bool{}}
}

// Run measures every checkpoint, in the order of their announcement, until ctx ends. What has its
// scores already is passed over.
func (s *Service) Run(ctx context.Context) error {
	return s.bus.Read(ctx, bus.ReadConfig{Stream: bus.Checkpoints, Follow: true}, func(d bus.Delivery) error {
		m, ok := d.Message.(*event.Checkpoint)
		if !ok {
			return nil
		}
		if err := s.measure(ctx, m); err != nil && !errors.Is(err, errFinal) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			s.log.Error().Err(err).Str("run", m.GetRunId()).Str("weights", m.GetWeightsSha256()[:12]).Msg("checkpoint not measured")
			s.giveUp(m)
		}
		return nil
	})
}

// Idle reports whether every checkpoint of the run has been measured, but for those that this process
// could not measure.
func (s *Service) Idle(ctx context.Context, runID string) (bool, error) {
	idle := true
	err := s.bus.Read(ctx, bus.ReadConfig{Stream: bus.Checkpoints, Filters: []string{event.Filter(runID, event.Checkpoints)}}, func(d bus.Delivery) error {
		if m, ok := d.Message.(*event.Checkpoint); ok && idle && !s.gaveUp(m) {
			done, err := s.measured(ctx, m)
			idle = done
			return err
		}
		return nil
	})
	return idle, err
}

func (s *Service) giveUp(m *event.Checkpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed[m.Subject()] = true
}

func (s *Service) gaveUp(m *event.Checkpoint) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed[m.Subject()]
}

// measured reports whether the checkpoint's last score is there: the others came before it. A run
// that plays no held-out game has nothing to measure.
func (s *Service) measured(ctx context.Context, m *event.Checkpoint) (bool, error) {
	r, err := s.run(ctx, m.GetRunId())
	if err != nil || r.Spec.Data.Heldout == 0 || r.Spec.Iterations == 0 {
		return err == nil, err
	}
	last := score0(m, taskHeldout, "nll")
	if answering(r, m) {
		last = score0(m, taskAnswers, "near_copy")
	}
	_, _, err = s.bus.Last(ctx, last)
	if errors.Is(err, bus.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// answering reports whether the run plays these weights as an opponent, so that there are answers of
// theirs.
func answering(r run.Run, m *event.Checkpoint) bool {
	switch m.GetPhase() {
	case event.Phase_PHASE_BASE:
		return r.Spec.Iterations > 0 && r.Spec.SFT.Epochs == 0
	case event.Phase_PHASE_SFT, event.Phase_PHASE_SPIN:
		return int(m.GetIteration()) < r.Spec.Iterations
	}
	return false
}

func (s *Service) run(ctx context.Context, id string) (run.Run, error) {
	r, _, err := bus.State[run.Run]{Bucket: s.bus.Control()}.Load(ctx, run.Key(id))
	return r, err
}

// measure scores one checkpoint on the held-out games that it is to be judged by: θ_{t+1} and the
// control by those that their opponent played, base and θ_0 by those of iteration 0.
func (s *Service) measure(ctx context.Context, m *event.Checkpoint) error {
	if done, err := s.measured(ctx, m); done || err != nil {
		return err
	}
	r, err := s.run(ctx, m.GetRunId())
	if err != nil {
		return err
	}
	fault.Point(fault.EvaluatorTaken)
	played := uint32(0)
	if m.GetPhase() == event.Phase_PHASE_SPIN {
		played = m.GetIteration() - 1
	}
	games, err := s.games(ctx, r, played)
	if err != nil {
		return err
	}
	began := time.Now()
	opponent := games[0].GetWeightsSha256()
	figures, err := s.score(ctx, m, games, r.Spec.SPIN.Beta.At(int(played)))
	if err != nil {
		return err
	}
	if m.GetWeightsSha256() == opponent || m.GetPhase() == event.Phase_PHASE_BASE || m.GetPhase() == event.Phase_PHASE_CONTROL {
		// these weights are not the opponent's successor: their margins mean something only for the control
		figures = keep(figures, m.GetPhase() == event.Phase_PHASE_CONTROL)
	}
	if err := s.publish(ctx, m, taskHeldout, figures, began); err != nil || !answering(r, m) {
		return err
	}
	return s.measureAnswers(ctx, r, m, find(figures, "nll"))
}

// measureAnswers measures what these weights answer as an opponent, and compares with the human
// answers' nll under them.
func (s *Service) measureAnswers(ctx context.Context, r run.Run, m *event.Checkpoint, nll figure) error {
	began := time.Now()
	games, err := s.games(ctx, r, m.GetIteration())
	if err != nil {
		return err
	}
	figures := answers(games)
	if err := s.checkEntropy(ctx, m, figures, nll); err != nil {
		return err
	}
	return s.publish(ctx, m, taskAnswers, figures, began)
}

// keep leaves the negative log-likelihood, and with all everything.
func keep(figures []figure, all bool) []figure {
	if all {
		return figures
	}
	return figures[len(figures)-1:]
}

// games waits for the held-out games of an iteration and returns those that are no holes, in the
// order of their index.
func (s *Service) games(ctx context.Context, r run.Run, iteration uint32) ([]*event.Game, error) {
	if r.Spec.Data.Heldout == 0 {
		return nil, errFinal
	}
	byIndex := map[uint32]*event.Game{}
	enough := errors.New("enough")
	take := func(d bus.Delivery) error {
		if g, ok := d.Message.(*event.Game); ok && g.GetSplit() == event.Split_SPLIT_HELDOUT {
			byIndex[g.GetIndex()] = g
		}
		if len(byIndex) == r.Spec.Data.Heldout {
			return enough
		}
		return nil
	}
	read := bus.ReadConfig{Stream: bus.Games, Filters: []string{event.IterationFilter(r.ID, event.Games, iteration)}}
	err := s.bus.Read(ctx, read, take)
	if err == nil { // not all are there: wait, for as long as the run goes on
		waiting, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		go s.cancelAtEnd(waiting, cancel, r.ID)
		read.Follow = true
		err = s.bus.Read(waiting, read, take)
	}
	if !errors.Is(err, enough) {
		return nil, err
	}
	var games []*event.Game
	for _, i := range slices.Sorted(maps.Keys(byIndex)) {
		if byIndex[i].GetHole() == nil {
			games = append(games, byIndex[i])
		}
	}
	if len(games) == 0 {
		return nil, fmt.Errorf("iteration %d: no held-out game was played", iteration)
	}
	return games, nil
}

// cancelAtEnd cancels when the run goes no further: it will play no more games.
func (s *Service) cancelAtEnd(ctx context.Context, cancel context.CancelCauseFunc, runID string) {
	err := bus.State[run.Run]{Bucket: s.bus.Control()}.Watch(ctx, run.Key(runID), func(_ string, now *run.Run, _ uint64) error {
		if now == nil || now.Status.Final() || now.Status == run.Broken {
			cancel(errFinal)
		}
		return ctx.Err()
	})
	if err != nil && ctx.Err() == nil {
		cancel(err)
	}
}

// score runs the games through the weights; through no model at all where the games say it all.
func (s *Service) score(ctx context.Context, m *event.Checkpoint, games []*event.Game, beta float64) ([]figure, error) {
	if games[0].GetWeightsSha256() == m.GetWeightsSha256() {
		out := make([]scored, len(games))
		for i, g := range games {
			out[i] = scored{game: g, real: g.GetReal().GetTokenLogps()}
		}
		return heldout(out, beta), nil
	}
	w, err := s.weights.Get(ctx, m.GetRunId(), m.GetWeightsSha256())
	if err != nil {
		return nil, err
	}
	defer w.Release()
	longest := 0
	for _, g := range games {
		n := len(g.GetPromptIds()) + len(g.GetReal().GetTokenIds())
		for _, d := range g.GetDraws() {
			n += len(d.GetResponse().GetTokenIds())
		}
		longest = max(longest, n)
	}
	pass := w.Model.NewPass(model.PassConfig{Tokens: max(s.cfg.ScoreTokens, longest)})
	defer pass.Free()
	out, err := scoreGames(pass, games)
	if err != nil {
		return nil, err
	}
	return heldout(out, beta), nil
}

// publish writes the figures. The first write of a score wins.
func (s *Service) publish(ctx context.Context, m *event.Checkpoint, task string, figures []figure, began time.Time) error {
	fault.Point(fault.EvaluatorScored)
	for _, f := range figures {
		score := score0(m, task, f.metric)
		score.Value, score.Stderr, score.N = f.value, f.stderr, uint64(f.n)
		score.TaskVersion, score.HarnessVersion, score.TemplateId = version, "spin-"+version, m.GetTemplateId()
		score.Fingerprint = s.weights.Fingerprint()
		score.Circumstance = &event.Circumstance{Instance: s.instance, Attempt: 1, CreatedAt: timestamppb.Now(), Seconds: time.Since(began).Seconds()}
		if _, err := s.bus.PublishOnce(ctx, score); err != nil {
			return err
		}
		fault.Point(fault.EvaluatorScore)
	}
	return nil
}

// score0 is a score's identity.
func score0(m *event.Checkpoint, task, metric string) *event.Score {
	return &event.Score{
		RunId: m.GetRunId(), Iteration: m.GetIteration(), Phase: m.GetPhase(), Task: task, Metric: metric,
		Split: event.Split_SPLIT_HELDOUT, WeightsSha256: m.GetWeightsSha256(),
	}
}

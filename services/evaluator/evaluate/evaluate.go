// Package evaluate is the evaluator: checkpoints in, scores out. Every score names the weights, the
// template, the engine and the version of the measure, and carries its standard error.
//
// Measured are the self-play itself, on held-out games (heldout.go says which figures need the model,
// answers.go which only need what was said), and benchmarks that the configuration names (benchmarks.go).
package evaluate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/harness"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
	"github.com/seed-8780d58e/spin/pkg/weights"
)

// Tasks and the version of how they are measured: it changes whenever a figure could.
const (
	taskHeldout = "heldout"
	taskAnswers = "answers"
	version     = "2"
)

// errFinal: the run ended before the games that a measure needs were played.
var errFinal = errors.New("the run is over")

// Config of an evaluator.
type Config struct {
	ScoreTokens int      // of a packed batch; a game that is larger is a batch of its own
	Tasks       []string // benchmarks, by harness's names
	TaskData    string   // folder with their data
	TaskLimit   int      // questions of each at most; 0: all

	Metrics *telemetry.Evaluator // nil: nobody reads them
}

// RegisterFlags of the evaluator.
func (c *Config) RegisterFlags(f *pflag.FlagSet) {
	f.IntVar(&c.ScoreTokens, "score-tokens", 1024, "tokens of a packed scoring batch")
	c.TaskFlags(f)
}

// TaskFlags are those of the benchmarks.
func (c *Config) TaskFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&c.Tasks, "tasks", nil, "benchmarks that every checkpoint is asked: "+strings.Join(harness.Names(), ", ")+", or YAML files in lm-eval's words")
	f.StringVar(&c.TaskData, "task-data", "", "folder with their data in the shapes that the hub has")
	f.IntVar(&c.TaskLimit, "task-limit", 0, "questions of each benchmark at most (default: all)")
}

// Validate refuses settings that cannot work.
func (c Config) Validate() error {
	if c.ScoreTokens < 1 {
		return fmt.Errorf("--score-tokens is %d, want 1 or more", c.ScoreTokens)
	}
	if c.TaskLimit < 0 {
		return fmt.Errorf("--task-limit is %d, want 0 (all) or more", c.TaskLimit)
	}
	return nil
}

// Service is one evaluator.
type Service struct {
	cfg      Config
	instance string // unique per process start
	bus      *bus.Conn
	weights  map[string]*weights.Cache // by dtype, as manifests name it
	tasks    []bench
	log      zerolog.Logger
	scoring  chan struct{} // held by who runs a model

	mu     sync.Mutex
	failed map[string]bool // subjects of checkpoints that could not be measured; the next process tries again
}

// New makes an evaluator that measures with what the caches load: one for each dtype, by its name, that
// runs may have. cfg is valid. An error is the benchmarks': one that isn't there, or has no data.
func New(cfg Config, instance string, conn *bus.Conn, caches map[string]*weights.Cache, log zerolog.Logger) (*Service, error) {
	tasks, err := cfg.loadBenchmarks()
	if err != nil {
		return nil, err
	}
	if cfg.Metrics == nil {
		cfg.Metrics = telemetry.NewEvaluator(nil)
	}
	return &Service{cfg: cfg, instance: instance, bus: conn, weights: caches, tasks: tasks, log: log, scoring: make(chan struct{}, 1), failed: map[string]bool{}}, nil
}

// Run measures every checkpoint until ctx ends. Each waits for its games on its own, so that a run that
// stands still holds up no other; models are run one at a time. Any number of evaluators share the work:
// a checkpoint is measured under a lease. What has its scores already is passed over.
func (s *Service) Run(ctx context.Context) error {
	var measuring sync.WaitGroup
	defer measuring.Wait()
	return s.bus.Read(ctx, bus.ReadConfig{Stream: bus.Checkpoints, Follow: true}, func(d bus.Delivery) error {
		if m, ok := d.Message.(*event.Checkpoint); ok {
			measuring.Go(func() { s.attend(ctx, m, s.measure, s.awaited) })
			measuring.Go(func() {
				s.attend(ctx, m, s.benchmarks, func(context.Context, *event.Checkpoint) bool { return false })
			})
		}
		return nil
	})
}

// A copy of a stream that is behind is asked again so often, and that many times: the run may have been removed instead.
const behindEvery, behindFor = 500 * time.Millisecond, 60

// retryEvery is how often a measure that a run waits for is tried again.
const retryEvery = 10 * time.Second

// attend works on a checkpoint. What fails is told, and left to the next process; what a run waits for
// is tried again.
func (s *Service) attend(ctx context.Context, m *event.Checkpoint, work func(context.Context, *event.Checkpoint) error, again func(context.Context, *event.Checkpoint) bool) {
	for behind := 0; ; {
		err := work(ctx, m)
		if err == nil || errors.Is(err, errFinal) || ctx.Err() != nil {
			return
		}
		// It has been read, so it is published: in a cluster, the copy of the stream that answered this time is behind.
		if behind++; errors.Is(err, weights.ErrNotPublished) && behind < behindFor {
			select {
			case <-time.After(behindEvery):
				continue
			case <-ctx.Done():
				return
			}
		}
		s.cfg.Metrics.Failures.Inc()
		s.log.Error().Err(err).Str("run", m.GetRunId()).Uint32("iteration", m.GetIteration()).Str("weights", m.GetWeightsSha256()[:12]).Msg("checkpoint not measured")
		s.tellFailure(ctx, m, err)
		if !again(ctx, m) {
			s.giveUp(m)
			return
		}
		select {
		case <-time.After(retryEvery):
		case <-ctx.Done():
			return
		}
	}
}

// awaited reports whether the checkpoint's run goes on only when it is measured.
func (s *Service) awaited(ctx context.Context, m *event.Checkpoint) bool {
	r, err := s.run(ctx, m.GetRunId())
	if err != nil {
		return !errors.Is(err, bus.ErrNotFound) // removed; what can't be known now is asked again
	}
	return r.Spec.StopWhen.Waits() && !r.Status.Final()
}

// alone runs f for a checkpoint, unless or until its last score is there, while no other evaluator works
// on it; one that dies is replaced.
func (s *Service) alone(ctx context.Context, m *event.Checkpoint, last *event.Score, f func(context.Context) error) error {
	key := fmt.Sprintf("evaluator.%s.%s.%d.%s", m.GetRunId(), m.GetPhase().Token(), m.GetIteration(), last.GetTask())
	for {
		if there, err := s.there(ctx, last); there || err != nil {
			return err
		}
		silent, err := s.bus.Vacant(ctx, key)
		if err != nil {
			return err
		}
		select {
		case s.scoring <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		err = s.bus.TryLead(ctx, key, s.instance, silent, func(ctx context.Context, _ uint64) error {
			if there, err := s.there(ctx, last); there || err != nil {
				return err
			}
			return f(ctx)
		})
		<-s.scoring
		if !errors.Is(err, bus.ErrHeld) && !(errors.Is(err, bus.ErrLeaseLost) && ctx.Err() == nil) {
			return err
		}
	}
}

// there reports whether a score is published.
func (s *Service) there(ctx context.Context, m *event.Score) (bool, error) {
	_, _, err := s.bus.Last(ctx, m)
	if errors.Is(err, bus.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
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
	for _, b := range s.tasks {
		if there, err := s.there(ctx, b.last(m)); !there || err != nil {
			return false, err
		}
	}
	return s.judged(ctx, m)
}

// judged is measured without the benchmarks.
func (s *Service) judged(ctx context.Context, m *event.Checkpoint) (bool, error) {
	r, err := s.run(ctx, m.GetRunId())
	if err != nil || r.Spec.Data.Heldout == 0 || r.Spec.Iterations == 0 {
		return err == nil, err
	}
	last := score0(m, taskHeldout, "nll")
	if answering(r, m) {
		last = score0(m, taskAnswers, "near_copy")
	}
	return s.there(ctx, last)
}

// answering reports whether the run plays these weights as an opponent, so that there are answers of
// theirs.
func answering(r run.Run, m *event.Checkpoint) bool {
	switch m.GetPhase() {
	case event.Phase_PHASE_BASE:
		return r.Spec.Iterations > 0 && r.Spec.SFT.Epochs == 0
	case event.Phase_PHASE_SFT, event.Phase_PHASE_SPIN:
		return int(m.GetIteration()) < r.Plays()
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
	if done, err := s.judged(ctx, m); done || err != nil {
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
	err = s.alone(ctx, m, score0(m, taskHeldout, "nll"), func(ctx context.Context) error {
		began := time.Now()
		figures, err := s.score(ctx, m, games, r.Spec.SPIN.Beta.At(int(played)))
		if err != nil {
			return err
		}
		if m.GetPhase() == event.Phase_PHASE_BASE || m.GetPhase() == event.Phase_PHASE_SFT { // no game of theirs taught them anything: margins say nothing
			figures = figures[len(figures)-1:] // nll
		}
		return s.publish(ctx, m, taskHeldout, figures, began)
	})
	if err != nil || !answering(r, m) {
		return err
	}
	return s.measureAnswers(ctx, r, m)
}

// measureAnswers measures what these weights answer as an opponent, and compares with the human
// answers' nll under them.
func (s *Service) measureAnswers(ctx context.Context, r run.Run, m *event.Checkpoint) error {
	games, err := s.games(ctx, r, m.GetIteration())
	if err != nil {
		return err
	}
	return s.alone(ctx, m, score0(m, taskAnswers, "near_copy"), func(ctx context.Context) error {
		began := time.Now()
		published, _, err := s.bus.Last(ctx, score0(m, taskHeldout, "nll"))
		if err != nil {
			return err
		}
		nll := published.(*event.Score)
		figures := answers(games)
		if err := s.checkEntropy(ctx, m, figures, figure{metric: "nll", value: nll.GetValue(), stderr: nll.GetStderr(), n: int(nll.GetN())}); err != nil {
			return err
		}
		return s.publish(ctx, m, taskAnswers, figures, began)
	})
}

// cache is where the weights are loaded as the run computes with them.
func (s *Service) cache(m *event.Checkpoint) (*weights.Cache, error) {
	if c := s.weights[m.GetDtype()]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("the run computes in %.20q, this evaluator in %v", m.GetDtype(), slices.Sorted(maps.Keys(s.weights)))
}

// games waits until an iteration's games are settled (before, its trainer may refuse one) and returns
// the held-out ones that are no holes, in the order of their index.
func (s *Service) games(ctx context.Context, r run.Run, iteration uint32) ([]*event.Game, error) {
	if r.Spec.Data.Heldout == 0 {
		return nil, errFinal
	}
	if err := s.sealed(ctx, r.ID, int(iteration)); err != nil {
		return nil, err
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

// sealed waits until the games of an iteration are settled.
func (s *Service) sealed(ctx context.Context, runID string, iteration int) error {
	key, state := run.IterationKey(runID, run.SPINStage, iteration), bus.State[run.Iteration]{Bucket: s.bus.Control()}
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go s.cancelAtEnd(waiting, cancel, runID)
	settled := errors.New("settled")
	err := state.Watch(waiting, key, func(_ string, it *run.Iteration, _ uint64) error {
		if it != nil && it.Dataset != "" {
			return settled
		}
		return nil
	})
	if errors.Is(err, errFinal) { // the end may have been seen before what came before it
		if it, _, lookup := state.Load(ctx, key); lookup == nil && it.Dataset != "" {
			return nil
		}
	}
	if errors.Is(err, settled) {
		return nil
	}
	return err
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
		return heldout(played(games), beta), nil
	}
	cache, err := s.cache(m)
	if err != nil {
		return nil, err
	}
	w, err := cache.Get(ctx, m.GetRunId(), m.GetWeightsSha256())
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

// measure is what was asked, and by which version of it.
type measure struct {
	task, version, harness string
	shots                  uint32
}

// publish writes the figures of a measure of self-play.
func (s *Service) publish(ctx context.Context, m *event.Checkpoint, task string, figures []figure, began time.Time) error {
	return s.publishAs(ctx, m, measure{task: task, version: version, harness: "spin-" + version}, figures, began)
}

// publishAs writes the figures in order. The first write of a score wins.
func (s *Service) publishAs(ctx context.Context, m *event.Checkpoint, what measure, figures []figure, began time.Time) error {
	fault.Point(fault.EvaluatorScored)
	s.cfg.Metrics.Seconds.WithLabelValues(what.task).Observe(time.Since(began).Seconds())
	cache, err := s.cache(m)
	if err != nil {
		return err
	}
	for _, f := range figures {
		score := score0(m, what.task, f.metric)
		score.Value, score.Stderr, score.N, score.Low, score.High = f.value, f.stderr, uint64(f.n), f.low, f.high
		score.TaskVersion, score.HarnessVersion, score.TemplateId = what.version, what.harness, m.GetTemplateId()
		score.Shots = what.shots
		score.Fingerprint = cache.Fingerprint()
		score.Circumstance = &event.Circumstance{Instance: s.instance, Attempt: 1, CreatedAt: timestamppb.Now(), Seconds: time.Since(began).Seconds()}
		if _, err := s.bus.PublishOnce(ctx, score); err != nil {
			return err
		}
		s.cfg.Metrics.Scores.WithLabelValues(what.task).Inc()
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

package train

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/spin"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// course is what a stage does: batch after batch, the same whoever leads.
type course struct {
	phase    event.Phase
	epochs   int
	steps    int                     // of all epochs, where no game is missing
	batches  func(epoch int) [][]int // of an epoch, training prompts by number; an empty one is skipped
	schedule optim.Schedule
	beta     float64 // 0: no game is played
	health   *health // nil: no game is played
	// step takes a step on a batch. An Outcome with games says that the learner was touched.
	step func(ctx context.Context, step int, batch []int, rate float64) (Outcome, error)
}

// train takes the course, from where a save left it, and saves on the way and when it is called off.
func (l *lead) train(ctx context.Context, t *turn, learner *Learner, c course) (at cursor, err error) {
	if at, err = l.resume(ctx, t, learner, c.health); err != nil {
		return at, err
	}
	began, whole := time.Now(), true // every step that the learner has taken is told
	defer func() {
		if err != nil && whole {
			l.saver.leave(ctx, t, learner, at, c.health)
		}
	}()
	for ; at.Epoch <= c.epochs; at.Epoch, at.Batch = at.Epoch+1, 0 {
		batches := c.batches(at.Epoch)
		for at.Batch < len(batches) {
			if ctx.Err() != nil {
				return at, context.Cause(ctx)
			}
			if batch := batches[at.Batch]; len(batch) > 0 {
				if whole, err = l.takeStep(ctx, t, c, &at, batch); err != nil {
					return at, err
				}
			}
			at.Batch++
			if err := l.saver.saveIfDue(ctx, t, learner, at, c.health); err != nil {
				return at, err
			}
		}
	}
	if l.saver.spent > 0 {
		l.log.Info().Str("run", l.run.ID).Str("stage", string(t.Stage)).Int("iteration", t.Number).Dur("held_up_ms", l.saver.spent).
			Float64("percent", 100*l.saver.spent.Seconds()/time.Since(began).Seconds()).Msg("what saving took of training")
	}
	l.saver.spent = 0
	return at, nil
}

// takeStep takes the step on a batch and tells it. whole is false where it is taken and not told.
func (l *lead) takeStep(ctx context.Context, t *turn, c course, at *cursor, batch []int) (whole bool, err error) {
	rate := c.schedule.At(at.Step + 1)
	clock := l.clock()
	ctx, span := l.cfg.Metrics.Tracer.Start(ctx, "step", telemetry.Internal, telemetry.Text("spin.run", l.run.ID),
		telemetry.Text("spin.phase", c.phase.Token()), telemetry.Count("spin.iteration", t.Number), telemetry.Count("spin.step", at.Step+1))
	defer span.End()
	out, err := c.step(ctx, at.Step+1, batch, rate)
	if err != nil {
		return out.Games == 0, err
	}
	if out.Games == 0 { // holes only
		return true, nil
	}
	fault.Point(fault.TrainerStepped)
	phase := c.phase.Token()
	l.cfg.Metrics.Steps.WithLabelValues(phase).Inc()
	l.cfg.Metrics.Tokens.WithLabelValues(phase).Add(float64(out.Tokens))
	l.cfg.Metrics.StepSeconds.WithLabelValues(phase).Observe(time.Since(clock).Seconds())
	at.Step, at.Tokens = at.Step+1, at.Tokens+out.Tokens
	told := place{
		phase: c.phase, iteration: uint32(t.Number), epoch: at.Epoch, step: at.Step, steps: c.steps, lr: rate, beta: c.beta, attempt: t.Attempt, health: c.health,
	}
	if err := l.publishStep(ctx, told, out, clock); err != nil {
		return false, err
	}
	l.replay.passed(l, at.Step)
	return true, nil
}

// sft makes θ_0: fine-tuning on the human answers.
func (l *lead) sft(ctx context.Context, t *turn) (cursor, error) {
	s := l.run.Spec.SFT
	return l.imitate(ctx, t, event.Phase_PHASE_SFT, s.Epochs, s.LR)
}

// control goes on with fine-tuning from θ_0, for at least as many tokens as the iterations trained
// on: what SPIN has to beat.
func (l *lead) control(ctx context.Context, t *turn) (cursor, error) {
	spin, err := l.trainedTokens(ctx)
	if err != nil {
		return cursor{}, err
	}
	perEpoch := 0
	for _, p := range l.prompts.train {
		perEpoch += len(p.GetPromptIds()) + len(p.GetReal().GetTokenIds())
	}
	epochs := max(1, (spin+perEpoch-1)/perEpoch)
	return l.imitate(ctx, t, event.Phase_PHASE_CONTROL, epochs, l.run.Spec.SPIN.LR.At(0))
}

// imitate runs epochs of supervised fine-tuning with the run's SFT settings at peak rate lr.
func (l *lead) imitate(ctx context.Context, t *turn, phase event.Phase, epochs int, lr float64) (cursor, error) {
	s := l.run.Spec.SFT
	settings, err := l.settings(s.Optimizer, s.MaxGradNorm)
	if err != nil {
		return cursor{}, err
	}
	learner, err := NewLearner(l.policy.model, settings)
	if err != nil {
		return cursor{}, err
	}
	defer learner.Free()
	c := course{phase: phase, epochs: epochs, steps: optim.Steps(len(l.prompts.train), s.Batch) * epochs}
	if c.schedule, err = newSchedule(s.Schedule, lr, s.Warmup, c.steps); err != nil {
		return cursor{}, err
	}
	c.batches = func(epoch int) [][]int {
		return run.Batches(run.Order(l.run.Spec.Seed, t.Stage, t.Number, epoch, len(l.prompts.train)), s.Batch, nil)
	}
	c.step = func(_ context.Context, step int, batch []int, rate float64) (Outcome, error) {
		games := make([]Game, 0, len(batch))
		for _, i := range batch {
			p := l.prompts.train[i]
			games = append(games, Game{PromptID: p.GetPromptId(), Prompt: event.DecodeIDs(p.GetPromptIds()), Real: Answer{IDs: event.DecodeIDs(p.GetReal().GetTokenIds())}})
		}
		out, err := learner.Imitate(games, rate)
		if err != nil {
			err = fmt.Errorf("step %d: %w", step, err)
		}
		return out, err
	}
	return l.train(ctx, t, learner, c)
}

// iteration is SPIN's iteration t (Algorithm 1): the generators play θ_t, the policy learns to tell
// the human answers from theirs. Training starts with the first games and takes them in an order
// fixed before any of them was played.
func (l *lead) iteration(ctx context.Context, t *turn) (cursor, error) {
	spec, number := l.run.Spec, t.Number
	settings, err := l.settings(spec.SPIN.Optimizer, spec.SPIN.MaxGradNorm)
	if err != nil {
		return cursor{}, err
	}
	learner, err := NewLearner(l.policy.model, settings)
	if err != nil {
		return cursor{}, err
	}
	defer learner.Free()
	c := course{phase: event.Phase_PHASE_SPIN, epochs: spec.SPIN.Epochs.At(number), steps: spec.Steps(number), beta: spec.SPIN.Beta.At(number)}
	if c.schedule, err = newSchedule(spec.SPIN.Schedule, spec.SPIN.LR.At(number), spec.SPIN.Warmup, spec.HorizonSteps(number)); err != nil {
		return cursor{}, err
	}
	loss, err := spin.ParseLoss(spec.SPIN.Loss.At(number))
	if err != nil {
		return cursor{}, err
	}
	c.health = newHealth(c.steps, loss)
	objective := spin.Objective{Loss: loss, Beta: c.beta}
	games, stop, err := l.playGames(ctx, t)
	if err != nil {
		return cursor{}, err
	}
	defer stop()
	if err := games.prepare(ctx, learner); err != nil { // while the model is still θ_t
		return cursor{}, err
	}
	c.batches = func(epoch int) [][]int {
		return run.Batches(run.Order(spec.Seed, t.Stage, number, epoch, len(l.prompts.train)), spec.GamesPerStep(number), nil)
	}
	c.step = func(ctx context.Context, step int, batch []int, rate float64) (Outcome, error) {
		played, err := games.await(ctx, batch)
		if err != nil || len(played) == 0 {
			return Outcome{}, err
		}
		out, err := learner.Play(played, objective, rate)
		if err != nil {
			return out, fmt.Errorf("step %d: %w", step, err)
		}
		if step == 1 {
			err = l.checkFirstLoss(ctx, number, loss, out.Loss, games.foreign(played))
		}
		return out, err
	}
	at, err := l.train(ctx, t, learner, c)
	if err != nil {
		return at, err
	}
	if err := games.seal(ctx); err != nil {
		return at, err
	}
	fault.Point(fault.TrainerSealed)
	return at, nil
}

// firstLossLimit is how far the first loss may be from ℓ(0) where engines differ.
const firstLossLimit = 0.02

// checkFirstLoss: before the first update the policy is the opponent, so every margin is 0 and the
// loss ℓ(0). Anything else says that the two were not scored alike: a fault under one engine, and of
// interest where a foreign one played and scored.
func (l *lead) checkFirstLoss(ctx context.Context, number int, loss spin.Loss, got float64, foreign bool) error {
	want := loss.Value(0)
	if got == want {
		return nil
	}
	level, why := event.Level_LEVEL_ALARM, "policy and opponent were not scored alike"
	if foreign && math.Abs(got-want) <= firstLossLimit {
		level, why = event.Level_LEVEL_INFO, "another engine scored the opponent"
	}
	return l.alarm(ctx, level, "first_loss", uint32(number), fmt.Sprintf("the first loss of iteration %d is %v, want %v: %s", number, got, want, why))
}

func newSchedule(shape string, lr, warmup float64, horizon int) (optim.Schedule, error) {
	parsed, err := optim.ParseShape(shape)
	if err != nil {
		return optim.Schedule{}, err
	}
	s := optim.Schedule{Shape: parsed, LR: lr, Warmup: optim.WarmupSteps(warmup, horizon), Horizon: horizon}
	return s, s.Validate()
}

// trainedTokens is the sum over all SPIN iterations of the run.
func (l *lead) trainedTokens(ctx context.Context) (int, error) {
	tokens := 0
	for t := range l.run.Plays() {
		it, _, err := l.iterations.Load(ctx, run.IterationKey(l.run.ID, run.SPINStage, t))
		if err != nil {
			return 0, err
		}
		tokens += it.Tokens
	}
	return tokens, nil
}

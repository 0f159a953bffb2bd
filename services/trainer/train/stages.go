package train

import (
	"context"
	"fmt"
	"math"

	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/spin"
)

// sft makes θ_0: fine-tuning on the human answers.
func (l *lead) sft(ctx context.Context, t *turn) (int, error) {
	s := l.run.Spec.SFT
	return l.imitate(ctx, t, event.Phase_PHASE_SFT, s.Epochs, s.LR)
}

// control goes on with fine-tuning from θ_0, for at least as many tokens as the iterations trained
// on: what SPIN has to beat.
func (l *lead) control(ctx context.Context, t *turn) (int, error) {
	spin, err := l.trainedTokens(ctx)
	if err != nil {
		return 0, err
	}
	perEpoch := 0
	for _, p := range l.prompts.train {
		perEpoch += len(p.GetPromptIds()) + len(p.GetReal().GetTokenIds())
	}
	epochs := max(1, (spin+perEpoch-1)/perEpoch)
	return l.imitate(ctx, t, event.Phase_PHASE_CONTROL, epochs, l.run.Spec.SPIN.LR.At(0))
}

// imitate runs epochs of supervised fine-tuning with the run's SFT settings at peak rate lr.
func (l *lead) imitate(ctx context.Context, t *turn, phase event.Phase, epochs int, lr float64) (int, error) {
	s := l.run.Spec.SFT
	settings, err := l.settings(s.Optimizer, s.MaxGradNorm)
	if err != nil {
		return 0, err
	}
	learner, err := NewLearner(l.policy.model, settings)
	if err != nil {
		return 0, err
	}
	defer learner.Free()
	steps := optim.Steps(len(l.prompts.train), s.Batch) * epochs
	schedule, err := newSchedule(s.Schedule, lr, s.Warmup, steps)
	if err != nil {
		return 0, err
	}
	step := 0
	for epoch := 1; epoch <= epochs; epoch++ {
		order := run.Order(l.run.Spec.Seed, t.Stage, t.Number, epoch, len(l.prompts.train))
		for _, batch := range run.Batches(order, s.Batch, nil) {
			if ctx.Err() != nil {
				return step, context.Cause(ctx)
			}
			games := make([]Game, 0, len(batch))
			for _, i := range batch {
				p := l.prompts.train[i]
				games = append(games, Game{PromptID: p.GetPromptId(), Prompt: event.DecodeIDs(p.GetPromptIds()), Real: Answer{IDs: event.DecodeIDs(p.GetReal().GetTokenIds())}})
			}
			step++
			rate := schedule.At(step)
			clock := l.clock()
			out, err := learner.Imitate(games, rate)
			if err != nil {
				return step, fmt.Errorf("step %d: %w", step, err)
			}
			at := place{phase: phase, iteration: uint32(t.Number), epoch: epoch, step: step, steps: steps, lr: rate, attempt: t.Attempt}
			if err := l.publishStep(ctx, at, out, clock); err != nil {
				return step, err
			}
		}
	}
	return step, nil
}

// iteration is SPIN's iteration t (Algorithm 1): the generators play θ_t, the policy learns to tell
// the human answers from theirs. Training starts with the first games and takes them in an order
// fixed before any of them was played.
func (l *lead) iteration(ctx context.Context, t *turn) (int, error) {
	spec, number := l.run.Spec, t.Number
	settings, err := l.settings(spec.SPIN.Optimizer, spec.SPIN.MaxGradNorm)
	if err != nil {
		return 0, err
	}
	learner, err := NewLearner(l.policy.model, settings)
	if err != nil {
		return 0, err
	}
	defer learner.Free()
	schedule, err := newSchedule(spec.SPIN.Schedule, spec.SPIN.LR.At(number), spec.SPIN.Warmup, spec.HorizonSteps(number))
	if err != nil {
		return 0, err
	}
	loss, err := spin.ParseLoss(spec.SPIN.Loss.At(number))
	if err != nil {
		return 0, err
	}
	objective := spin.Objective{Loss: loss, Beta: spec.SPIN.Beta.At(number)}
	games, stop, err := l.playGames(ctx, t)
	if err != nil {
		return 0, err
	}
	defer stop()
	step, steps := 0, spec.Steps(number)
	health := newHealth(steps)
	for epoch := 1; epoch <= spec.SPIN.Epochs.At(number); epoch++ {
		order := run.Order(spec.Seed, t.Stage, number, epoch, len(l.prompts.train))
		for _, batch := range run.Batches(order, spec.GamesPerStep(number), games.hole) {
			if len(batch) == 0 {
				continue
			}
			played, err := games.await(ctx, batch)
			if err != nil {
				return step, err
			}
			step++
			rate := schedule.At(step)
			clock := l.clock()
			out, err := learner.Play(played, objective, rate)
			if err != nil {
				return step, fmt.Errorf("step %d: %w", step, err)
			}
			if step == 1 {
				l.checkFirstLoss(ctx, number, loss, out.Loss)
			}
			at := place{phase: event.Phase_PHASE_SPIN, iteration: uint32(number), epoch: epoch, step: step, steps: steps, lr: rate, beta: objective.Beta, attempt: t.Attempt, health: health}
			if err := l.publishStep(ctx, at, out, clock); err != nil {
				return step, err
			}
		}
	}
	digest, err := games.seal(ctx)
	if err != nil {
		return step, err
	}
	if err := t.apply(ctx, run.Played{}, run.Sealed{Dataset: digest}); err != nil {
		return step, err
	}
	fault.Point(fault.TrainerSealed)
	return step, nil
}

// checkFirstLoss: before the first update the policy is the opponent, so every margin is 0 and the
// loss ℓ(0). Anything else says that the two were not scored alike.
func (l *lead) checkFirstLoss(ctx context.Context, number int, loss spin.Loss, got float64) {
	want := loss.Value(0)
	if got == want {
		return
	}
	level := event.Level_LEVEL_WARN
	if !(math.Abs(got-want) <= 0.02) {
		level = event.Level_LEVEL_ALARM
	}
	l.event(ctx, level, "first_loss", uint32(number), fmt.Sprintf("the first loss of iteration %d is %v, want %v: policy and opponent were not scored alike", number, got, want))
}

func newSchedule(shape string, lr, warmup float64, horizon int) (optim.Schedule, error) {
	parsed, err := optim.ParseShape(shape)
	if err != nil {
		return optim.Schedule{}, err
	}
	s := optim.Schedule{Shape: parsed, LR: lr, Warmup: optim.WarmupSteps(warmup, horizon), Horizon: horizon}
	return s, s.Validate()
}

package train

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// judge ends an iteration whose weights are published. Where the run has a stop rule, it waits for the
// scores of θ_{t+1} and asks whether the run goes on. A score is written once, and the verdict depends
// on scores alone: a trainer that takes over here comes to the same, and says it under the same id.
func (l *lead) judge(ctx context.Context, t *turn) error {
	spec, verdict := l.run.Spec, ""
	if t.Stage == run.SPINStage && spec.StopWhen.Waits() && t.Number+1 < spec.Iterations {
		gain, accuracy, err := l.awaitScores(ctx, t)
		if err != nil {
			return fmt.Errorf("scores of iteration %d, for the stop rule: %w", t.Number, err)
		}
		stop, why := spec.StopWhen.Verdict(gain, accuracy)
		word := "the run goes on"
		if stop {
			word = fmt.Sprintf("the run stops here, %d iterations before its last", spec.Iterations-t.Number-1)
			next, err := l.run.StopAfter(t.Number+1, why)
			if err != nil {
				return err
			}
			if err := l.swap(ctx, next); err != nil {
				return err
			}
		}
		verdict = fmt.Sprintf("iteration %d: %s; %s", t.Number, why, word)
	}
	fault.Point(fault.TrainerJudged)
	if verdict != "" {
		if err := l.alarm(ctx, event.Level_LEVEL_INFO, "stop_rule", uint32(t.Number), verdict); err != nil {
			return err
		}
		if err := l.journal.flush(ctx); err != nil { // nobody judges an iteration that is done
			return err
		}
	}
	return t.apply(ctx, run.Evaluated{})
}

// scoresWithin is how long scores may take before people are told what the run waits for.
const scoresWithin = 2 * time.Minute

// awaitScores waits for what the stop rule looks at: the held-out gain and accuracy of the weights that
// the iteration made. It waits as long as it takes, and says so.
func (l *lead) awaitScores(ctx context.Context, t *turn) (gain, accuracy run.Figure, err error) {
	there := errors.New("there")
	found := map[string]bool{}
	read := bus.ReadConfig{Stream: bus.Scores, Filters: []string{event.Filter(l.run.ID, event.Scores, fmt.Sprint(t.Number+1), event.Phase_PHASE_SPIN.Token(), "heldout")}, Follow: true}
	take := func(d bus.Delivery) error {
		m, ok := d.Message.(*event.Score)
		if !ok || m.GetWeightsSha256() != t.Result {
			return nil
		}
		figure := run.Figure{Value: m.GetValue(), Stderr: m.GetStderr()}
		switch m.GetMetric() {
		case "nll_gain":
			gain, found["gain"] = figure, true
		case "accuracy":
			accuracy, found["accuracy"] = figure, true
		}
		if len(found) == 2 {
			return there
		}
		return nil
	}
	soon, cancel := context.WithTimeout(ctx, scoresWithin)
	err = l.bus.Read(soon, read, take)
	late := soon.Err() != nil && ctx.Err() == nil
	cancel()
	if late && !errors.Is(err, there) {
		if err := l.alarm(ctx, event.Level_LEVEL_WARN, "scores_late", uint32(t.Number),
			fmt.Sprintf("iteration %d: its stop rule waits for scores, which no evaluator has published for %v", t.Number, scoresWithin)); err != nil {
			return gain, accuracy, err
		}
		err = l.bus.Read(ctx, read, take)
	}
	if errors.Is(err, there) {
		err = nil
	}
	return gain, accuracy, err
}

package evaluate

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seed-8780d58e/spin/pkg/event"
)

// tooFlat says what is wrong with weights whose own answers are less certain than people's answers
// are likely under them: the distribution has been flattened, and what is drawn from it rambles.
// Empty: nothing is, or the difference may be chance (95 %).
func tooFlat(name string, entropy, nll figure) string {
	if entropy.n == 0 || nll.n == 0 || !(entropy.value-nll.value > 1.96*math.Hypot(entropy.stderr, nll.stderr)) {
		return ""
	}
	return fmt.Sprintf("%s answers with an entropy of %.2f nats a token, above the human NLL of %.2f: its answers ramble", name, entropy.value, nll.value)
}

// checkEntropy raises the alarm of tooFlat, once for each weights.
func (s *Service) checkEntropy(ctx context.Context, m *event.Checkpoint, answers []figure, nll figure) error {
	entropy := find(answers, "entropy")
	message := tooFlat(fmt.Sprintf("θ_%d", m.GetIteration()), entropy, nll)
	if message == "" {
		return nil
	}
	body, err := json.Marshal(map[string]float64{"entropy": entropy.value, "nll": nll.value})
	if err != nil {
		return err
	}
	level := event.Level_LEVEL_ALARM
	if m.GetIteration() == 0 {
		level = event.Level_LEVEL_WARN // so they were before any game
	}
	s.log.Warn().Str("run", m.GetRunId()).Str("kind", "entropy").Msg(message)
	e := &event.Event{
		Id: m.GetRunId() + "-entropy-" + m.GetWeightsSha256()[:16], RunId: m.GetRunId(), Service: "evaluator", Kind: "entropy", Level: level,
		Iteration: m.GetIteration(), Message: message, Body: string(body),
		Circumstance: &event.Circumstance{Instance: s.instance, Attempt: 1, CreatedAt: timestamppb.Now()},
	}
	return s.bus.Append(ctx, e, e.Id)
}

// tellFailure raises an alarm, once for each weights.
func (s *Service) tellFailure(ctx context.Context, m *event.Checkpoint, cause error) {
	e := &event.Event{
		Id: m.GetRunId() + "-not_measured-" + m.GetWeightsSha256()[:16], RunId: m.GetRunId(), Service: "evaluator", Kind: "not_measured", Level: event.Level_LEVEL_ALARM,
		Iteration: m.GetIteration(), Message: fmt.Sprintf("%s θ_%d is not measured: %.500v", m.GetPhase().Token(), m.GetIteration(), cause),
		Circumstance: &event.Circumstance{Instance: s.instance, Attempt: 1, CreatedAt: timestamppb.Now()},
	}
	if err := s.bus.Append(ctx, e, e.Id); err != nil && ctx.Err() == nil {
		s.log.Error().Err(err).Str("run", m.GetRunId()).Msg("publish an event")
	}
}

// find is the figure of a metric; the zero figure where it is not there.
func find(figures []figure, metric string) figure {
	for _, f := range figures {
		if f.metric == metric {
			return f
		}
	}
	return figure{}
}

package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// Lag is how far ClickHouse is behind a stream.
type Lag struct {
	Stream  string
	Behind  uint64        // sequences that are not recorded: messages, and numbers of such as were replaced
	Since   time.Duration // that there have been any
	Missing uint64        // sequences that went from the stream before they were recorded
}

// Lags looks at every stream.
func (s *Service) Lags(ctx context.Context) ([]Lag, error) {
	var lags []Lag
	for _, stream := range streams() {
		info, err := s.bus.StreamInfo(ctx, stream)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		recorded, opened := s.recorded[stream]
		caughtUp := s.caughtUp[stream]
		if info.Last <= recorded || caughtUp.IsZero() {
			caughtUp = time.Now()
			s.caughtUp[stream] = caughtUp
		}
		s.mu.Unlock()
		l := Lag{Stream: stream, Since: time.Since(caughtUp)}
		if info.Last > recorded {
			l.Behind = info.Last - recorded
		} else {
			l.Since = 0
		}
		if opened {
			l.Missing = missing(info, recorded)
		}
		lags = append(lags, l)
	}
	return lags, nil
}

// missing counts the sequences between what is recorded and what the stream still has.
func missing(info bus.Info, recorded uint64) uint64 {
	next := info.First
	if info.Messages == 0 {
		next = info.Last + 1
	}
	return max(next, recorded+1) - recorded - 1
}

// lateAfter is how long a stream may be behind before it is said, and how often it is said again.
const lateAfter = time.Minute

// keepHouse looks after the streams: it says where ClickHouse falls behind or has missed something, and
// takes away what is recorded and nobody needs any more.
func (s *Service) keepHouse(ctx context.Context) error {
	if s.cfg.LookEvery == 0 {
		return nil
	}
	said, trimmed := map[string]time.Time{}, map[string]bool{}
	tick := time.NewTicker(s.cfg.LookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		switch err := s.look(ctx, said, trimmed); {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, bus.ErrDenied):
			return err
		case err != nil: // a broker without room, say: what could not be done is done at the next look
			s.log.Warn().Err(err).Msg("the streams can't be looked after; trying again")
		}
	}
}

// look is one look at every stream.
func (s *Service) look(ctx context.Context, said map[string]time.Time, trimmed map[string]bool) error {
	lags, err := s.Lags(ctx)
	if err != nil {
		return err
	}
	var untold error
	for _, l := range lags {
		s.cfg.Metrics.Lag.WithLabelValues(l.Stream).Set(float64(l.Behind))
		s.cfg.Metrics.LagSeconds.WithLabelValues(l.Stream).Set(l.Since.Seconds())
		s.cfg.Metrics.Missing.WithLabelValues(l.Stream).Set(float64(l.Missing))
		if l.Since > lateAfter && time.Since(said[l.Stream]) > lateAfter {
			said[l.Stream] = time.Now()
			s.log.Warn().Str("stream", l.Stream).Uint64("behind", l.Behind).Dur("since_ms", l.Since).Msg("ClickHouse is behind: the streams keep what it has not taken, as long as their bounds allow")
		}
		untold = errors.Join(untold, s.checkGap(ctx, l))
	}
	return errors.Join(untold, s.trim(ctx, trimmed)) // trimming makes the room that the events may lack
}

// fleetID stands for the run in events that are about all of them.
const fleetID = "fleet"

// checkGap tells people, once, that messages went before they were recorded. It is told when the event is
// published.
func (s *Service) checkGap(ctx context.Context, l Lag) error {
	s.mu.Lock()
	known := s.missed[l.Stream]
	s.mu.Unlock()
	if l.Missing <= known {
		return nil
	}
	message := fmt.Sprintf("%d sequences of %s went before they were recorded: their rows are missing, unless `spin rm` removed their run", l.Missing, l.Stream)
	s.log.Error().Str("stream", l.Stream).Uint64("missing", l.Missing).Msg(message)
	e := &event.Event{
		Id: uuid.NewString(), RunId: fleetID, Service: "recorder", Kind: "gap", Level: event.Level_LEVEL_ALARM, Message: message,
		Circumstance: &event.Circumstance{Instance: "recorder", Attempt: 1, CreatedAt: timestamppb.Now()},
	}
	if err := s.bus.Append(ctx, e, e.Id); err != nil {
		return err
	}
	s.mu.Lock()
	s.missed[l.Stream] = l.Missing
	s.mu.Unlock()
	return nil
}

// trim purges what is recorded and needed by nobody: steps and pairs of stages that are done, and games
// that no iteration will train on and no checkpoint will be measured by. A run that is paused, blocked or
// has failed keeps all that it needs to go on. done remembers what has gone.
func (s *Service) trim(ctx context.Context, done map[string]bool) error {
	entries, err := s.bus.Control().List(ctx, run.KeyPattern)
	if err != nil {
		return err
	}
	runs, turns := bus.State[run.Run]{Bucket: s.bus.Control()}, bus.State[run.Iteration]{Bucket: s.bus.Control()}
	for _, e := range entries {
		r, _, err := runs.Load(ctx, e.Key)
		if errors.Is(err, bus.ErrNotFound) || err == nil && done[r.ID] {
			continue
		}
		if err != nil {
			return err
		}
		t := trimming{Service: s, run: r, turns: map[string]run.Iteration{}, done: done}
		keys, err := s.bus.Control().List(ctx, run.IterationPattern(r.ID))
		if err != nil {
			return err
		}
		for _, k := range keys {
			it, _, err := turns.Load(ctx, k.Key)
			if err == nil {
				t.turns[k.Key] = it
			} else if !errors.Is(err, bus.ErrNotFound) {
				return err
			}
		}
		if err := t.steps(ctx); err != nil {
			return err
		}
		if err := t.games(ctx); err != nil {
			return err
		}
		done[r.ID] = r.Status.Final() && t.left == 0
	}
	return nil
}

// trimming is a look at one run.
type trimming struct {
	*Service
	run   run.Run
	turns map[string]run.Iteration
	done  map[string]bool
	left  int // what is still to go
}

// over reports whether a stage will not be taken up again.
func (t *trimming) over(stage run.Stage, number int) bool {
	return t.run.Status.Final() || t.turns[run.IterationKey(t.run.ID, stage, number)].Phase == run.Done
}

// steps trims the steps and pairs of stages that are over. The run's newest one of each stays: behind it
// a leader who was fenced off can't write.
func (t *trimming) steps(ctx context.Context) error {
	for key, it := range t.turns {
		phase, number := phaseOf(it.Stage), strconv.Itoa(it.Number)
		filters := []struct {
			filter, all string
			m           event.Message
		}{{event.Filter(it.Run, event.Steps, number, phase.Token()), event.Filter(it.Run, event.Steps), &event.Step{RunId: it.Run}}}
		if it.Stage == run.SPINStage {
			filters = append(filters, struct {
				filter, all string
				m           event.Message
			}{event.Filter(it.Run, event.Pairs, number), event.Filter(it.Run, event.Pairs), &event.PairTraces{RunId: it.Run}})
		}
		if t.done["steps "+key] {
			continue
		}
		if !t.over(it.Stage, it.Number) {
			t.left++
			continue
		}
		gone := true
		for _, f := range filters {
			newest, err := t.newest(ctx, f.m, f.all)
			if err != nil {
				return err
			}
			last, err := t.newest(ctx, f.m, f.filter)
			if err != nil {
				return err
			}
			switch through := min(last, max(newest, 1)-1); {
			case last > t.last(bus.Steps):
				gone = false
			case through > 0:
				if err := t.bus.Purge(ctx, bus.Steps, f.filter, through); err != nil {
					return err
				}
			}
		}
		if gone {
			t.done["steps "+key] = true
		} else {
			t.left++
		}
	}
	return nil
}

// games trims the games of iterations that are over, their successors too where those train on them, and
// whose checkpoints have their scores.
func (t *trimming) games(ctx context.Context) error {
	for u := range t.run.Plays() {
		key := fmt.Sprintf("games %s %d", t.run.ID, u)
		if t.done[key] {
			continue
		}
		t.left++
		if !t.over(run.SPINStage, u) || t.run.Spec.Mixes(u+1) && u+1 < t.run.Plays() && !t.over(run.SPINStage, u+1) {
			continue
		}
		measured, err := t.measured(ctx, uint32(u))
		if err != nil {
			return err
		}
		filter := event.IterationFilter(t.run.ID, event.Games, uint32(u))
		last, err := t.newest(ctx, &event.Game{RunId: t.run.ID}, filter)
		if err != nil {
			return err
		}
		if !measured || last > t.last(bus.Games) {
			continue
		}
		if last > 0 {
			if err := t.bus.Purge(ctx, bus.Games, filter, last); err != nil {
				return err
			}
			t.log.Info().Str("run", t.run.ID).Int("iteration", u).Msg("its games are recorded and needed no more: the stream has let them go")
		}
		t.done[key] = true
		t.left--
	}
	return nil
}

// measured reports whether every checkpoint that the held-out games of iteration u measure has its
// scores: θ_{u+1}, what θ_u answered, and for iteration 0 what the run began with and the control.
func (t *trimming) measured(ctx context.Context, u uint32) (bool, error) {
	if t.run.Spec.Data.Heldout == 0 || t.run.Status == run.Aborted {
		return true, nil
	}
	scores, err := t.bus.Subjects(ctx, bus.Scores, event.Filter(t.run.ID, event.Scores))
	if err != nil {
		return false, err
	}
	has := func(iteration uint32, phase event.Phase, task, metric string) bool {
		m := &event.Score{RunId: t.run.ID, Iteration: iteration, Phase: phase, Task: task, Metric: metric, Split: event.Split_SPLIT_HELDOUT}
		return scores[m.Subject()] > 0
	}
	player := event.Phase_PHASE_SPIN
	if u == 0 {
		player = event.Phase_PHASE_BASE
		if t.run.Spec.SFT.Epochs > 0 {
			player = event.Phase_PHASE_SFT
		}
	}
	all := has(u+1, event.Phase_PHASE_SPIN, "heldout", "nll") && has(u, player, "answers", "near_copy")
	if u == 0 {
		all = all && has(0, event.Phase_PHASE_BASE, "heldout", "nll") && has(0, player, "heldout", "nll")
		all = all && (t.run.Spec.Control != "sft" || has(0, event.Phase_PHASE_CONTROL, "heldout", "nll"))
	}
	return all, nil
}

// newest is the sequence of the newest message of a filter; 0: there is none.
func (t *trimming) newest(ctx context.Context, m event.Message, filter string) (uint64, error) {
	_, seq, err := t.bus.Newest(ctx, m, filter)
	if errors.Is(err, bus.ErrNotFound) || errors.Is(err, event.ErrInvalid) {
		err = nil
	}
	return seq, err
}

// last is the last sequence of a stream that is recorded.
func (s *Service) last(stream string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recorded[stream]
}

func phaseOf(stage run.Stage) event.Phase {
	i := slices.Index([]run.Stage{run.SFTStage, run.SPINStage, run.ControlStage}, stage)
	return []event.Phase{event.Phase_PHASE_UNSPECIFIED, event.Phase_PHASE_SFT, event.Phase_PHASE_SPIN, event.Phase_PHASE_CONTROL}[i+1]
}

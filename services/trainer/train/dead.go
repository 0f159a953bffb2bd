package train

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// ErrBlocked: training needs a game that no generator could play. The run waits for a person, who says
// `spin dead requeue` or `spin dead skip`.
var ErrBlocked = errors.New("the run is blocked")

// letter is a dead letter about tasks of the iteration.
type letter struct {
	*event.DeadLetter
	seq     uint64
	prompts []string
	done    bool // it has been answered, and that was acted on
}

// readLetters takes the dead letters about the iteration's tasks from a sequence on, and returns the
// next one. Answers that were given before are known first.
func (g *games) readLetters(ctx context.Context, from uint64, follow bool) (next uint64, err error) {
	if !follow {
		if err := g.readAnswers(ctx); err != nil {
			return 0, err
		}
	}
	next = max(from, 1)
	filter := event.Filter(g.lead.run.ID, event.Dead)
	err = g.lead.bus.Read(ctx, bus.ReadConfig{Stream: bus.Dead, Filters: []string{filter}, From: from, Follow: follow}, func(d bus.Delivery) error {
		next = d.Seq + 1
		m, ok := d.Message.(*event.DeadLetter)
		if !ok || m.GetStream() != event.Prompts {
			return nil // of a game that was refused: it is played again already
		}
		l := &letter{DeadLetter: m, seq: d.Seq, prompts: g.promptsOf(m)}
		if len(l.prompts) == 0 && follow && m.GetPromptId() == "" {
			g.lead.event(ctx, event.Level_LEVEL_WARN, "task_refused", uint32(g.at.Number), "a message that is no task of this run was in its queue: "+m.GetReason())
		}
		g.mu.Lock()
		g.letters[d.Seq] = l
		g.mu.Unlock()
		return g.act(ctx, l)
	})
	return next, err
}

// promptsOf are the games that a letter is about. One about a task that no generator understood is
// about all its games; one about something that was never a task of ours, about none.
func (g *games) promptsOf(m *event.DeadLetter) []string {
	var ids []string
	switch task, err := event.Unmarshal(m.GetSchema(), m.GetPayload()); {
	case m.GetPromptId() != "" && m.GetIteration() == uint32(g.at.Number):
		ids = []string{m.GetPromptId()}
	case m.GetPromptId() == "" && err == nil:
		if c, ok := task.(*event.Chunk); ok && c.GetRunId() == g.lead.run.ID && c.GetIteration() == uint32(g.at.Number) {
			for _, p := range c.GetPrompts() {
				ids = append(ids, p.GetPromptId())
			}
		}
	}
	return slices.DeleteFunc(ids, func(id string) bool { return !g.lead.prompts.has(id) })
}

// readAnswers takes what people have said so far.
func (g *games) readAnswers(ctx context.Context) error {
	state := bus.State[run.Answer]{Bucket: g.lead.bus.Control()}
	entries, err := state.Bucket.List(ctx, run.AnswerPattern(g.lead.run.ID))
	if err != nil {
		return err
	}
	for _, e := range entries {
		a, _, err := state.Load(ctx, e.Key)
		if err != nil {
			return err
		}
		if seq, ok := run.AnswerSeq(e.Key); ok {
			g.mu.Lock()
			g.answers[seq] = a
			g.mu.Unlock()
		}
	}
	return nil
}

// followAnswers does what people say about letters.
func (g *games) followAnswers(ctx context.Context) error {
	state := bus.State[run.Answer]{Bucket: g.lead.bus.Control()}
	return state.Watch(ctx, run.AnswerPattern(g.lead.run.ID), func(key string, a *run.Answer, _ uint64) error {
		seq, ok := run.AnswerSeq(key)
		if a == nil || !ok || a.Validate() != nil {
			return nil
		}
		g.mu.Lock()
		g.answers[seq] = *a
		l := g.letters[seq]
		g.mu.Unlock()
		if l == nil { // of another iteration, or not read yet
			return nil
		}
		return g.act(ctx, l)
	})
}

// act does what follows from a letter: what a person said, a hole where max_missing allows one, or
// nothing until a person says something.
func (g *games) act(ctx context.Context, l *letter) error {
	var holes, again []string
	reason := event.HoleUnplayable
	g.mu.Lock()
	answer, said := g.answers[l.seq]
	for _, id := range l.prompts {
		switch {
		case g.played[id] != nil || l.done:
		case said && answer.Action == run.Skip:
			holes = append(holes, id)
			if answer.Reason != "" {
				reason = answer.Reason
			}
		case said:
			again = append(again, id)
		case g.missing() < g.lead.run.Spec.MaxMissing || g.excused[id]:
			g.excused[id] = true
			holes = append(holes, id)
		default:
			g.dead[id] = l
		}
	}
	if said {
		l.done = true
		for _, id := range l.prompts {
			if g.dead[id] == l {
				delete(g.dead, id)
			}
		}
	}
	g.wake()
	g.mu.Unlock()
	for _, id := range holes {
		if err := g.writeHole(ctx, id, reason); err != nil {
			return err
		}
	}
	return g.tasks.again(ctx, again)
}

// missing counts the holes that nobody asked for. The caller holds g.mu.
func (g *games) missing() int {
	asked := map[string]bool{}
	for seq, a := range g.answers {
		if l := g.letters[seq]; l != nil && a.Action == run.Skip {
			for _, id := range l.prompts {
				asked[id] = true
			}
		}
	}
	n := 0
	for id, m := range g.played {
		if m.GetHole() != nil && !asked[id] && !g.excused[id] {
			n++
		}
	}
	for id := range g.excused {
		if m := g.played[id]; m == nil || m.GetHole() != nil { // a late game may have been faster
			n++
		}
	}
	return n
}

// writeHole puts a hole in the place of a game. A game that comes first stays, and the other way round.
func (g *games) writeHole(ctx context.Context, id, reason string) error {
	p := g.lead.prompts.byID(id)
	hole := &event.Game{
		RunId: g.lead.run.ID, Iteration: uint32(g.at.Number), PromptId: id, Index: p.GetIndex(), Split: p.GetSplit(), Hole: &event.Hole{Reason: reason},
		Circumstance: &event.Circumstance{Instance: g.lead.instance, CreatedAt: timestamppb.Now()},
	}
	for {
		ack, err := g.lead.bus.PublishOnce(ctx, hole)
		if errors.Is(err, bus.ErrFull) {
			if err := pause(ctx, fullRetry); err != nil {
				return err
			}
			continue
		}
		if err == nil && !ack.Existed {
			g.lead.event(ctx, event.Level_LEVEL_WARN, "hole", hole.Iteration, fmt.Sprintf("iteration %d goes on without prompt %s: %s", hole.Iteration, id, reason))
		}
		return err
	}
}

// blocked says why the games of prompts will not come, or nil. The caller holds g.mu.
func (g *games) blocked(missing []string) error {
	for _, id := range missing {
		l := g.dead[id]
		if l == nil {
			continue
		}
		why := ""
		for _, a := range l.GetAttempts() {
			if a.GetError() != "" && a.GetError() != l.GetReason() {
				why = ", the last with: " + a.GetError()
			}
		}
		return fmt.Errorf("%w: prompt %s of iteration %d could not be played: %s%s; `spin dead requeue %d` tries again, `spin dead skip %d` goes on without it",
			ErrBlocked, id, g.at.Number, l.GetReason(), why, l.seq, l.seq)
	}
	return nil
}

package train

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fleet"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// fence is the value of games.<run>.<t>: who collects the games, and the one that is being refused.
//
// A game that the run did not ask for is taken out of the stream, so that the right one can have its
// subject. Removing a message can't be undone, and can't be made conditional on being the leader. So the
// decision is written here first, by compare-and-set, and carried out after: a leader that was replaced
// can't decide, and what it had decided its successor carries out too.
type fence struct {
	Leader   string    `json:"leader"`
	Refusing *refusing `json:"refusing,omitempty"`

	state    bus.State[fence]
	key      string
	revision uint64
}

// refusing is a message on its way out of the stream of games.
type refusing struct {
	Seq     uint64 `json:"seq"`
	Subject string `json:"subject"`
	Reason  string `json:"reason"`
	Wrong   bool   `json:"wrong_weights,omitempty"` // another θ than the opponent played it
}

// takeFence makes this leader the one that may refuse, and finishes what the last one had decided.
func (g *games) takeFence(ctx context.Context) error {
	f := &fence{state: bus.State[fence]{Bucket: g.lead.bus.Control()}, key: run.GamesKey(g.lead.run.ID, g.at.Number)}
	old, revision, err := f.state.Load(ctx, f.key)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		f.Leader = g.lead.instance
		f.revision, err = f.state.Create(ctx, f.key, *f)
	case err == nil:
		f.revision = revision
		err = f.write(ctx, fence{Leader: g.lead.instance, Refusing: old.Refusing})
	}
	if err != nil {
		return err
	}
	g.fence = f
	if f.Refusing == nil {
		return nil
	}
	return g.carryOut(ctx, bus.Delivery{Stream: bus.Games, Seq: f.Refusing.Seq, Subject: f.Refusing.Subject})
}

func (f *fence) write(ctx context.Context, next fence) error {
	revision, err := f.state.Swap(ctx, f.key, next, f.revision)
	if err != nil {
		return err
	}
	f.Leader, f.Refusing, f.revision = next.Leader, next.Refusing, revision
	return nil
}

// refuse takes a message out of the stream, leaves it to people as a dead letter, and lets its game be
// played again.
func (g *games) refuse(ctx context.Context, d bus.Delivery, wrong error) error {
	reason := fmt.Sprintf("%.1000v", wrong)
	if err := g.fence.write(ctx, fence{Leader: g.lead.instance, Refusing: &refusing{d.Seq, d.Subject, reason, errors.Is(wrong, errWrongWeights)}}); err != nil {
		return err
	}
	return g.carryOut(ctx, d)
}

// carryOut executes what the fence says about d. Each step can be repeated. The message goes before its
// letter is written: the recorder, which obeys the letter, can then not meet it afterwards.
func (g *games) carryOut(ctx context.Context, d bus.Delivery) error {
	what := *g.fence.Refusing
	if d.Payload == nil { // another leader's decision
		if at, err := g.lead.bus.At(ctx, bus.Games, what.Seq); err == nil {
			d = at
		} else if !errors.Is(err, bus.ErrNotFound) {
			return err
		}
	}
	if err := g.lead.bus.Remove(ctx, bus.Games, what.Seq); err != nil {
		return err
	}
	if err := g.lead.bus.Refuse(ctx, d, g.lead.instance, what.Reason); err != nil {
		return err
	}
	g.lead.cfg.Metrics.Refusals.Inc()
	m, _ := d.Message.(*event.Game)
	level, kind := event.Level_LEVEL_WARN, "game_refused"
	if what.Wrong {
		level, kind = event.Level_LEVEL_ALARM, "wrong_weights"
	}
	g.lead.event(ctx, level, kind, uint32(g.at.Number), fmt.Sprintf("%s; it came from %s and is among the dead letters", what.Reason, orUnknown(m.GetCircumstance().GetInstance())))
	_, _, rest, _ := event.ParseSubject(what.Subject)
	if len(rest) == 2 && g.lead.prompts.has(rest[1]) {
		if err := g.replay(ctx, rest[1], d, fleet.Attempt{Instance: m.GetCircumstance().GetInstance(), TakenAt: time.Now().UTC(), Error: what.Reason}); err != nil {
			return err
		}
	}
	return g.fence.write(ctx, fence{Leader: g.lead.instance})
}

func orUnknown(instance string) string {
	if instance == "" {
		return "an unknown instance"
	}
	return instance
}

// replay queues a game whose message was refused, unless too many of it were: then it is a prompt that
// nobody can play.
func (g *games) replay(ctx context.Context, prompt string, d bus.Delivery, refused fleet.Attempt) error {
	g.mu.Lock()
	g.refused[prompt] = append(g.refused[prompt], refused)
	attempts := g.refused[prompt]
	g.mu.Unlock()
	if fleet.DefaultPatience().Verdict(attempts, 1) != fleet.Bury {
		return g.tasks.again(ctx, []string{prompt})
	}
	letter := &event.DeadLetter{
		RunId: g.lead.run.ID, Stream: event.Prompts, SourceSubject: d.Subject, Iteration: uint32(g.at.Number), PromptId: prompt,
		Reason:       fmt.Sprintf("%d games of it were refused", len(attempts)),
		Circumstance: &event.Circumstance{Instance: g.lead.instance, CreatedAt: timestamppb.Now()},
	}
	for _, a := range attempts {
		letter.Attempts = append(letter.Attempts, &event.Attempt{Instance: a.Instance, Error: a.Error, TakenAt: timestamppb.New(a.TakenAt)})
	}
	return g.lead.bus.Append(ctx, letter, fmt.Sprintf("refused/%d", d.Seq))
}

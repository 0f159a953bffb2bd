package train

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/fleet"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/spin"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// games are those of one iteration, collected from the stream as they come and handed to training
// in its own order. What a game is, is settled by its subject: the first write there is a game or a
// hole, for ever; one that the run did not ask for is taken away again (refuse.go).
type games struct {
	lead *lead
	turn *turn                    // of the goroutine that trains
	at   run.Iteration            // as it was when playing began: what does not change
	kept map[string][]*event.Draw // of t−1, by prompt

	fence *fence // whose turn it is to refuse
	tasks *tasks

	mu      sync.Mutex
	played  map[string]*event.Game      // by prompt, holes included
	origins map[string]telemetry.Origin // spans that they were played in
	refused map[string][]fleet.Attempt
	letters map[uint64]*letter
	answers map[uint64]run.Answer
	dead    map[string]*letter // prompts that nobody could play, until a person says what to do
	excused map[string]bool    // prompts that max_missing made a hole
	failed  error
	more    chan struct{} // closed and replaced with each arrival
	idle    time.Duration // that training has waited

	sealed   bool            // of the goroutine that trains
	opponent map[string]Game // trainer mode: games with the trainer's own opponent log-probabilities
}

// playGames publishes the iteration's tasks and collects its games. stop ends both.
//
// What the streams hold is read first, so that a trainer that takes over decides as the one before it
// would have.
func (l *lead) playGames(ctx context.Context, t *turn) (g *games, stop func(), err error) {
	g = &games{
		lead: l, turn: t, at: t.Iteration, played: map[string]*event.Game{}, origins: map[string]telemetry.Origin{}, refused: map[string][]fleet.Attempt{},
		letters: map[uint64]*letter{}, answers: map[uint64]run.Answer{}, dead: map[string]*letter{}, excused: map[string]bool{}, more: make(chan struct{}),
	}
	if g.kept, err = l.keptDraws(ctx, t.Number); err != nil {
		return nil, nil, err
	}
	g.tasks = newTasks(g)
	if err := g.takeFence(ctx); err != nil {
		return nil, nil, err
	}
	nextGame, err := g.readGames(ctx, 0, false)
	if err != nil {
		return nil, nil, err
	}
	nextLetter, err := g.readLetters(ctx, 0, false)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	follow := func(f func() error) { working.Go(func() { g.fail(ctx, f()) }) }
	follow(func() error { _, err := g.readGames(ctx, nextGame, true); return err })
	follow(func() error { _, err := g.readLetters(ctx, nextLetter, true); return err })
	follow(func() error { return g.followAnswers(ctx) })
	follow(func() error { return g.tasks.follow(ctx) })
	follow(func() error { return g.tasks.publish(ctx) })
	working.Go(func() { g.countFleet(ctx) })
	return g, func() { cancel(); working.Wait() }, nil
}

// fail ends the waiting of training, unless the work was called off.
func (g *games) fail(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failed = errors.Join(g.failed, err)
	g.wake()
}

// wake tells who waits. The caller holds g.mu.
func (g *games) wake() {
	close(g.more)
	g.more = make(chan struct{})
}

// readGames takes the iteration's games from a sequence on, and returns the next one.
func (g *games) readGames(ctx context.Context, from uint64, follow bool) (next uint64, err error) {
	filter := event.IterationFilter(g.lead.run.ID, event.Games, uint32(g.at.Number))
	next = max(from, 1)
	err = g.lead.bus.Read(ctx, bus.ReadConfig{Stream: bus.Games, Filters: []string{filter}, From: from, Follow: follow}, func(d bus.Delivery) error {
		next = d.Seq + 1
		m, _ := d.Message.(*event.Game)
		wrong := d.Err
		if wrong == nil {
			wrong = g.check(m)
		}
		if wrong != nil {
			return g.refuse(ctx, d, wrong)
		}
		g.take(m, d.Origin)
		return nil
	})
	return next, err
}

// take notes a game or a hole.
func (g *games) take(m *event.Game, origin telemetry.Origin) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fault.Point(fault.TrainerCollected)
	g.played[m.GetPromptId()], g.origins[m.GetPromptId()] = m, origin
	delete(g.dead, m.GetPromptId())
	g.tasks.arrived(m.GetPromptId())
	g.wake()
}

// errWrongWeights is why a game was refused that another θ than the opponent played.
var errWrongWeights = errors.New("wrong weights")

// check says why a game is not one that the run asked for.
func (g *games) check(m *event.Game) error {
	p := g.lead.prompts.find(m.GetIndex())
	if p.GetPromptId() != m.GetPromptId() || p.GetSplit() != m.GetSplit() {
		return fmt.Errorf("game %s is not prompt %d of the run's %s prompts", m.GetPromptId(), m.GetIndex(), m.GetSplit().Token())
	}
	if m.GetHole() != nil {
		return nil
	}
	spec := g.lead.run.Spec
	switch engines := spec.Engine.Engines; {
	case m.GetWeightsSha256() != g.at.Opponent:
		return fmt.Errorf("game %s was played by %w: %.12s, the opponent is %.12s", m.GetPromptId(), errWrongWeights, m.GetWeightsSha256(), g.at.Opponent)
	case m.GetTemplateId() != g.lead.base.Template.ID():
		return fmt.Errorf("game %s was rendered by template %s, the run's is %s", m.GetPromptId(), m.GetTemplateId(), g.lead.base.Template.ID())
	case len(engines) == 0 && m.GetFingerprint() != g.lead.run.Fingerprint, len(engines) > 0 && !slices.Contains(engines, m.GetFingerprint()):
		return fmt.Errorf("game %s was played by engine %s, which is none of the run's", m.GetPromptId(), m.GetFingerprint())
	}
	switch {
	case !slices.Equal(p.GetPromptIds(), m.GetPromptIds()) || !slices.Equal(p.GetReal().GetTokenIds(), m.GetReal().GetTokenIds()):
		return fmt.Errorf("game %s has another prompt or human answer than the run's data", m.GetPromptId())
	case len(m.GetDraws()) != spec.Draws:
		return fmt.Errorf("game %s has %d draws, the run wants %d", m.GetPromptId(), len(m.GetDraws()), spec.Draws)
	case m.GetSplit() == event.Split_SPLIT_TRAIN && !sameAnswers(m.GetKept(), g.kept[m.GetPromptId()]):
		return fmt.Errorf("game %s keeps other draws than those of iteration %d", m.GetPromptId(), g.at.Number-1)
	}
	return nil
}

// sameAnswers reports whether two lists of draws hold the same tokens.
func sameAnswers(a, b []*event.Draw) bool {
	return slices.EqualFunc(a, b, func(a, b *event.Draw) bool {
		return a.GetSampleId() == b.GetSampleId() && slices.Equal(a.GetResponse().GetTokenIds(), b.GetResponse().GetTokenIds())
	})
}

// await waits for the training games of a batch and returns them in its order, without the holes:
// those are removed in place, so that no other batch moves.
func (g *games) await(ctx context.Context, batch []int) ([]Game, error) {
	wanted := make([]*event.Prompt, len(batch))
	for i, n := range batch {
		wanted[i] = g.lead.prompts.train[n]
	}
	found, err := g.wait(ctx, wanted)
	if err != nil {
		return nil, err
	}
	g.linkTo(ctx, found)
	out := make([]Game, 0, len(found))
	for _, m := range found {
		if m.GetHole() != nil {
			continue
		}
		if own, ok := g.opponent[m.GetPromptId()]; ok {
			out = append(out, own)
		} else {
			out = append(out, trainingGame(m))
		}
	}
	return out, nil
}

// linkTo links the step's span to those in which its games were played.
func (g *games) linkTo(ctx context.Context, found []*event.Game) {
	g.mu.Lock()
	defer g.mu.Unlock()
	origins := make([]telemetry.Origin, 0, len(found))
	for _, m := range found {
		origins = append(origins, g.origins[m.GetPromptId()])
	}
	telemetry.LinkTo(ctx, origins...)
}

// wait returns the games of the prompts, or the holes in their places, when all are there. While it
// waits it looks after the tasks that they are in.
func (g *games) wait(ctx context.Context, prompts []*event.Prompt) ([]*event.Game, error) {
	began := time.Now()
	told := began
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		g.lead.cfg.Metrics.Waiting.Add(time.Since(told).Seconds())
		told = time.Now()
		g.mu.Lock()
		found := make([]*event.Game, 0, len(prompts))
		var missing []string
		for _, p := range prompts {
			if m := g.played[p.GetPromptId()]; m != nil {
				found = append(found, m)
			} else {
				missing = append(missing, p.GetPromptId())
			}
		}
		more, failed := g.more, g.failed
		if failed == nil && len(missing) > 0 {
			failed = g.blocked(missing)
		}
		if failed != nil || len(missing) == 0 {
			g.idle += time.Since(began)
		}
		g.mu.Unlock()
		switch {
		case failed != nil:
			return nil, failed
		case len(missing) == 0:
			return found, nil
		}
		select {
		case <-more:
		case <-look.C:
			if err := g.tasks.lookAfter(ctx, missing); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// lookEvery is how often training that waits looks after what it waits for.
const lookEvery = 200 * time.Millisecond

// trainingGame is a game as the learner takes it.
func trainingGame(m *event.Game) Game {
	g := Game{PromptID: m.GetPromptId(), Prompt: event.DecodeIDs(m.GetPromptIds()), Real: Answer{event.DecodeIDs(m.GetReal().GetTokenIds()), spin.LogP(m.GetReal().GetTokenLogps())}}
	for _, d := range append(m.GetDraws()[:len(m.GetDraws()):len(m.GetDraws())], m.GetKept()...) {
		g.Draws = append(g.Draws, Draw{Answer{event.DecodeIDs(d.GetResponse().GetTokenIds()), spin.LogP(d.GetResponse().GetTokenLogps())}, d.GetIteration(), d.GetDraw()})
	}
	return g
}

// seal waits for every game, held-out ones included, and fixes the training set: its digest is a
// SHA-256 over the content of its games and holes in the order of prompt ids.
func (g *games) seal(ctx context.Context) error {
	all := append(slices.Clone(g.lead.prompts.train), g.lead.prompts.heldout...)
	found, err := g.wait(ctx, all)
	if err != nil {
		return err
	}
	if g.sealed {
		return nil
	}
	g.report(ctx, found)
	var events []run.Event
	for _, m := range found {
		if m.GetHole() != nil && !slices.Contains(g.turn.Holes, m.GetPromptId()) {
			events = append(events, run.Skipped{Prompt: m.GetPromptId()})
		}
	}
	found = slices.DeleteFunc(found, func(m *event.Game) bool { return m.GetSplit() != event.Split_SPLIT_TRAIN })
	slices.SortFunc(found, func(a, b *event.Game) int { return strings.Compare(a.GetPromptId(), b.GetPromptId()) })
	h := sha256.New()
	for _, m := range found {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(content(m))
		if err != nil {
			return fmt.Errorf("digest game %s: %w", m.GetPromptId(), err)
		}
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	digest := hex.EncodeToString(h.Sum(nil))
	g.sealed = true
	if g.turn.Dataset != "" { // an earlier leader sealed it
		if g.turn.Dataset != digest {
			return fmt.Errorf("the training set is %.12s, it was sealed as %.12s", digest, g.turn.Dataset)
		}
		return nil
	}
	return g.turn.apply(ctx, append(events, run.Played{}, run.Sealed{Dataset: digest})...)
}

// prepare comes before the first step, and before what a save restores: in a run with opponent_logps:
// trainer it seals the iteration and scores every pair under θ_t by the learner's own pass. The model in
// training is still θ_t then, so that no second one is needed, whatever engines the generators have.
func (g *games) prepare(ctx context.Context, learner *Learner) error {
	if g.lead.run.Spec.SPIN.OpponentLogps != "trainer" {
		return nil
	}
	if err := g.seal(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	played := maps.Clone(g.played)
	g.mu.Unlock()
	var all []Game
	for _, p := range g.lead.prompts.train {
		if m := played[p.GetPromptId()]; m.GetHole() == nil {
			all = append(all, trainingGame(m))
		}
	}
	if err := learner.Score(all); err != nil {
		return fmt.Errorf("score the opponent: %w", err)
	}
	g.opponent = make(map[string]Game, len(all))
	for _, own := range all {
		g.opponent[own.PromptID] = own
	}
	g.reportEngines(ctx, engineDrift(played, all))
	return nil
}

// foreign reports whether another engine than the trainer's scored some of the games.
func (g *games) foreign(batch []Game) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opponent == nil && slices.ContainsFunc(batch, func(b Game) bool {
		return g.played[b.PromptID].GetFingerprint() != g.lead.run.Fingerprint
	})
}

// content is what a game says: without who played it when, and without the run's id, which is new
// for each run of a spec.
func content(m *event.Game) *event.Game {
	c := proto.CloneOf(m)
	c.Circumstance, c.RunId = nil, ""
	for _, d := range append(c.Draws[:len(c.Draws):len(c.Draws)], c.Kept...) {
		d.SampleId = ""
	}
	return c
}

// keptDraws are the draws of t−1 by prompt, where iteration t trains on them too.
func (l *lead) keptDraws(ctx context.Context, t int) (map[string][]*event.Draw, error) {
	kept := map[string][]*event.Draw{}
	if !l.run.Spec.Mixes(t) {
		return kept, nil
	}
	filter := event.IterationFilter(l.run.ID, event.Games, uint32(t-1))
	err := l.bus.Read(ctx, bus.ReadConfig{Stream: bus.Games, Filters: []string{filter}}, func(d bus.Delivery) error {
		if d.Err != nil {
			return fmt.Errorf("game %s: %w", d.Subject, d.Err)
		}
		m := d.Message.(*event.Game)
		if m.GetSplit() == event.Split_SPLIT_TRAIN && m.GetHole() == nil {
			for _, draw := range m.GetDraws() {
				kept[m.GetPromptId()] = append(kept[m.GetPromptId()], bare(draw))
			}
		}
		return nil
	})
	return kept, err
}

// bare is a draw without what another θ said of it.
func bare(d *event.Draw) *event.Draw {
	r := d.GetResponse()
	return &event.Draw{
		SampleId: d.GetSampleId(), Iteration: d.GetIteration(), Draw: d.GetDraw(),
		Response: &event.Response{Text: r.GetText(), TokenIds: r.GetTokenIds(), FinishReason: r.GetFinishReason()},
	}
}

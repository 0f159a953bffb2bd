package train

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/spin"
)

// games are those of one iteration, collected from the stream as they come and handed to training
// in its own order.
type games struct {
	lead  *lead
	turn  *turn
	holes map[string]bool
	kept  map[string][]*event.Draw // of t−1, by prompt
	again map[string]uint32        // prompts that were dead letters before this attempt, and how often

	mu     sync.Mutex
	played map[string]*event.Game
	dead   map[string]*event.DeadLetter // prompts that nobody could play; "": one that names no prompt
	failed error
	more   chan struct{} // closed and replaced with each arrival
}

// playGames publishes the iteration's tasks and collects its games. stop ends both.
func (l *lead) playGames(ctx context.Context, t *turn) (g *games, stop func(), err error) {
	kept, err := l.keptDraws(ctx, t.Number)
	if err != nil {
		return nil, nil, err
	}
	g = &games{
		lead: l, turn: t, kept: kept, holes: map[string]bool{}, again: map[string]uint32{},
		played: map[string]*event.Game{}, dead: map[string]*event.DeadLetter{}, more: make(chan struct{}),
	}
	for _, id := range t.Holes {
		g.holes[id] = true
	}
	letters, err := g.oldLetters(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	working.Go(func() { g.fail(ctx, g.collect(ctx)) })
	working.Go(func() { g.fail(ctx, g.followLetters(ctx, letters)) })
	working.Go(func() { g.fail(ctx, g.publishTasks(ctx)) })
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

func (g *games) wake() {
	close(g.more)
	g.more = make(chan struct{})
}

// collect follows the iteration's games in the stream.
func (g *games) collect(ctx context.Context) error {
	filter := event.IterationFilter(g.lead.run.ID, event.Games, uint32(g.turn.Number))
	return g.lead.bus.Read(ctx, bus.ReadConfig{Stream: bus.Games, Filters: []string{filter}, Follow: true}, func(d bus.Delivery) error {
		if d.Err != nil {
			return fmt.Errorf("game %s: %w", d.Subject, d.Err)
		}
		game := d.Message.(*event.Game)
		if err := g.check(game); err != nil {
			return err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		fault.Point(fault.TrainerCollected)
		g.played[game.GetPromptId()] = game
		g.wake()
		return nil
	})
}

// check refuses a game that the run did not ask for. A game is first write wins, so one that is
// wrong stays: better no result than one of unknown making.
func (g *games) check(m *event.Game) error {
	if m.GetHole() != nil {
		return nil
	}
	spec := g.lead.run.Spec
	switch engines := spec.Engine.Engines; {
	case m.GetWeightsSha256() != g.turn.Opponent:
		return fmt.Errorf("game %s was played by weights %.12s, the opponent is %.12s", m.GetPromptId(), m.GetWeightsSha256(), g.turn.Opponent)
	case m.GetTemplateId() != g.lead.base.Template.ID():
		return fmt.Errorf("game %s was rendered by template %s, the run's is %s", m.GetPromptId(), m.GetTemplateId(), g.lead.base.Template.ID())
	case len(engines) == 0 && m.GetFingerprint() != g.lead.run.Fingerprint, len(engines) > 0 && !slices.Contains(engines, m.GetFingerprint()):
		return fmt.Errorf("game %s was played by engine %s, which is none of the run's", m.GetPromptId(), m.GetFingerprint())
	}
	p := g.lead.prompts.find(m.GetIndex())
	switch {
	case p.GetPromptId() != m.GetPromptId() || p.GetSplit() != m.GetSplit():
		return fmt.Errorf("game %s is not prompt %d of the run's %s prompts", m.GetPromptId(), m.GetIndex(), m.GetSplit().Token())
	case !slices.Equal(p.GetPromptIds(), m.GetPromptIds()) || !slices.Equal(p.GetReal().GetTokenIds(), m.GetReal().GetTokenIds()):
		return fmt.Errorf("game %s has another prompt or human answer than the run's data", m.GetPromptId())
	case len(m.GetDraws()) != spec.Draws:
		return fmt.Errorf("game %s has %d draws, the run wants %d", m.GetPromptId(), len(m.GetDraws()), spec.Draws)
	case m.GetSplit() == event.Split_SPLIT_TRAIN && !sameAnswers(m.GetKept(), g.kept[m.GetPromptId()]):
		return fmt.Errorf("game %s keeps other draws than those of iteration %d", m.GetPromptId(), g.turn.Number-1)
	}
	return nil
}

// sameAnswers reports whether two lists of draws hold the same tokens.
func sameAnswers(a, b []*event.Draw) bool {
	return slices.EqualFunc(a, b, func(a, b *event.Draw) bool {
		return a.GetSampleId() == b.GetSampleId() && slices.Equal(a.GetResponse().GetTokenIds(), b.GetResponse().GetTokenIds())
	})
}

// hole reports whether training game i is skipped.
func (g *games) hole(i int) bool { return g.holes[g.lead.prompts.train[i].GetPromptId()] }

// await waits for the training games of a batch and returns them in its order.
func (g *games) await(ctx context.Context, batch []int) ([]Game, error) {
	wanted := make([]*event.Prompt, len(batch))
	for i, n := range batch {
		wanted[i] = g.lead.prompts.train[n]
	}
	found, err := g.wait(ctx, wanted)
	if err != nil {
		return nil, err
	}
	out := make([]Game, len(found))
	for i, m := range found {
		out[i] = trainingGame(m)
	}
	return out, nil
}

// wait returns the games of the prompts when all are there.
func (g *games) wait(ctx context.Context, prompts []*event.Prompt) ([]*event.Game, error) {
	for {
		g.mu.Lock()
		found := make([]*event.Game, 0, len(prompts))
		for _, p := range prompts {
			if m := g.played[p.GetPromptId()]; m != nil {
				found = append(found, m)
			}
		}
		more, failed := g.more, g.failed
		if failed == nil && len(found) < len(prompts) {
			failed = g.blocked(prompts)
		}
		g.mu.Unlock()
		switch {
		case failed != nil:
			return nil, failed
		case len(found) == len(prompts):
			return found, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// trainingGame is a game as the learner takes it.
func trainingGame(m *event.Game) Game {
	g := Game{PromptID: m.GetPromptId(), Prompt: event.DecodeIDs(m.GetPromptIds()), Real: Answer{event.DecodeIDs(m.GetReal().GetTokenIds()), spin.LogP(m.GetReal().GetTokenLogps())}}
	for _, d := range append(m.GetDraws()[:len(m.GetDraws()):len(m.GetDraws())], m.GetKept()...) {
		g.Draws = append(g.Draws, Draw{Answer{event.DecodeIDs(d.GetResponse().GetTokenIds()), spin.LogP(d.GetResponse().GetTokenLogps())}, d.GetIteration(), d.GetDraw()})
	}
	return g
}

// seal waits for every game, held-out ones included, and returns the digest of the training set: a
// SHA-256 over its games' content in the order of prompt ids.
func (g *games) seal(ctx context.Context) (string, error) {
	all := append(slices.Clone(g.lead.prompts.train), g.lead.prompts.heldout...)
	all = slices.DeleteFunc(all, func(p *event.Prompt) bool { return g.holes[p.GetPromptId()] })
	found, err := g.wait(ctx, all)
	if err != nil {
		return "", err
	}
	found = slices.DeleteFunc(found, func(m *event.Game) bool { return m.GetSplit() != event.Split_SPLIT_TRAIN })
	slices.SortFunc(found, func(a, b *event.Game) int { return strings.Compare(a.GetPromptId(), b.GetPromptId()) })
	h := sha256.New()
	for _, m := range found {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(content(m))
		if err != nil {
			return "", fmt.Errorf("digest game %s: %w", m.GetPromptId(), err)
		}
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
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

// publishTasks queues the iteration's chunks in the order in which epoch 1 uses them, those of
// held-out games last. Chunks whose games are all there are left out. A full queue is waited for.
//
// A prompt that was a dead letter gets a task of its own, with a new identity: going on with a
// blocked run is to try it again.
func (g *games) publishTasks(ctx context.Context) error {
	l, spec := g.lead, g.lead.run.Spec
	there, err := l.bus.Subjects(ctx, bus.Games, event.IterationFilter(l.run.ID, event.Games, uint32(g.turn.Number)))
	if err != nil {
		return err
	}
	order := run.Order(spec.Seed, g.turn.Stage, g.turn.Number, 1, len(l.prompts.train))
	for _, planned := range run.PlanChunks(order, len(l.prompts.heldout), spec.ChunkSize(g.turn.Number)) {
		chunk, singles := g.chunk(planned, there)
		if len(chunk.Prompts) > 0 {
			singles = append(singles, chunk)
		}
		for _, c := range singles {
			if err := g.enqueue(ctx, c); err != nil {
				return err
			}
			fault.Point(fault.TrainerQueued)
		}
	}
	return nil
}

// enqueue waits for room in the queue.
func (g *games) enqueue(ctx context.Context, c *event.Chunk) error {
	for {
		_, err := g.lead.bus.Enqueue(ctx, c)
		if err == nil || !errors.Is(err, bus.ErrFull) {
			return err
		}
		select {
		case <-time.After(fullRetry):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// fullRetry is how often a full queue is tried again: a fraction of a task's time.
const fullRetry = 100 * time.Millisecond

// chunk fills a planned chunk with the prompts that have no game yet; those that were dead letters
// come apart.
func (g *games) chunk(planned run.PlannedChunk, there map[string]uint64) (c *event.Chunk, singles []*event.Chunk) {
	l, spec, t := g.lead, g.lead.run.Spec, uint32(g.turn.Number)
	c = &event.Chunk{
		RunId: l.run.ID, Iteration: t, Chunk: uint32(planned.Number), WeightsSha256: g.turn.Opponent, TemplateId: l.base.Template.ID(),
		Sampling: &event.Sampling{
			Seed: spec.Seed, Temperature: float32(spec.Sampling.Temperature), TopP: float32(spec.Sampling.TopP),
			TopK: uint32(spec.Sampling.TopK), MaxNewTokens: uint32(spec.Sampling.MaxNewTokens),
		},
		Draws: uint32(spec.Draws), Engines: spec.Engine.Engines,
		Circumstance: l.circumstance(g.turn.Attempt),
	}
	if len(c.Engines) == 0 {
		c.Engines = []string{l.run.Fingerprint}
	}
	from := l.prompts.train
	if planned.Heldout {
		from = l.prompts.heldout
	}
	var again []*event.Prompt
	for _, i := range planned.Games {
		p := from[i]
		if _, played := there[event.GameSubject(l.run.ID, t, p.GetPromptId())]; played || g.holes[p.GetPromptId()] {
			continue
		}
		p = proto.CloneOf(p)
		if !planned.Heldout {
			p.Kept = g.kept[p.GetPromptId()]
		}
		if g.again[p.GetPromptId()] > 0 {
			again = append(again, p)
		} else {
			c.Prompts = append(c.Prompts, p)
		}
	}
	for _, p := range again {
		single := proto.CloneOf(c)
		single.Single, single.Hedge, single.Prompts = true, g.again[p.GetPromptId()], []*event.Prompt{p}
		singles = append(singles, single)
	}
	return c, singles
}

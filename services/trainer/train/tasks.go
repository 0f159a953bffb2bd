package train

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/fleet"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// tasks are what generators are asked for in an iteration: the planned chunks, and copies of them for
// games that were refused, given up and tried again, or that a slow generator has in hand (hedges).
// What is in it is guarded by games.mu.
type tasks struct {
	games   *games
	hedging fleet.Hedging
	order   []string           // prompts as they are planned
	planned map[string]int     // chunk of each prompt
	copies  map[string]*copied // by task
	of      map[string][]*copied
	hedged  map[string]int // copies that were made of a prompt because it was slow
	made    int            // hedges in all
	next    uint32         // the next copy's number
	took    fleet.Durations
	counted time.Time // when the queue was looked at
	empty   time.Time // since when the queue has been seen to be empty while games are missing
}

// copied is one task that was published.
type copied struct {
	prompts []string
	taken   time.Time // zero: not in anybody's hands
	holder  string
	counted bool // its duration is known
}

func newTasks(g *games) *tasks {
	t := &tasks{
		games: g, hedging: fleet.DefaultHedging(), planned: map[string]int{}, copies: map[string]*copied{}, of: map[string][]*copied{},
		hedged: map[string]int{}, next: 1,
	}
	for _, c := range t.plan() {
		for _, p := range t.prompts(c) {
			t.order = append(t.order, p.GetPromptId())
			t.planned[p.GetPromptId()] = c.Number
		}
	}
	return t
}

// plan cuts the iteration's games into chunks, in the order in which epoch 1 uses them, those of
// held-out games last.
func (t *tasks) plan() []run.PlannedChunk {
	l, spec, number := t.games.lead, t.games.lead.run.Spec, t.games.at.Number
	order := run.Order(spec.Seed, t.games.at.Stage, number, 1, len(l.prompts.train))
	return run.PlanChunks(order, len(l.prompts.heldout), spec.ChunkSize(number))
}

func (t *tasks) prompts(c run.PlannedChunk) []*event.Prompt {
	from := t.games.lead.prompts.train
	if c.Heldout {
		from = t.games.lead.prompts.heldout
	}
	var out []*event.Prompt
	for _, i := range c.Games {
		out = append(out, from[i])
	}
	return out
}

// publish queues the planned chunks, without the games that are there or given up. A full queue is
// waited for: it is the back-pressure.
func (t *tasks) publish(ctx context.Context) error {
	for _, planned := range t.plan() {
		var wanted []*event.Prompt
		t.games.mu.Lock()
		for _, p := range t.prompts(planned) {
			id := p.GetPromptId()
			if t.games.played[id] == nil && t.games.dead[id] == nil && len(t.of[id]) == 0 {
				wanted = append(wanted, p)
			}
		}
		t.games.mu.Unlock()
		if len(wanted) == 0 {
			continue
		}
		if _, err := t.enqueue(ctx, t.chunk(planned.Number, wanted)); err != nil {
			return err
		}
		fault.Point(fault.TrainerQueued)
	}
	return nil
}

// again queues prompts as tasks of their own.
func (t *tasks) again(ctx context.Context, ids []string) error {
	for _, id := range ids {
		c := t.chunk(t.planned[id], []*event.Prompt{t.games.lead.prompts.byID(id)})
		c.Single = true
		if err := t.repeat(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// repeat queues a copy of a task, under an identity that the queue has not seen.
func (t *tasks) repeat(ctx context.Context, c *event.Chunk) error {
	for {
		t.games.mu.Lock()
		c.Hedge = t.next
		t.next++
		t.games.mu.Unlock()
		queued, err := t.enqueue(ctx, c)
		if queued || err != nil {
			return err
		}
	}
}

// enqueue waits for room in the queue. A task that no message can hold comes apart; one prompt that no
// message can hold is given up.
func (t *tasks) enqueue(ctx context.Context, c *event.Chunk) (queued bool, err error) {
	t.register(c)
	ctx, span := t.games.lead.cfg.Metrics.Tracer.Start(ctx, "queue", telemetry.Producer,
		telemetry.Text("spin.run", c.GetRunId()), telemetry.Count("spin.iteration", c.GetIteration()), telemetry.Count("spin.chunk", c.GetChunk()))
	defer span.End()
	for {
		queued, err = t.games.lead.bus.Enqueue(ctx, c)
		if errors.Is(err, event.ErrInvalid) && len(c.GetPrompts()) > 1 {
			for _, single := range c.Split() {
				if queued, err = t.enqueue(ctx, single); err != nil {
					return false, err
				}
			}
			return queued, nil
		}
		if !errors.Is(err, bus.ErrFull) {
			return queued, err
		}
		select {
		case <-time.After(fullRetry):
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// fullRetry is how often a full queue is tried again: a fraction of a task's time.
const fullRetry = 100 * time.Millisecond

// chunk is a task of the iteration.
func (t *tasks) chunk(number int, prompts []*event.Prompt) *event.Chunk {
	g := t.games
	l, spec := g.lead, g.lead.run.Spec
	c := &event.Chunk{
		RunId: l.run.ID, Iteration: uint32(g.at.Number), Chunk: uint32(number), WeightsSha256: g.at.Opponent, TemplateId: l.base.Template.ID(),
		Sampling: &event.Sampling{
			Seed: spec.Seed, Temperature: float32(spec.Sampling.Temperature), TopP: float32(spec.Sampling.TopP),
			TopK: uint32(spec.Sampling.TopK), MaxNewTokens: uint32(spec.Sampling.MaxNewTokens),
		},
		Draws: uint32(spec.Draws), Engines: spec.Engine.Engines, Circumstance: l.circumstance(g.at.Attempt),
	}
	if len(c.Engines) == 0 {
		c.Engines = []string{l.run.Fingerprint}
	}
	for _, p := range prompts {
		p = proto.CloneOf(p)
		if p.GetSplit() == event.Split_SPLIT_TRAIN {
			p.Kept = g.kept[p.GetPromptId()]
		}
		c.Prompts = append(c.Prompts, p)
	}
	return c
}

// register notes a task that is about to be queued.
func (t *tasks) register(c *event.Chunk) {
	t.games.mu.Lock()
	defer t.games.mu.Unlock()
	var ids []string
	for _, p := range c.GetPrompts() {
		ids = append(ids, p.GetPromptId())
	}
	t.add(c.Task(), ids)
}

func (t *tasks) add(task string, prompts []string) *copied {
	c := t.copies[task]
	if c == nil {
		c = &copied{prompts: prompts}
		t.copies[task] = c
		for _, id := range prompts {
			t.of[id] = append(t.of[id], c)
		}
	}
	return c
}

// follow notes who has which task in hand. Times are this process's own.
func (t *tasks) follow(ctx context.Context) error {
	return t.games.lead.bus.WatchTasks(ctx, t.games.lead.run.ID, uint32(t.games.at.Number), func(task string, attempts []fleet.Attempt) {
		t.games.mu.Lock()
		defer t.games.mu.Unlock()
		c := t.copies[task]
		if c == nil { // a prompt that a worker split off, or a task of an earlier leader
			prompt := task[strings.LastIndexByte(task, '.')+1:]
			if _, ours := t.planned[prompt]; !ours || strings.Count(task, ".") < 3 {
				return
			}
			c = t.add(task, []string{prompt})
		}
		if n := len(attempts); n > 0 && attempts[n-1].Error == "" {
			c.taken, c.holder = time.Now(), attempts[n-1].Instance
			t.count(c)
			return
		}
		t.count(c)
		c.taken, c.holder = time.Time{}, ""
	})
}

// arrived counts the tasks that a game was the last of. The caller holds games.mu.
func (t *tasks) arrived(prompt string) {
	for _, c := range t.of[prompt] {
		t.count(c)
	}
}

// count takes the duration of a task that is complete, once.
func (t *tasks) count(c *copied) {
	if c.counted || c.taken.IsZero() || slices.ContainsFunc(c.prompts, func(id string) bool { return t.games.played[id] == nil }) {
		return
	}
	c.counted = true
	t.took.Add(time.Since(c.taken))
}

// lookAfter publishes again what training waits for and somebody has had in hand for too long, and what
// the queue has lost. Where one task holds up training, all that are as late are published again: they
// would hold it up one after the other.
func (t *tasks) lookAfter(ctx context.Context, missing []string) error {
	if slow := t.slow(missing); len(slow) > 0 {
		slow = t.slow(t.order)
		members, err := t.games.lead.bus.Members(ctx, "generator")
		if err != nil {
			return err
		}
		for _, s := range slow {
			if !s.due(t, members) {
				continue
			}
			if err := t.hedge(ctx, s); err != nil {
				return err
			}
		}
	}
	return t.recover(ctx)
}

// suspect is a task that may be too slow.
type suspect struct {
	task    *copied
	holder  string
	out     time.Duration
	copies  int
	missing []string // its prompts that have no game
}

// slow are the tasks that hold prompts without a game and have been out for long, whoever else is there.
func (t *tasks) slow(missing []string) []suspect {
	t.games.mu.Lock()
	defer t.games.mu.Unlock()
	var found []suspect
	for _, id := range missing {
		if len(t.of[id]) == 0 || t.games.played[id] != nil {
			continue
		}
		c := t.of[id][len(t.of[id])-1]
		if c.taken.IsZero() || slices.ContainsFunc(found, func(s suspect) bool { return s.task == c }) {
			continue
		}
		s := suspect{task: c, holder: c.holder, out: time.Since(c.taken), copies: t.hedged[id]}
		if !t.hedging.Due(s.out, s.copies, true, &t.took) {
			continue
		}
		for _, p := range c.prompts {
			if t.games.played[p] == nil {
				s.missing = append(s.missing, p)
			}
		}
		found = append(found, s)
	}
	return found
}

// due asks once more, knowing who is there.
func (s suspect) due(t *tasks, members []string) bool {
	others := slices.ContainsFunc(members, func(m string) bool { return m != s.holder })
	t.games.mu.Lock()
	defer t.games.mu.Unlock()
	return t.hedging.Due(s.out, s.copies, others, &t.took)
}

// hedge publishes a slow task again, for another generator.
func (t *tasks) hedge(ctx context.Context, s suspect) error {
	var prompts []*event.Prompt
	t.games.mu.Lock()
	for _, id := range s.missing {
		prompts = append(prompts, t.games.lead.prompts.byID(id))
		t.hedged[id]++
	}
	t.made++
	median := t.took.Median()
	t.games.mu.Unlock()
	t.games.lead.cfg.Metrics.Hedges.Inc()
	number := t.planned[s.missing[0]]
	t.games.lead.note(ctx, event.Level_LEVEL_INFO, "hedge", uint32(t.games.at.Number),
		fmt.Sprintf("chunk %d has been with %s for %.1f s, the median is %.1f s: it is published again", number, s.holder, s.out.Seconds(), median.Seconds()),
		map[string]any{"chunk": number, "holder": s.holder, "out_seconds": s.out.Seconds(), "median_seconds": median.Seconds(), "games": len(s.missing), "copies": s.copies})
	return t.repeat(ctx, t.chunk(number, prompts))
}

// recover publishes what is missing again when the queue has been empty for a while: a broker that lost
// acknowledged tasks, or an earlier leader that died between removing a game and queueing it again.
func (t *tasks) recover(ctx context.Context) error {
	if time.Since(t.counted) < time.Second {
		return nil
	}
	t.counted = time.Now()
	waiting, leased, err := t.games.lead.bus.QueueDepth(ctx, t.games.lead.run.ID)
	if err != nil {
		return err
	}
	if waiting+leased > 0 {
		t.empty = time.Time{}
		return nil
	}
	if t.empty.IsZero() {
		t.empty = time.Now()
		return nil
	}
	if time.Since(t.empty) < lostAfter {
		return nil
	}
	t.empty = time.Time{}
	t.games.mu.Lock()
	lost := slices.DeleteFunc(slices.Clone(t.order), func(id string) bool {
		return t.games.played[id] != nil || t.games.dead[id] != nil || len(t.of[id]) == 0
	})
	t.games.mu.Unlock()
	if len(lost) == 0 {
		return nil
	}
	t.games.lead.note(ctx, event.Level_LEVEL_WARN, "tasks_lost", uint32(t.games.at.Number),
		fmt.Sprintf("the queue is empty and %d games are missing: they are queued again", len(lost)), map[string]any{"games": len(lost)})
	return t.again(ctx, lost)
}

// lostAfter is how long an empty queue is watched before its tasks count as lost: games of the last
// ones, published before their tasks are acknowledged, have long arrived.
const lostAfter = 3 * time.Second

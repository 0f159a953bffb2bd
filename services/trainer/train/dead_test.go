package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/bustest"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fleet"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// work starts a generator that does what handle says, and is known to be there.
func (p *plane) work(t *testing.T, instance string, handle func(ctx context.Context, l *bus.Lease) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	joined := make(chan struct{})
	working.Go(func() {
		_ = p.conn.Join(ctx, "generator", instance, func(ctx context.Context) error { close(joined); <-ctx.Done(); return nil })
	})
	<-joined
	working.Go(func() {
		_ = p.conn.Work(ctx, bus.WorkConfig{Instance: instance, Slots: 1, Service: "generator"}, handle)
	})
	t.Cleanup(func() { cancel(); working.Wait() })
}

// playAll publishes a made-up game for each prompt of a task.
func (p *plane) playAll(ctx context.Context, l *bus.Lease) error {
	for _, prompt := range l.Chunk.GetPrompts() {
		if _, err := p.conn.PublishOnce(ctx, madeUp(l.Chunk, prompt)); err != nil {
			return err
		}
	}
	return nil
}

// deadLetters are those of a run.
func (p *plane) deadLetters(t *testing.T, id string) (all []*event.DeadLetter, seqs []uint64) {
	t.Helper()
	must(t, p.conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Dead, Filters: []string{event.Filter(id, event.Dead)}}, func(d bus.Delivery) error {
		all, seqs = append(all, d.Message.(*event.DeadLetter)), append(seqs, d.Seq)
		return d.Err
	}))
	return all, seqs
}

// events counts a run's events by kind.
func (p *plane) events(t *testing.T, id string) map[string]int {
	t.Helper()
	n := map[string]int{}
	must(t, p.conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Events, Filters: []string{event.Filter(id, event.Events)}}, func(d bus.Delivery) error {
		e := d.Message.(*event.Event)
		n[e.GetKind()+" "+e.GetLevel().Token()]++
		return d.Err
	}))
	return n
}

// pairs are the prompts of each step, in order.
func (p *plane) pairs(t *testing.T, id string) (steps [][]string) {
	t.Helper()
	must(t, p.conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Steps, Filters: []string{event.Filter(id, event.Pairs)}}, func(d bus.Delivery) error {
		var prompts []string
		for _, x := range d.Message.(*event.PairTraces).GetPairs() {
			prompts = append(prompts, x.GetPromptId())
		}
		steps = append(steps, prompts)
		return d.Err
	}))
	return steps
}

func (p *plane) iteration(t *testing.T, id string, number int) run.Iteration {
	t.Helper()
	it, _, err := bus.State[run.Iteration]{Bucket: p.conn.Control()}.Load(t.Context(), run.IterationKey(id, run.SPINStage, number))
	must(t, err)
	return it
}

func (p *plane) answer(t *testing.T, id string, seq uint64, a run.Answer) {
	t.Helper()
	_, err := bus.State[run.Answer]{Bucket: p.conn.Control()}.Create(t.Context(), run.AnswerKey(id, seq), a)
	must(t, err)
}

// A prompt that no generator can play blocks the run, says so, and waits for a person: to play it again,
// or to go on without it.
func TestBlocked(t *testing.T) {
	for _, split := range []event.Split{event.Split_SPLIT_TRAIN, event.Split_SPLIT_HELDOUT} {
		for _, action := range []run.Action{run.Requeue, run.Skip} {
			t.Run(fmt.Sprintf("%s, %s", split.Token(), action), func(t *testing.T) {
				p := newPlane(t)
				var mu sync.Mutex
				healed, victim := false, ""
				p.generator(t, func(prompt *event.Prompt) bool {
					mu.Lock()
					defer mu.Unlock()
					if victim == "" && prompt.GetSplit() == split {
						victim = prompt.GetPromptId()
					}
					return !healed && prompt.GetPromptId() == victim
				})
				id := p.submit(t, tinySpec(t))
				blocked := func() uint64 {
					t.Helper()
					if err := p.trainer.Lead(t.Context(), id); !errors.Is(err, ErrBlocked) {
						t.Fatalf("a run with a poisoned prompt ends with %v, want ErrBlocked", err)
					}
					_, seqs := p.deadLetters(t, id)
					last := seqs[len(seqs)-1]
					r, _ := p.load(t, id)
					for _, want := range []string{victim, "this prompt is poisoned", fmt.Sprintf("`spin dead requeue %d`", last), fmt.Sprintf("`spin dead skip %d`", last)} {
						if r.Status != run.Blocked || !strings.Contains(r.Reason, want) {
							t.Errorf("the run is %s: %s; want blocked, with %q", r.Status, r.Reason, want)
						}
					}
					return last
				}
				first := blocked()
				p.command(t, id, run.Resume) // says nothing about the letter
				if again := blocked(); again != first {
					t.Errorf("going on made letter %d beside %d: nobody asked for another try", again, first)
				}
				if action == run.Requeue {
					p.answer(t, id, first, run.Answer{Action: run.Requeue, At: time.Now()}) // without a cure it comes to the same
					p.command(t, id, run.Resume)
					if again := blocked(); again == first {
						t.Error("another try made no letter of its own")
					} else {
						first = again
					}
					mu.Lock()
					healed = true
					mu.Unlock()
				}
				p.answer(t, id, first, run.Answer{Action: action, At: time.Now()})
				p.command(t, id, run.Resume)
				must(t, p.trainer.Lead(t.Context(), id))
				it := p.iteration(t, id, 0)
				if want := action == run.Skip; (len(it.Holes) == 1 && it.Holes[0] == victim) != want || len(it.Holes) > 1 {
					t.Errorf("the holes are %v", it.Holes)
				}
				if n := p.events(t, id)["blocked alarm"]; n < 2 {
					t.Errorf("%d alarms, want one each time", n)
				}
			})
		}
	}
}

// max_missing makes a hole where a person would have said skip: the same hole, the same digests. It is
// removed in place: no other batch moves.
func TestHoles(t *testing.T) {
	spec := tinySpec(t)
	spec.Iterations = 2
	spec.SPIN.MixPrevious = run.Each(true)
	var mu sync.Mutex
	later := false // iteration 1 has begun
	poisoned := "" // the first training prompt that is asked for, in iteration 0
	play := func(max int, poison func(*event.Prompt) bool, skip bool) (run.Iteration, run.Iteration, [][]string) {
		t.Helper()
		later = false
		p := newPlane(t)
		p.generator(t, poison)
		s := spec
		s.MaxMissing = max
		id := p.submit(t, s)
		err := p.trainer.Lead(t.Context(), id)
		if skip {
			if !errors.Is(err, ErrBlocked) {
				t.Fatal(err)
			}
			_, seqs := p.deadLetters(t, id)
			p.answer(t, id, seqs[0], run.Answer{Action: run.Skip})
			p.command(t, id, run.Resume)
			err = p.trainer.Lead(t.Context(), id)
		}
		must(t, err)
		return p.iteration(t, id, 0), p.iteration(t, id, 1), p.pairs(t, id)
	}
	victim := func(p *event.Prompt) bool {
		mu.Lock()
		defer mu.Unlock()
		if poisoned == "" && p.GetSplit() == event.Split_SPLIT_TRAIN {
			poisoned = p.GetPromptId()
		}
		if p.GetPromptId() != poisoned && len(p.GetKept()) > 0 {
			later = true
		}
		return p.GetPromptId() == poisoned && !later
	}
	whole, _, steps := play(0, func(*event.Prompt) bool { return false }, false)
	zero, one, holed := play(1, victim, false)
	zeroSkipped, oneSkipped, _ := play(0, victim, true)
	if !slices.Equal(zero.Holes, []string{poisoned}) || len(whole.Holes) != 0 {
		t.Fatalf("the holes are %v and %v, want %s", whole.Holes, zero.Holes, poisoned)
	}
	if zero.Dataset != zeroSkipped.Dataset || zero.Result != zeroSkipped.Result || one.Result != oneSkipped.Result || one.Dataset != oneSkipped.Dataset {
		t.Errorf("max_missing gives data %.12s and weights %.12s, then %.12s; a person's skip %.12s, %.12s, %.12s",
			zero.Dataset, zero.Result, one.Result, zeroSkipped.Dataset, zeroSkipped.Result, oneSkipped.Result)
	}
	if zero.Dataset == whole.Dataset || zero.Result == whole.Result {
		t.Error("a hole makes no difference")
	}
	if len(holed) != len(steps) {
		t.Fatalf("%d steps, %d without a hole", len(holed), len(steps))
	}
	for i := range steps {
		want := slices.Clone(steps[i])
		if i < 2 { // iteration 0: the hole itself
			want = slices.DeleteFunc(want, func(id string) bool { return id == poisoned })
		} else if at := slices.Index(want, poisoned); at >= 0 { // iteration 1: it has no kept draw
			want = slices.Delete(want, at, at+1)
		}
		if !slices.Equal(holed[i], want) {
			t.Errorf("step %d is on %v, want %v", i+1, holed[i], want)
		}
	}
}

// More prompts than max_missing allows block the run.
func TestMaxMissingIsABound(t *testing.T) {
	p := newPlane(t)
	p.generator(t, func(prompt *event.Prompt) bool {
		return prompt.GetSplit() == event.Split_SPLIT_TRAIN && prompt.GetIndex() < 3
	})
	spec := tinySpec(t)
	spec.MaxMissing = 2
	id := p.submit(t, spec)
	if err := p.trainer.Lead(t.Context(), id); !errors.Is(err, ErrBlocked) {
		t.Fatalf("three missing games of two allowed end with %v, want ErrBlocked", err)
	}
	if n := p.events(t, id)["hole warn"]; n != 2 {
		t.Errorf("%d holes, want 2", n)
	}
}

// Games that the run did not ask for are taken out of the stream, become dead letters, and are played
// again: the run ends as if they had not been.
func TestRefusedGames(t *testing.T) {
	spec := tinySpec(t)
	undisturbed := newPlane(t)
	undisturbed.generator(t, func(*event.Prompt) bool { return false })
	want := undisturbed.submit(t, spec)
	must(t, undisturbed.trainer.Lead(t.Context(), want))

	p := newPlane(t)
	id := p.submit(t, spec)
	wrong := []struct {
		reason string
		with   func(*event.Game)
	}{
		{"played by wrong weights", func(m *event.Game) { m.WeightsSha256 = strings.Repeat("cd", 32) }},
		{"rendered by template", func(m *event.Game) { m.TemplateId = "x" }},
		{"played by engine", func(m *event.Game) { m.Fingerprint = "cuda/bf16" }},
		{"another prompt or human answer", func(m *event.Game) { m.PromptIds = append([]uint32{3}, m.PromptIds...) }},
		{"is not prompt", func(m *event.Game) { m.Index = 99 }},
	}
	var mu sync.Mutex
	spoiled := map[string]bool{}
	p.work(t, "generator-1", func(ctx context.Context, l *bus.Lease) error {
		for _, prompt := range l.Chunk.GetPrompts() {
			m := madeUp(l.Chunk, prompt)
			mu.Lock()
			n, first := len(spoiled), !spoiled[prompt.GetPromptId()]
			spoiled[prompt.GetPromptId()] = true
			mu.Unlock()
			var err error
			switch {
			case first && n < 5:
				wrong[n].with(m)
				m.Circumstance = &event.Circumstance{Instance: "generator-1"}
				_, err = p.conn.PublishOnce(ctx, m)
			case first && n == 5:
				bustest.PublishRaw(t, p.server, m.Subject(), "spin.v9.Game", []byte("{}"))
			case first && n == 6:
				bustest.PublishRaw(t, p.server, m.Subject(), "spin.v1.Game", []byte("junk"))
			default:
				_, err = p.conn.PublishOnce(ctx, m)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	// A game that nobody asked for at all.
	stray := madeUp(&event.Chunk{RunId: id, WeightsSha256: strings.Repeat("ab", 32), TemplateId: "x", Draws: 1, Engines: []string{"x"}, Sampling: &event.Sampling{TopP: 1, MaxNewTokens: 1}},
		&event.Prompt{PromptId: "stray", Split: event.Split_SPLIT_HELDOUT, Messages: []*event.ChatMessage{{Role: "user"}}, PromptIds: []uint32{1}, Real: &event.Response{TokenIds: []uint32{1}}})
	_, err := p.conn.PublishOnce(t.Context(), stray)
	must(t, err)

	must(t, p.trainer.Lead(t.Context(), id))
	letters, _ := p.deadLetters(t, id)
	var reasons []string
	for _, l := range letters {
		if l.GetStream() != event.Games || l.GetIteration() != 0 || l.GetPromptId() == "" || len(l.GetPayload()) == 0 {
			t.Errorf("letter %v", l)
		}
		reasons = append(reasons, l.GetReason())
	}
	if len(letters) != 8 {
		t.Errorf("%d dead letters, want 8: %q", len(letters), reasons)
	}
	for _, want := range append([]string{"spin.v9.Game", "stray"}, wrong[0].reason, wrong[1].reason, wrong[2].reason, wrong[3].reason, wrong[4].reason) {
		if !slices.ContainsFunc(reasons, func(r string) bool { return strings.Contains(r, want) }) {
			t.Errorf("no letter says %q: %q", want, reasons)
		}
	}
	a, b := undisturbed.iteration(t, want, 0), p.iteration(t, id, 0)
	if a.Dataset != b.Dataset || a.Result != b.Result {
		t.Errorf("the run ends with data %.12s and weights %.12s, undisturbed with %.12s and %.12s", b.Dataset, b.Result, a.Dataset, a.Result)
	}
	alarms, err := p.conn.Subjects(t.Context(), bus.Events, event.Filter(id, event.Events, "trainer"))
	must(t, err)
	for _, kind := range []string{"wrong_weights", "game_refused"} {
		if alarms[(&event.Event{RunId: id, Service: "trainer", Kind: kind}).Subject()] == 0 {
			t.Errorf("no event %s among %v", kind, alarms)
		}
	}
	subjects, err := p.conn.Subjects(t.Context(), bus.Games, event.Filter(id, event.Games))
	must(t, err)
	if len(subjects) != 8 {
		t.Errorf("%d games in the stream, want 8", len(subjects))
	}
}

// A message in a run's queue that is no task of its own becomes a dead letter and holds up nothing.
func TestJunkInTheQueue(t *testing.T) {
	p := newPlane(t)
	id := p.submit(t, tinySpec(t))
	must(t, p.conn.OpenQueue(t.Context(), id))
	bustest.PublishRaw(t, p.server, "spin."+id+".prompts.0", "spin.v9.Chunk", []byte("junk"))
	p.generator(t, func(*event.Prompt) bool { return false })
	must(t, p.trainer.Lead(t.Context(), id))
	letters, _ := p.deadLetters(t, id)
	if len(letters) != 1 || letters[0].GetStream() != event.Prompts || !strings.Contains(letters[0].GetReason(), "spin.v9.Chunk") {
		t.Errorf("letters %v", letters)
	}
}

// A generator that is wrong every time does not keep the run busy for ever.
func TestAlwaysRefused(t *testing.T) {
	p := newPlane(t)
	n := 0
	p.work(t, "generator-1", func(ctx context.Context, l *bus.Lease) error {
		for _, prompt := range l.Chunk.GetPrompts() {
			m := madeUp(l.Chunk, prompt)
			if prompt.GetIndex() == 2 {
				m.TemplateId = "x"
				n++
				m.Circumstance = &event.Circumstance{Instance: fmt.Sprintf("generator-%d", n)}
			}
			if _, err := p.conn.PublishOnce(ctx, m); err != nil {
				return err
			}
		}
		return nil
	})
	id := p.submit(t, tinySpec(t))
	if err := p.trainer.Lead(t.Context(), id); !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "3 games of it were refused") || !strings.Contains(err.Error(), "template x") {
		t.Errorf("the run ends with %v, want blocked by three refused games", err)
	}
}

// Whoever was replaced can refuse nothing; what he had decided is carried out.
func TestRefusalIsFenced(t *testing.T) {
	p := newPlane(t)
	spec := tinySpec(t)
	id := p.submit(t, spec)
	newGames := func(instance string) *games {
		s := *p.trainer
		s.instance = instance
		l := &lead{Service: &s}
		l.run, _ = p.load(t, id)
		g := &games{lead: l, at: run.Iteration{Number: 0}, refused: map[string][]fleet.Attempt{}}
		must(t, g.takeFence(t.Context()))
		return g
	}
	put := func(prompt string) bus.Delivery {
		m := &event.Game{RunId: id, PromptId: prompt, Split: event.Split_SPLIT_TRAIN, Hole: &event.Hole{Reason: "x"}}
		ack, err := p.conn.PublishOnce(t.Context(), m)
		must(t, err)
		d, err := p.conn.At(t.Context(), bus.Games, ack.Seq)
		must(t, err)
		return d
	}
	old := newGames("trainer-old")
	decided := put("p1")
	must(t, old.fence.write(t.Context(), fence{Leader: "trainer-old", Refusing: &refusing{decided.Seq, decided.Subject, "decided by the old one", false}})) // and died
	newGames("trainer-new")
	if _, err := p.conn.At(t.Context(), bus.Games, decided.Seq); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("what the old leader had decided was not carried out: %v", err)
	}
	if letters, _ := p.deadLetters(t, id); len(letters) != 1 || letters[0].GetReason() != "decided by the old one" || len(letters[0].GetPayload()) == 0 {
		t.Errorf("letters %v", letters)
	}
	late := put("p2")
	if err := old.refuse(t.Context(), late, errors.New("woken")); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("the old leader refuses with %v, want ErrConflict", err)
	}
	if _, err := p.conn.At(t.Context(), bus.Games, late.Seq); err != nil {
		t.Errorf("the game is gone: %v", err)
	}
}

// A task that a slow generator has in hand while training waits for it is published again, and the
// other generator's game counts. The slow one's is refused by its subject.
func TestHedge(t *testing.T) {
	p := newPlane(t)
	spec := tinySpec(t)
	spec.Data.Path, spec.Data.Prompts = manyRows(t, 26), 24
	spec.SPIN.Epochs = run.Each(1)
	must(t, spec.Validate())
	slow, done := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.work(t, "generator-slow", func(ctx context.Context, l *bus.Lease) error {
		hang := false
		once.Do(func() { hang = true })
		if !hang {
			return bus.ErrRelease
		}
		close(slow)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.Progress() // it is slow, not dead
			case <-done:
				for _, prompt := range l.Chunk.GetPrompts() {
					if _, err := p.conn.PublishOnce(context.WithoutCancel(ctx), madeUp(l.Chunk, prompt)); err != nil {
						return err
					}
				}
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	id := p.submit(t, spec)
	led := make(chan error, 1)
	go func() { led <- p.trainer.Lead(t.Context(), id) }()
	<-slow
	p.work(t, "generator-fast", func(ctx context.Context, l *bus.Lease) error {
		time.Sleep(10 * time.Millisecond) // the work
		return p.playAll(ctx, l)
	})
	must(t, <-led)
	if n := p.events(t, id)["hedge info"]; n != 1 {
		t.Errorf("%d hedges, want 1", n)
	}
	close(done)
	info, err := p.conn.StreamInfo(t.Context(), bus.Games)
	must(t, err)
	if info.Messages != 26 {
		t.Errorf("%d games, want 26", info.Messages)
	}
}

// Tasks that the queue has lost are found out and published again.
func TestLostTasks(t *testing.T) {
	p := newPlane(t)
	id := p.submit(t, tinySpec(t))
	led := make(chan error, 1)
	go func() { led <- p.trainer.Lead(t.Context(), id) }()
	for { // until all are queued; nobody takes them
		info, err := p.conn.StreamInfo(t.Context(), bus.Prompts)
		must(t, err)
		if info.Messages == 8 {
			break
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
	must(t, p.conn.Purge(t.Context(), bus.Prompts, event.QueueSubjects(id), 0))
	p.generator(t, func(*event.Prompt) bool { return false })
	must(t, <-led)
	if n := p.events(t, id)["tasks_lost warn"]; n == 0 {
		t.Error("nobody said that tasks were lost")
	}
}

// With opponent_logps: trainer the first loss is ln 2 exactly, whoever played and whatever they scored;
// with generator it is as far off as the engines differ, and that is told.
func TestForeignEngine(t *testing.T) {
	const foreign = "abacus/f16"
	firstLoss := func(p *plane, id string) (loss float64) {
		must(t, p.conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Steps, Filters: []string{event.StepSubject(id, 0, event.Phase_PHASE_SPIN, 1)}}, func(d bus.Delivery) error {
			loss = d.Message.(*event.Step).GetLoss()
			return d.Err
		}))
		return loss
	}
	for _, c := range []struct {
		mode  string
		exact bool
		event string
	}{{"trainer", true, "engine_drift info"}, {"generator", false, "first_loss alarm"}} {
		t.Run(c.mode, func(t *testing.T) {
			p := newPlane(t)
			p.generator(t, func(*event.Prompt) bool { return false }) // scores everything with 0
			spec := tinySpec(t)
			spec.Iterations, spec.SPIN.OpponentLogps, spec.Engine.Engines = 2, c.mode, []string{foreign}
			must(t, spec.Validate())
			id := p.submit(t, spec)
			must(t, p.trainer.Lead(t.Context(), id))
			if loss := firstLoss(p, id); (loss == math.Ln2) != c.exact {
				t.Errorf("the first loss is %v, ln 2 is %v", loss, math.Ln2)
			}
			told := p.events(t, id)
			if told[c.event] == 0 || c.exact && told["first_loss alarm"]+told["first_loss info"] > 0 {
				t.Errorf("events %v, want %s", told, c.event)
			}
		})
	}
}

func TestDrift(t *testing.T) {
	game := func(fingerprint string, scored, sampled float32) *event.Game {
		return &event.Game{Fingerprint: fingerprint, Draws: []*event.Draw{{
			SamplingLogps: []float32{sampled, sampled}, Response: &event.Response{TokenIds: []uint32{1, 2}, TokenLogps: []float32{scored, scored}},
		}}}
	}
	got := samplingDrift([]*event.Game{game("b", -1, -1.5), game("a", -2, -2), game("b", -1, -0.5), {Hole: &event.Hole{}}})
	want := []drift{{"a", 1, 2, 0, 0, 0}, {"b", 2, 4, 0, 0.5, 0.5}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

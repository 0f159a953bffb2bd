package bus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fleet"
)

// letters waits for n dead letters.
func letters(t *testing.T, c *bus.Conn, n int) []*event.DeadLetter {
	t.Helper()
	var found []*event.DeadLetter
	enough := errors.New("enough")
	err := c.Read(t.Context(), bus.ReadConfig{Stream: bus.Dead, Follow: true}, func(d bus.Delivery) error {
		if d.Err != nil {
			return d.Err
		}
		if found = append(found, d.Message.(*event.DeadLetter)); len(found) == n {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	return found
}

// A game that no message can hold is given up at once and by itself: trying again would give the same.
func TestGameOverTheSizeLimitIsGivenUp(t *testing.T) {
	b := newBroker(t, quick())
	trainer, c := b.connect("trainer/1"), b.connect("generator/1")
	open(t, trainer, runID)
	found := games(t, trainer)
	deliveries := 0
	generator(t, c, "g1", 1, func(ctx context.Context, l *bus.Lease) error {
		deliveries++
		u := &bus.Unplayable{}
		for _, p := range l.Chunk.GetPrompts() {
			g := game(p.GetPromptId(), "answer")
			if p.GetPromptId() == "huge" {
				g.Draws = nil
				for d := range uint32(9) { // 9 MB, each answer as long as one may be
					g.Draws = append(g.Draws, &event.Draw{SampleId: event.SampleID(runID, 0, "huge", d), Draw: d, Response: &event.Response{
						Text: strings.Repeat("x", 1<<20), TokenIds: []uint32{7}, TokenLogps: []float32{-1},
					}})
				}
			}
			_, err := c.PublishOnce(ctx, g)
			if errors.Is(err, event.ErrInvalid) {
				u.Prompts, u.Reason = append(u.Prompts, p.GetPromptId()), err.Error()
				continue
			}
			if err != nil {
				return err
			}
		}
		if len(u.Prompts) > 0 {
			return u
		}
		return nil
	})
	enqueue(t, trainer, chunk(runID, 0, "good-1", "huge", "good-2"))
	for range 2 {
		if id := receive(t, found, "game").GetPromptId(); id == "huge" {
			t.Errorf("%s was stored", id)
		}
	}
	letter := letters(t, trainer, 1)[0]
	if letter.GetPromptId() != "huge" || letter.GetStream() != event.Prompts || !strings.Contains(letter.GetReason(), "the most is") || len(letter.GetAttempts()) != 1 {
		t.Errorf("dead letter %v", letter)
	}
	if m, err := event.Unmarshal(letter.GetSchema(), letter.GetPayload()); err != nil || !m.(*event.Chunk).GetSingle() {
		t.Errorf("payload: %v, %v", m, err)
	}
	drained(t, trainer, runID)
	forgotten(t, trainer)
	if deliveries != 1 {
		t.Errorf("%d deliveries, want 1", deliveries)
	}
}

// A broker that takes less than a message may have says no, and that is no outage to wait for.
func TestBrokerRefusesWhatIsTooLarge(t *testing.T) {
	c := newBroker(t, quick()).connect("generator/1")
	if err := c.PublishRaw(t.Context(), event.GameSubject(runID, 0, "p"), "spin.v1.Game", make([]byte, 9<<20)); err == nil {
		t.Error("9 MB were taken")
	}
	if info := must[bus.Info](t)(c.StreamInfo(t.Context(), bus.Games)); info.Messages != 0 {
		t.Errorf("%d messages", info.Messages)
	}
}

// What a reader refuses becomes a letter, whatever it is, and its subject can be freed for another.
func TestRefusedMessageFreesItsSubject(t *testing.T) {
	c := newBroker(t, quick()).connect("trainer/1")
	ctx := t.Context()
	first := must[bus.Ack](t)(c.PublishOnce(ctx, game("p1", "wrong")))
	if err := c.PublishRaw(ctx, event.GameSubject(runID, 7, "p2"), "spin.v9.Game", []byte("junk")); err != nil {
		t.Fatal(err)
	}
	if err := c.PublishRaw(ctx, event.GameSubject(runID, 7, "p3"), strings.Repeat("\xff", 3000), make([]byte, 5<<20)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // said again it is one letter
		err := c.Read(ctx, bus.ReadConfig{Stream: bus.Games}, func(d bus.Delivery) error {
			return c.Refuse(ctx, d, "trainer-1", fmt.Sprintf("not what was asked: %v", d.Err))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	found := letters(t, c, 3)
	for i, want := range []struct {
		prompt    string
		iteration uint32
		payload   bool
	}{{"p1", 0, true}, {"p2", 7, true}, {"p3", 7, false}} {
		l := found[i]
		if l.GetRunId() != runID || l.GetStream() != event.Games || l.GetPromptId() != want.prompt || l.GetIteration() != want.iteration ||
			l.GetStreamSeq() != uint64(i+1) || (len(l.GetPayload()) > 0) != want.payload {
			t.Errorf("letter %d: %v", i, l)
		}
	}
	if info := must[bus.Info](t)(c.StreamInfo(ctx, bus.Dead)); info.Messages != 3 {
		t.Errorf("%d letters, want 3", info.Messages)
	}
	for range 2 { // gone is gone
		if err := c.Remove(ctx, bus.Games, first.Seq); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.At(ctx, bus.Games, first.Seq); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("a removed message: %v", err)
	}
	if ack, err := c.PublishOnce(ctx, game("p1", "right")); err != nil || ack.Existed {
		t.Errorf("the right game: %+v, %v", ack, err)
	}
	if d, err := c.At(ctx, bus.Games, 4); err != nil || d.Message.(*event.Game).GetDraws()[0].GetResponse().GetText() != "right" {
		t.Errorf("the subject holds %v, %v", d.Message, err)
	}
}

// Hedges and single prompts are taken before planned chunks that wait longer.
func TestUrgentTasksAreTakenFirst(t *testing.T) {
	b := newBroker(t, quick())
	trainer, c := b.connect("trainer/1"), b.connect("generator/1")
	for i := range uint32(5) {
		enqueue(t, trainer, chunk(runID, i, "p"))
	}
	hedge, single := chunk(runID, 0, "p"), chunk(runID, 1, "q")
	hedge.Hedge, single.Single = 1, true
	enqueue(t, trainer, hedge, single)
	open(t, trainer, runID)
	served := make(chan string, 16)
	generator(t, c, "g1", 1, func(_ context.Context, l *bus.Lease) error {
		served <- l.Chunk.Task()
		return nil
	})
	var got []string
	for range 7 {
		got = append(got, receive(t, served, "task"))
	}
	if want := []string{hedge.Task(), single.Task(), "0.c0.h0", "0.c1.h0", "0.c2.h0", "0.c3.h0", "0.c4.h0"}; !slices.Equal(got, want) {
		t.Errorf("served %v, want %v", got, want)
	}
}

// The trainer sees who has which task: that is what hedging goes by.
func TestWatchTasks(t *testing.T) {
	b := newBroker(t, quick())
	trainer, c := b.connect("trainer/1"), b.connect("generator/1")
	open(t, trainer, runID)
	type seen struct {
		task     string
		attempts []fleet.Attempt
	}
	changes := make(chan seen, 16)
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		_ = trainer.WatchTasks(ctx, runID, 0, func(task string, attempts []fleet.Attempt) { changes <- seen{task, attempts} })
	})
	defer watching.Wait()
	defer cancel()
	say := make(chan error)
	generator(t, c, "g1", 1, func(context.Context, *bus.Lease) error { return <-say })
	enqueue(t, trainer, chunk(runID, 3, "p"))
	until := func(attempts int) (last fleet.Attempt) { // only the newest state of a task is told
		for {
			s := receive(t, changes, "change")
			if s.task != "0.c3.h0" {
				t.Fatalf("change %+v", s)
			}
			if len(s.attempts) != attempts {
				continue
			}
			if attempts > 0 {
				last = s.attempts[attempts-1]
			}
			return last
		}
	}
	if a := until(1); a.Instance != "g1" || a.Error != "" {
		t.Errorf("taken as %+v", a)
	}
	say <- errors.New("out of luck")
	if a := until(2); a.Error != "" {
		t.Errorf("taken again as %+v", a)
	}
	say <- nil
	until(0)
}

package generate

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// another is a second run on the same broker.
func (p *plane) another() *plane {
	q := *p
	var err error
	q.run, err = run.NewID()
	must(p.t, err)
	must(p.t, q.conn.OpenQueue(p.t.Context(), q.run))
	return &q
}

// Two runs, one generator: the run that came late with little is not kept waiting by the one that came
// early with much, and weights change once for several tasks.
func TestRunsTakeTurns(t *testing.T) {
	long := newPlane(t)
	short := long.another()
	long.publish(0, first)
	short.publish(0, second)
	const much, little, slots = 40, 6, 4
	for i := range uint32(much) {
		long.enqueue(long.chunk(i, first, fmt.Sprintf("long-%d", i)))
	}
	for i := range uint32(little) {
		short.enqueue(short.chunk(i, second, fmt.Sprintf("short-%d", i)))
	}
	cfg := small()
	cfg.Slots = slots
	long.start(long.service("generator-1", cfg))
	var order []string
	enough := errors.New("enough")
	err := long.conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Games, Follow: true}, func(d bus.Delivery) error {
		if order = append(order, d.Message.(*event.Game).GetRunId()); len(order) == much+little {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	served, changes := 0, 0
	for i, id := range order {
		if i > 0 && order[i-1] != id {
			changes++
		}
		if id != short.run {
			continue
		}
		// While both have tasks, each gets every other one; what is in hand together may come in any order.
		if served++; i > 2*served+2*slots {
			t.Errorf("game %d of the short run is number %d of all", served, i+1)
		}
	}
	if changes >= 2*little {
		t.Errorf("weights changed %d times for %d tasks of the short run", changes, little)
	}
	t.Logf("%d changes of weights", changes)
}

// A game that fits no message is given up at once, and the task's others are played.
func TestUnplayable(t *testing.T) {
	p := newPlane(t)
	p.publish(0, first)
	c := p.chunk(0, first, "tea", "rain")
	for range 8 { // a conversation that a task can just hold: with its draws the game is longer than a message
		room := min(1<<20, event.MaxBytes-proto.Size(c)-32)
		c.Prompts[0].Messages = append(c.Prompts[0].Messages, &event.ChatMessage{Role: "user", Content: strings.Repeat("x", room)})
	}
	p.enqueue(c)
	p.start(p.service("generator-1", small()))
	if g := p.games(1)["rain"]; g == nil {
		t.Error("rain was not played")
	}
	var letter *event.DeadLetter
	must(t, p.conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Dead, Follow: true, Until: 1}, func(d bus.Delivery) error {
		letter, _ = d.Message.(*event.DeadLetter)
		return d.Err
	}))
	if letter.GetPromptId() != "tea" || len(letter.GetAttempts()) != 1 {
		t.Errorf("letter %v", letter)
	}
}

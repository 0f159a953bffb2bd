package command

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// transcript is a display that remembers what it was shown last.
type transcript struct{ lines []string }

func (t *transcript) phase(p phase) {
	t.lines = append(t.lines, fmt.Sprintf("%s %d/%d %.0f tokens/s %v left", p.name, p.done, p.total, p.rate(), p.left(p.last)))
}
func (t *transcript) score(m *event.Score) { t.lines = append(t.lines, scoreLine(m)) }
func (t *transcript) alarm(m *event.Event) { t.lines = append(t.lines, m.GetMessage()) }
func (t *transcript) told(m *event.Event)  { t.lines = append(t.lines, m.GetMessage()) }
func (t *transcript) end()                 {}

func TestProgress(t *testing.T) {
	began := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	spec := run.Spec{Iterations: 1, Data: run.Data{Prompts: 6, Heldout: 2}, SFT: run.SFT{Epochs: 1}}
	response := func(n int) *event.Response { return &event.Response{TokenIds: make([]uint32, n)} }
	game := func(split event.Split) event.Message {
		return &event.Game{Split: split, PromptIds: make([]uint32, 30), Real: response(10), Draws: []*event.Draw{{Response: response(20)}},
			Circumstance: &event.Circumstance{Seconds: 2}}
	}
	step := func(n, attempt uint32) event.Message {
		return &event.Step{Phase: event.Phase_PHASE_SPIN, Step: n, Steps: 4, Tokens: 100, Circumstance: &event.Circumstance{Attempt: attempt, Seconds: 1}}
	}
	for _, c := range []struct {
		name string
		play func(take func(m event.Message, second int, live bool), p *progress)
		want string // the last line
	}{
		{"one game tells its own rate", func(take func(event.Message, int, bool), _ *progress) {
			take(game(event.Split_SPLIT_TRAIN), 10, true)
		}, "iteration 0, sampling 1/8 10 tokens/s 0s left"},
		{"the rate is over the clock, whatever a task says", func(take func(event.Message, int, bool), _ *progress) {
			take(game(event.Split_SPLIT_TRAIN), 10, true) // begun at 8
			take(game(event.Split_SPLIT_TRAIN), 10, true)
			take(game(event.Split_SPLIT_TRAIN), 28, true) // 60 tokens in 20 s; 3 games in 20 s
		}, "iteration 0, sampling 3/8 3 tokens/s 33s left"},
		{"what was there counts as done and in no rate", func(take func(event.Message, int, bool), _ *progress) {
			for range 5 {
				take(game(event.Split_SPLIT_TRAIN), 0, false)
			}
			take(game(event.Split_SPLIT_TRAIN), 102, true)
			take(game(event.Split_SPLIT_TRAIN), 104, true) // 2 games, 40 tokens from 100 to 104
		}, "iteration 0, sampling 7/8 10 tokens/s 2s left"},
		{"who attaches sees what goes on", func(take func(event.Message, int, bool), p *progress) {
			take(step(1, 1), 1, false)
			take(step(2, 1), 2, false)
			p.begin()
		}, "iteration 0, training 2/4 0 tokens/s 0s left"},
		{"a trainer that takes over begins again", func(take func(event.Message, int, bool), p *progress) {
			take(step(1, 1), 1, false)
			take(step(2, 1), 2, false)
			p.restart(&run.Iteration{Stage: run.SPINStage, Phase: run.Training, Attempt: 2})
		}, "iteration 0, training 0/4 0 tokens/s 0s left"},
		{"and its steps count from 1", func(take func(event.Message, int, bool), _ *progress) {
			take(step(3, 1), 3, true)
			take(step(1, 2), 11, true)
			take(step(4, 1), 12, true) // of the one that was replaced
			take(step(2, 2), 14, true) // 200 tokens from 10 to 14
		}, "iteration 0, training 2/4 50 tokens/s 4s left"},
		{"evaluation waits in between", func(take func(event.Message, int, bool), _ *progress) {
			take(game(event.Split_SPLIT_HELDOUT), 5, true)                                       // 60 tokens to score
			for i, phase := range []event.Phase{event.Phase_PHASE_BASE, event.Phase_PHASE_SFT} { // θ_0's is free: it played
				take(&event.Score{Phase: phase, Task: "heldout", Metric: "nll", Circumstance: &event.Circumstance{Seconds: 3}}, 10+100*i, true)
			}
		}, "evaluating 2/3 20 tokens/s 0s left"},
		{"a verdict of the stop rule is shown, also without alarms", func(take func(event.Message, int, bool), _ *progress) {
			take(&event.Event{Kind: "stop_rule", Level: event.Level_LEVEL_INFO, Message: "the run stops here"}, 1, true)
			take(&event.Event{Kind: "copies", Level: event.Level_LEVEL_ALARM, Message: "an alarm of this process, which its log shows"}, 2, true)
			take(&event.Event{Kind: "stop_rule", Level: event.Level_LEVEL_INFO, Message: "old"}, 3, false)
		}, "the run stops here"},
		{"a run that ended early has less to evaluate", func(take func(event.Message, int, bool), p *progress) {
			p.run.Spec.Iterations, p.run.Stop = 5, &run.Stop{Played: 1}
			take(&event.Score{Phase: event.Phase_PHASE_BASE, Task: "heldout", Metric: "nll", Circumstance: &event.Circumstance{}}, 10, true)
		}, "evaluating 1/3 0 tokens/s 0s left"},
	} {
		shown := &transcript{}
		p := newProgress(nil, run.Run{Spec: spec}, shown)
		c.play(func(m event.Message, second int, live bool) {
			p.take(bus.Delivery{Message: m, Time: began.Add(time.Duration(second) * time.Second)}, live)
		}, p)
		if n := len(shown.lines); n == 0 || shown.lines[n-1] != c.want {
			t.Errorf("%s:\n%s\nwant at the end\n%s", c.name, strings.Join(shown.lines, "\n"), c.want)
		}
	}
}

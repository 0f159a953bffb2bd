package command

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// progress tells a person how far a run is. It learns everything from the bus, as anybody could.
type progress struct {
	bus  *bus.Conn
	run  run.Run
	out  io.Writer
	live bool // a screen: one line that is written over

	mu    sync.Mutex
	phase string
	began time.Time
	last  time.Time
	games map[uint32]int
}

func newProgress(conn *bus.Conn, r run.Run, out io.Writer) *progress {
	return &progress{bus: conn, run: r, out: out, live: isTerminal(out), games: map[uint32]int{}}
}

// follow reads the run's games, steps and scores until ctx ends.
func (p *progress) follow(ctx context.Context) {
	var reading sync.WaitGroup
	for stream, kind := range map[string]string{bus.Games: event.Games, bus.Steps: event.Steps, bus.Scores: event.Scores} {
		reading.Go(func() {
			// An error here costs the person a view, not the run its result.
			_ = p.bus.Read(ctx, bus.ReadConfig{Stream: stream, Filters: []string{event.Filter(p.run.ID, kind)}, Follow: true}, func(d bus.Delivery) error {
				p.take(d.Message)
				return nil
			})
		})
	}
	reading.Wait()
}

func (p *progress) take(m event.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m := m.(type) {
	case *event.Game:
		p.games[m.GetIteration()]++
		total := p.run.Spec.Data.Prompts + p.run.Spec.Data.Heldout
		p.show(fmt.Sprintf("iteration %d, sampling", m.GetIteration()), p.games[m.GetIteration()], total, fmt.Sprintf("%.0f tokens/s a task", m.GetCircumstance().GetTokensPerSecond()))
	case *event.Step:
		phase := "fine-tuning"
		switch m.GetPhase() {
		case event.Phase_PHASE_SPIN:
			phase = fmt.Sprintf("iteration %d, training", m.GetIteration())
		case event.Phase_PHASE_CONTROL:
			phase = "control, fine-tuning"
		}
		more := fmt.Sprintf("loss %.4f, %.0f tokens/s", m.GetLoss(), m.GetCircumstance().GetTokensPerSecond())
		if m.GetPhase() == event.Phase_PHASE_SPIN {
			more = fmt.Sprintf("loss %.4f, margin %+.3f, accuracy %.2f, %.0f tokens/s", m.GetLoss(), m.GetMargin(), m.GetAccuracy(), m.GetCircumstance().GetTokensPerSecond())
		}
		p.show(phase, int(m.GetStep()), int(m.GetSteps()), more)
	case *event.Score:
		if m.GetTask() == "heldout" && (m.GetMetric() == "nll" || m.GetMetric() == "accuracy") {
			p.line(fmt.Sprintf("held-out %s of %s: %.3f ± %.3f", m.GetMetric(), weightsName(m.GetPhase(), m.GetIteration()), m.GetValue(), m.GetStderr()))
		}
	}
}

// weightsName is what people call the weights.
func weightsName(phase event.Phase, iteration uint32) string {
	switch phase {
	case event.Phase_PHASE_BASE:
		return "the given model"
	case event.Phase_PHASE_CONTROL:
		return "the control"
	}
	return fmt.Sprintf("θ_%d", iteration)
}

// every is how often a log gets a line of a phase; a screen gets all.
const every = 5 * time.Second

func (p *progress) show(phase string, done, total int, more string) {
	now := time.Now()
	if phase != p.phase {
		p.phase, p.began = phase, now
	}
	if !p.live && done != total && now.Sub(p.last) < every {
		return
	}
	p.last = now
	left := ""
	if since := now.Sub(p.began); done > 1 && done < total && since > time.Second {
		left = fmt.Sprintf(", %s left", (since * time.Duration(total-done) / time.Duration(done)).Round(time.Second))
	}
	p.line(fmt.Sprintf("%s %d/%d: %s%s", phase, done, total, more, left))
}

func (p *progress) line(text string) {
	if p.live {
		fmt.Fprintf(p.out, "\r\x1b[K%s", text)
	} else {
		fmt.Fprintln(p.out, text)
	}
}

func (p *progress) end() {
	if p.live {
		fmt.Fprintln(p.out)
	}
}

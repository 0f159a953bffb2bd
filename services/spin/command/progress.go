package command

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// progress tells people how far a run is. It learns everything from the bus, as anybody could: what
// is there already, then what comes.
type progress struct {
	bus    *bus.Conn
	run    run.Run
	show   display
	alarms bool // show those too: the run is another process's, whose log is elsewhere

	mu      sync.Mutex
	phases  map[string]*phase
	heldout map[uint32]int // tokens of the held-out games of an iteration
}

// display is a screen with bars, or a log.
type display interface {
	phase(phase) // it moved on
	score(*event.Score)
	alarm(*event.Event)
	told(*event.Event) // what is no alarm
	end()
}

// phase is a part of a run that takes its time. Its rate is over the clock and counts only what was
// seen to come.
type phase struct {
	name        string
	done, total int
	before      int       // done when we came
	tokens      int       // of what came since
	since, last time.Time // when the first of it was begun, when the last of it came
	worked      float64   // seconds; where they, not the clock, make the rate: work that waits between its parts
	attempt     uint32
	step        *event.Step // the newest; nil where it is no training
}

// rate is in tokens a second; 0: not known.
func (p *phase) rate() float64 {
	if p.worked > 0 {
		return float64(p.tokens) / p.worked
	}
	if seconds := p.last.Sub(p.since).Seconds(); seconds > 0 {
		return float64(p.tokens) / seconds
	}
	return 0
}

// left is how long the rest takes at the pace so far; 0: not known, or done.
func (p *phase) left(now time.Time) time.Duration {
	came := p.done - p.before
	if came < 2 || p.done >= p.total || p.worked > 0 {
		return 0
	}
	rest := p.last.Sub(p.since) * time.Duration(p.total-p.done) / time.Duration(came)
	return max(rest-now.Sub(p.last), time.Second).Round(time.Second)
}

// came counts n more things, on which somebody worked for seconds until at.
func (p *phase) came(n, tokens int, at time.Time, seconds float64, live bool) {
	p.done += n
	if !live {
		p.before = p.done
		return
	}
	if p.since.IsZero() {
		p.since = at.Add(-time.Duration(seconds * float64(time.Second)))
	}
	p.tokens += tokens
	p.last = at
}

func newProgress(conn *bus.Conn, r run.Run, show display) *progress {
	return &progress{bus: conn, run: r, show: show, phases: map[string]*phase{}, heldout: map[uint32]int{}}
}

// newDisplay is bars on a terminal, else lines of log.
func newDisplay(s *screen, log zerolog.Logger) display {
	if s.live {
		return newBars(s)
	}
	return &lines{log: log, last: map[string]time.Time{}}
}

// source is a stream of the run's messages, and where to go on in it.
type source struct {
	stream, kind string
	next         uint64
}

// read takes the source's messages to its end, or with follow those that come until ctx ends.
func (p *progress) read(ctx context.Context, s *source, follow, live bool) {
	// An error costs people a view, not the run its result.
	_ = p.bus.Read(ctx, bus.ReadConfig{Stream: s.stream, Filters: []string{event.Filter(p.run.ID, s.kind)}, From: s.next, Follow: follow}, func(d bus.Delivery) error {
		s.next = d.Seq + 1
		p.take(d, live)
		return nil
	})
}

// follow reads the run's games, steps, scores and turns until stop is called, which returns when all
// that was there by then is shown.
func (p *progress) follow(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		sources := []*source{{bus.Games, event.Games, 1}, {bus.Steps, event.Steps, 1}, {bus.Scores, event.Scores, 1}, {bus.Events, event.Events, 1}}
		for _, s := range sources {
			p.read(ctx, s, false, false)
		}
		p.begin()
		var reading sync.WaitGroup
		for _, s := range sources {
			reading.Go(func() { p.read(ctx, s, true, true) })
		}
		reading.Go(func() { p.watchTurns(ctx) })
		reading.Go(func() { p.watchRun(ctx) })
		reading.Wait()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		for _, s := range sources {
			p.read(last, s, false, true)
		}
		p.show.end()
	}()
	return func() {
		cancel()
		<-done
	}
}

// watchTurns sees trainers take over.
func (p *progress) watchTurns(ctx context.Context) {
	turns := bus.State[run.Iteration]{Bucket: p.bus.Control()}
	_ = turns.Watch(ctx, run.IterationPattern(p.run.ID), func(_ string, it *run.Iteration, _ uint64) error {
		if it != nil {
			p.restart(it)
		}
		return nil
	})
}

// watchRun sees the run's stop rule end it: there is less to evaluate then.
func (p *progress) watchRun(ctx context.Context) {
	runs := bus.State[run.Run]{Bucket: p.bus.Control()}
	_ = runs.Watch(ctx, run.Key(p.run.ID), func(_ string, now *run.Run, _ uint64) error {
		if now != nil && now.Stop != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.run.Stop = now.Stop
			if ph := p.phases[evaluating]; ph != nil {
				ph.total = p.evaluated()
				p.show.phase(*ph)
			}
		}
		return ctx.Err()
	})
}

const evaluating = "evaluating"

// evaluated is how many checkpoints the run has.
func (p *progress) evaluated() int {
	total := 1 + p.run.Plays()
	if p.run.Spec.SFT.Epochs > 0 {
		total++
	}
	if p.run.Spec.Control == "sft" {
		total++
	}
	return total
}

// begin shows what somebody has begun and not ended.
func (p *progress) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ph := range p.phases {
		if ph.done > 0 && ph.done < ph.total {
			p.show.phase(*ph)
		}
	}
}

// restart sets training back to its beginning where a trainer that took over begins it again.
func (p *progress) restart(it *run.Iteration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := trainingName(string(it.Stage), uint32(it.Number))
	ph := p.phases[name]
	if ph == nil || it.Phase == run.Done || uint32(it.Attempt) <= ph.attempt {
		return
	}
	*ph = phase{name: name, total: ph.total, attempt: uint32(it.Attempt)}
	p.show.phase(*ph)
}

// take counts one message; live: it came just now.
func (p *progress) take(d bus.Delivery, live bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m := d.Message.(type) {
	case *event.Game:
		p.takeGame(m, d.Time, live)
	case *event.Step:
		p.takeStep(m, d.Time, live)
	case *event.Score:
		p.takeScore(m, d.Time, live)
	case *event.Event:
		switch {
		case !live:
		case m.GetKind() == "stop_rule":
			p.show.told(m)
		case p.alarms && m.GetLevel() >= event.Level_LEVEL_WARN:
			p.show.alarm(m)
		}
	}
}

func (p *progress) takeGame(m *event.Game, at time.Time, live bool) {
	spec := p.run.Spec
	ph := p.at(fmt.Sprintf("iteration %d, sampling", m.GetIteration()), spec.Data.Prompts+spec.Data.Heldout)
	tokens := 0
	for _, d := range m.GetDraws() {
		tokens += len(d.GetResponse().GetTokenIds())
	}
	if m.GetSplit() == event.Split_SPLIT_HELDOUT {
		p.heldout[m.GetIteration()] += len(m.GetPromptIds()) + len(m.GetReal().GetTokenIds()) + tokens
	}
	ph.came(1, tokens, at, m.GetCircumstance().GetSeconds(), live)
	if live {
		p.show.phase(*ph)
	}
}

func (p *progress) takeStep(m *event.Step, at time.Time, live bool) {
	ph := p.at(trainingName(m.GetPhase().Token(), m.GetIteration()), int(m.GetSteps()))
	switch attempt := m.GetCircumstance().GetAttempt(); {
	case attempt < ph.attempt:
		return
	case attempt > ph.attempt:
		*ph = phase{name: ph.name, total: ph.total, attempt: attempt}
	}
	ph.step = m
	ph.came(int(m.GetStep())-ph.done, int(m.GetTokens()), at, m.GetCircumstance().GetSeconds(), live)
	if live {
		p.show.phase(*ph)
	}
}

// takeScore counts a checkpoint as evaluated with its NLL, which is published last of those that need
// the model.
func (p *progress) takeScore(m *event.Score, at time.Time, live bool) {
	if m.GetTask() != "heldout" {
		return
	}
	if live && slices.Contains([]string{"nll", "accuracy", "accuracy_equal_length"}, m.GetMetric()) {
		p.show.score(m)
	}
	if m.GetMetric() != "nll" {
		return
	}
	spec := p.run.Spec
	played := uint32(0)
	if m.GetPhase() == event.Phase_PHASE_SPIN {
		played = m.GetIteration() - 1
	}
	ph := p.at(evaluating, p.evaluated())
	seconds, tokens := m.GetCircumstance().GetSeconds(), p.heldout[played]
	if m.GetPhase() == event.Phase_PHASE_SFT || m.GetPhase() == event.Phase_PHASE_BASE && spec.SFT.Epochs == 0 {
		seconds, tokens = 0, 0 // θ_0 played these games: they say it all, and no model is run
	}
	ph.came(1, tokens, at, seconds, live)
	if live {
		ph.worked += seconds
	}
	if live {
		p.show.phase(*ph)
	}
}

// at is the phase of a name.
func (p *progress) at(name string, total int) *phase {
	ph := p.phases[name]
	if ph == nil {
		ph = &phase{name: name, total: total}
		p.phases[name] = ph
	}
	return ph
}

// trainingName is what people call a stage's training.
func trainingName(stage string, iteration uint32) string {
	switch run.Stage(stage) {
	case run.SFTStage:
		return "fine-tuning"
	case run.ControlStage:
		return "control, fine-tuning"
	}
	return fmt.Sprintf("iteration %d, training", iteration)
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

// scoreLine is a score in words, with a 95 % interval.
func scoreLine(m *event.Score) string {
	metric := m.GetMetric()
	switch metric {
	case "nll":
		metric = "human NLL"
	case "accuracy_equal_length":
		metric = "accuracy at equal length"
	}
	return fmt.Sprintf("%s: held-out %s %.3f ± %.3f", weightsName(m.GetPhase(), m.GetIteration()), metric, m.GetValue(), 1.96*m.GetStderr())
}

// lines is a display that writes to the log: a line a phase every few seconds, and at its end.
type lines struct {
	log  zerolog.Logger
	last map[string]time.Time
}

// every is how often the log gets a line of a phase.
const every = 5 * time.Second

func (l *lines) phase(p phase) {
	now := time.Now()
	if p.done < p.total && now.Sub(l.last[p.name]) < every {
		return
	}
	l.last[p.name] = now
	e := l.log.Info().Int("done", p.done).Int("total", p.total)
	if r := p.rate(); r > 0 {
		e.Int("tokens_per_s", int(r))
	}
	if left := p.left(now); left > 0 {
		e.Str("left", left.String())
	}
	if p.step != nil {
		e.Float64("loss", rounded(p.step.GetLoss()))
		if p.step.GetPairs() > 0 {
			e.Float64("margin", rounded(p.step.GetMargin())).Float64("accuracy", rounded(p.step.GetAccuracy()))
		}
	}
	e.Msg(p.name)
}

func (l *lines) score(m *event.Score) {
	l.log.Info().Msg(scoreLine(m))
}

// rounded is a figure as people read it; steps and scores in ClickHouse have all digits.
func rounded(x float64) float64 { return math.Round(x*1e4) / 1e4 }

func (l *lines) alarm(m *event.Event) {
	l.log.Warn().Str("kind", m.GetKind()).Str("service", m.GetService()).Uint32("iteration", m.GetIteration()).Msg(m.GetMessage())
}

func (l *lines) told(m *event.Event) { l.log.Info().Str("kind", m.GetKind()).Msg(m.GetMessage()) }

func (l *lines) end() {}

package generate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/engine"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
	"github.com/seed-8780d58e/spin/pkg/weights"
)

// player is an engine with the weights of one θ_t. All tasks in hand share its batches: one
// goroutine runs the engine, each task waits for its own games.
type player struct {
	digest  string
	weights *weights.Loaded
	decoder *model.Decoder
	engine  *engine.Engine
	jobs    chan *job
	quit    chan struct{}
	done    chan struct{}
	metrics *telemetry.Generator
	counted engine.Stats // that metrics have

	// pass scores; nil before the first game. It grows to the largest game.
	pass        *model.Pass
	scoreTokens int

	mu     sync.Mutex
	inside int   // tasks in hand
	failed error // the device's; nothing more can be played
}

// job is one task in the engine.
type job struct {
	ctx     context.Context
	lease   *bus.Lease
	draws   map[string][]engine.Answer // by prompt id
	left    int                        // requests that are not finished
	started time.Time
	games   []*event.Game
	result  chan error
}

func (s *Service) newPlayer(w *weights.Loaded, draws int) *player {
	p := &player{
		digest: w.Digest, weights: w, jobs: make(chan *job), quit: make(chan struct{}), done: make(chan struct{}), metrics: s.cfg.Metrics,
		decoder: w.Model.NewDecoder(s.cfg.decoderConfig(w.Model, draws)), scoreTokens: s.cfg.ScoreTokens,
	}
	p.engine = engine.New(p.decoder)
	go p.loop()
	return p
}

func (p *player) enter(tasks int) { p.count(tasks) }
func (p *player) leave()          { p.count(-1) }

func (p *player) count(n int) {
	p.mu.Lock()
	p.inside += n
	p.mu.Unlock()
}

// plays reports whether tasks of these weights can be played; none can on a nil player.
func (p *player) plays(digest string) bool { return p != nil && p.digest == digest && p.err() == nil }

// busy reports whether tasks are in hand.
func (p *player) busy() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inside > 0
}

func (p *player) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// ended is why a task that was in hand when the loop ended has no games.
func (p *player) ended() error {
	if err := p.err(); err != nil {
		return err
	}
	return fmt.Errorf("the generator stops: %w", bus.ErrRelease)
}

// stop ends the loop and gives the memory back.
func (p *player) stop() {
	close(p.quit)
	<-p.done
	if p.pass != nil {
		p.pass.Free()
	}
	p.decoder.Free()
	p.weights.Release()
}

// play hands a task to the loop and waits for its games.
func (p *player) play(ctx context.Context, lease *bus.Lease) ([]*event.Game, error) {
	j := &job{ctx: ctx, lease: lease, draws: map[string][]engine.Answer{}, started: time.Now(), result: make(chan error, 1)}
	select {
	case p.jobs <- j:
	case <-p.done:
		return nil, p.ended()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case err := <-j.result:
		return j.games, err
	case <-p.done:
		return nil, p.ended()
	case <-ctx.Done(): // what the loop still has in hand is lost work, no more
		return nil, context.Cause(ctx)
	}
}

// loop runs the engine: it takes tasks as they come and advances all of them together.
func (p *player) loop() {
	defer close(p.done)
	running := map[*engine.Request]*job{}
	for {
		if len(running) == 0 { // nothing to do: wait
			select {
			case j := <-p.jobs:
				p.begin(j, running)
			case <-p.quit:
				return
			}
		}
		for more := true; more; {
			select {
			case <-p.quit:
				return
			case j := <-p.jobs:
				p.begin(j, running)
			default:
				more = false
			}
		}
		finished, err := p.engine.Step()
		if err != nil {
			p.fail(fmt.Errorf("sample: %w", err))
			return
		}
		alive(running)
		p.measure()
		for _, r := range finished {
			j := running[r.Request]
			delete(running, r.Request)
			j.draws[r.Request.ID] = r.Answers
			if j.left--; j.left == 0 {
				// The others wait for the device meanwhile: they are not hung.
				j.result <- p.score(j, func() { alive(running); j.lease.Progress() })
			}
		}
	}
}

// measure counts what the engine has done since it was asked last.
func (p *player) measure() {
	now := p.engine.Stats()
	p.metrics.Sampled.Add(float64(now.SampledTokens - p.counted.SampledTokens))
	p.metrics.Prompt.Add(float64(now.PromptTokens - p.counted.PromptTokens))
	p.metrics.Cached.Add(float64(now.CachedTokens - p.counted.CachedTokens))
	p.counted = now
}

// alive renews the leases of all tasks in the engine.
func alive(running map[*engine.Request]*job) {
	for _, j := range running {
		j.lease.Progress()
	}
}

// begin submits a task's prompts. A prompt that can never run fails the task.
func (p *player) begin(j *job, running map[*engine.Request]*job) {
	requests := make([]*engine.Request, 0, len(j.lease.Chunk.GetPrompts()))
	for _, prompt := range j.lease.Chunk.GetPrompts() {
		requests = append(requests, p.request(j.lease.Chunk, prompt))
	}
	for _, r := range requests {
		if err := p.engine.Check(r); err != nil {
			j.result <- err
			return
		}
	}
	for _, r := range requests {
		if err := p.engine.Submit(r); err != nil { // checked above
			panic(err)
		}
		running[r] = j
	}
	j.left = len(requests)
}

// fail ends the player: every task in hand gets the error, and the next one loads the weights anew.
func (p *player) fail(err error) {
	p.mu.Lock()
	p.failed = err
	p.mu.Unlock()
}

package engine

import (
	"slices"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/model"
)

// Engine runs requests on a Decoder. It belongs to one goroutine.
type Engine struct {
	decoder *model.Decoder
	pool    *pool
	waiting []*Request
	reading []*group // admitted, their prompts not read to the end, in order of admission
	running []*sequence
	idle    []*sequence // free sequence slots

	step     model.Step
	owners   []owner // who gets the draw of each of step.Rows
	ids      []int32
	logps    []float64
	copyDst  []int32
	copySrc  []int32
	finished []Result
	pending  int
	stats    Stats
}

// Stats count since the engine was made.
type Stats struct {
	Steps         int
	PromptTokens  int // read
	CachedTokens  int // of prompts, found in the cache
	SampledTokens int
}

// group is an admitted request.
type group struct {
	req     *Request
	pages   []int32 // the prompt's, one holder; draws that fork hold the whole ones too
	read    int     // tokens of the prompt in the cache or in the step at hand
	cached  int
	answers []Answer
	seqs    []*sequence // a slot for each draw
	left    int         // draws that still run
}

// sequence is one draw under way.
type sequence struct {
	group *group
	draw  int
	pages []int32
	own   int   // pages from here on are this draw's alone
	past  int   // tokens in the cache
	last  int32 // drawn, not yet read
}

// owner says which draw a sampled row belongs to.
type owner struct {
	seq   *sequence
	first bool // the draw's first token: the row is the prompt's last
}

// New makes an engine on d, whose cache it owns from now on.
func New(d *model.Decoder) *Engine {
	cfg := d.Config()
	e := &Engine{decoder: d, pool: newPool(cfg.Pages, cfg.PageTokens), ids: make([]int32, cfg.Sequences), logps: make([]float64, cfg.Sequences)}
	perSequence := (d.Model().Context + cfg.PageTokens - 1) / cfg.PageTokens
	for range cfg.Sequences {
		e.idle = append(e.idle, &sequence{pages: make([]int32, 0, perSequence)})
	}
	return e
}

// Submit queues a request, or says why it could never run.
func (e *Engine) Submit(r *Request) error {
	if err := e.Check(r); err != nil {
		return err
	}
	e.waiting = append(e.waiting, r)
	e.pending++
	return nil
}

// Idle reports whether nothing waits and nothing runs.
func (e *Engine) Idle() bool { return len(e.waiting)+len(e.reading)+len(e.running) == 0 }

// Pending is the number of requests that are not finished.
func (e *Engine) Pending() int { return e.pending }

// Stats of the work done so far.
func (e *Engine) Stats() Stats { return e.stats }

// Step admits what fits, advances every running draw by a token and reads prompts with the rows
// left over. It returns the requests that finished, valid until the next Step. An error is the
// device's or the model's (logits that are not finite); the engine cannot go on after one.
func (e *Engine) Step() ([]Result, error) {
	e.admit()
	e.compose()
	e.finished = e.finished[:0]
	if e.step.Tokens() == 0 {
		return nil, nil
	}
	n := len(e.step.Rows)
	if err := e.decoder.Advance(&e.step, e.ids[:n], e.logps[:n]); err != nil {
		return nil, err
	}
	e.stats.Steps++
	e.stats.SampledTokens += n
	e.deliver()
	return e.finished, nil
}

// admit moves waiting requests to reading, in order, while slots and pages for all that they may
// ever need are there: so nothing that runs is ever thrown out.
func (e *Engine) admit() {
	for len(e.waiting) > 0 {
		r := e.waiting[0]
		if r.Draws > len(e.idle) || e.pages(r) > e.pool.available() {
			return
		}
		e.waiting = slices.Delete(e.waiting, 0, 1)
		e.reading = append(e.reading, e.open(r))
	}
}

// open gives a request its pages and slots. Whole pages of the prompt that the cache remembers are
// shared; at least the prompt's last token is always read, for its logits.
func (e *Engine) open(r *Request) *group {
	pt := e.pool.pageTokens
	g := &group{req: r, left: r.Draws, answers: make([]Answer, r.Draws), seqs: make([]*sequence, r.Draws)}
	parent := int32(-1)
	for (len(g.pages)+1)*pt < len(r.Prompt) {
		i := len(g.pages) * pt
		page := e.pool.lookup(parent, tokenKey(r.Prompt[i:i+pt]))
		if page < 0 {
			break
		}
		e.pool.hold(page)
		g.pages = append(g.pages, page)
		parent = page
	}
	g.cached = len(g.pages) * pt
	g.read = g.cached
	e.stats.CachedTokens += g.cached
	for whole := len(r.Prompt) / pt; len(g.pages) < whole; {
		g.pages = append(g.pages, e.pool.take())
	}
	for d := range g.seqs {
		s := e.idle[len(e.idle)-1]
		e.idle = e.idle[:len(e.idle)-1]
		*s = sequence{group: g, draw: d, pages: append(s.pages[:0], g.pages...), own: len(g.pages), past: len(r.Prompt)}
		for range e.ownPages(r) {
			s.pages = append(s.pages, e.pool.take())
		}
		g.seqs[d] = s
		g.answers[d] = Answer{IDs: make([]int32, 0, r.MaxNew), Logps: make([]float64, 0, r.MaxNew)}
	}
	return g
}

// compose fills the step: a row for each running draw, then chunks of prompts.
func (e *Engine) compose() {
	s, cfg := &e.step, e.decoder.Config()
	s.Start = append(s.Start[:0], 0)
	s.Past, s.Pos, s.Pages = s.Past[:0], s.Pos[:0], s.Pages[:0]
	s.IDs, s.Rows, s.Draws, e.owners = s.IDs[:0], s.Rows[:0], s.Draws[:0], e.owners[:0]
	for _, q := range e.running {
		s.IDs = append(s.IDs, q.last)
		s.Pos = append(s.Pos, int32(q.past))
		e.segment(q.past, q.pages)
		e.sample(q, false)
		q.past++
	}
	for _, g := range e.reading {
		room := cfg.Rows - len(s.IDs)
		if room <= 0 || s.Segments() >= cfg.Sequences {
			break
		}
		n := min(room, len(g.req.Prompt)-g.read)
		s.IDs = append(s.IDs, g.req.Prompt[g.read:g.read+n]...)
		for i := range n {
			s.Pos = append(s.Pos, int32(g.read+i))
		}
		// The first draw's pages are the prompt's, and then the page in which both meet.
		e.segment(g.read, g.seqs[0].pages)
		g.read += n
		e.stats.PromptTokens += n
		if g.read == len(g.req.Prompt) {
			for _, q := range g.seqs {
				e.sample(q, true)
			}
		}
	}
}

// segment closes the segment that was just appended; past is where it started.
func (e *Engine) segment(past int, pages []int32) {
	s := &e.step
	s.Start = append(s.Start, int32(len(s.IDs)))
	s.Past = append(s.Past, int32(past))
	s.Pages = append(s.Pages, pages)
}

// sample asks for a draw after the step's last token so far.
func (e *Engine) sample(q *sequence, first bool) {
	r := q.group.req
	e.step.Rows = append(e.step.Rows, int32(len(e.step.IDs)-1))
	e.step.Draws = append(e.step.Draws, model.Draw{
		Seed: r.Seed, Iteration: r.Iteration, Prompt: r.Index, Draw: r.FirstDraw + uint32(q.draw),
		Position:    uint32(len(r.Prompt) + len(q.group.answers[q.draw].IDs)),
		Temperature: r.Temperature, TopP: r.TopP, TopK: r.TopK,
	})
	e.owners = append(e.owners, owner{q, first})
}

// deliver hands the drawn ids out, ends what ended, and starts the draws whose prompt was read.
func (e *Engine) deliver() {
	for i, o := range e.owners {
		q := o.seq
		g := q.group
		a := &g.answers[q.draw]
		id := e.ids[i]
		a.IDs, a.Logps = append(a.IDs, id), append(a.Logps, e.logps[i])
		q.last = id
		more := g.req.OnToken == nil || g.req.OnToken(q.draw, id)
		switch {
		case !more || slices.Contains(g.req.Stop, id):
			a.Finish = FinishStop
		case len(a.IDs) == g.req.MaxNew:
			a.Finish = FinishLength
		}
	}
	e.reading = slices.DeleteFunc(e.reading, func(g *group) bool {
		if g.read < len(g.req.Prompt) {
			return false
		}
		e.fork(g)
		return true
	})
	e.running = slices.DeleteFunc(e.running, func(q *sequence) bool {
		if q.group.answers[q.draw].Finish == "" {
			return false
		}
		e.close(q)
		return true
	})
}

// fork starts the draws of a prompt that was just read. Its whole pages are held by all of them and
// remembered for later prompts; the page that the prompt only began is the first draw's, and is
// copied for the others before they write into it.
func (e *Engine) fork(g *group) {
	pt := e.pool.pageTokens
	parent := int32(-1)
	for i, page := range g.pages {
		if !e.pool.remember(page, parent, tokenKey(g.req.Prompt[i*pt:(i+1)*pt])) {
			break
		}
		parent = page
	}
	e.copyDst, e.copySrc = e.copyDst[:0], e.copySrc[:0]
	for _, q := range g.seqs {
		for _, page := range g.pages {
			e.pool.hold(page)
		}
		if q.draw > 0 && len(g.req.Prompt)%pt != 0 && len(q.pages) > q.own {
			e.copyDst = append(e.copyDst, q.pages[q.own])
			e.copySrc = append(e.copySrc, g.seqs[0].pages[q.own])
		}
		e.running = append(e.running, q)
	}
	for _, page := range g.pages {
		e.pool.release(page)
	}
	e.decoder.CopyPages(e.copyDst, e.copySrc)
}

// close gives a finished draw's pages and slot back, and finishes its request with the last one.
func (e *Engine) close(q *sequence) {
	g := q.group
	for _, page := range slices.Backward(q.pages) { // children are evicted before their parents
		e.pool.release(page)
	}
	g.seqs[q.draw] = nil
	q.group = nil
	e.idle = append(e.idle, q)
	if g.left--; g.left == 0 {
		e.pending--
		e.finished = append(e.finished, Result{Request: g.req, Answers: g.answers, Cached: g.cached})
	}
}

// tokenKey is a page's tokens as a map key.
func tokenKey(ids []int32) string { return string(compute.Bytes(ids)) }

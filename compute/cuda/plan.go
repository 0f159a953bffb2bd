//go:build cuda

package cuda

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cuda/driver"
)

// plan is six tables in one block of device memory, each at a fixed place: a token's segment and
// position, a segment's first place in the list of pages, its first token, its parent, and the list of
// pages. It belongs to the queue
// that made it: Set is ordered among that queue's operations.
type plan struct {
	b                                *Backend
	mem                              *memory
	maxTokens, maxSegments, maxPages int

	table    []int32 // the host's copy
	tokens   int
	segments int
	context  int // positions of the longest sequence
	hasTrees bool
	hasPast  bool
	// What the page size must fit, which operations check: each segment's pages, and the positions
	// that they must hold.
	pages, positions []int32
}

// NewPlan makes a plan; see compute.Backend.
func (b *Backend) NewPlan(maxTokens, maxSegments, maxPages int) compute.Plan {
	n := 2*maxTokens + 3*maxSegments + maxPages
	return &plan{
		b: b, mem: b.dev.alloc("NewPlan", 4*int64(n)), maxTokens: maxTokens, maxSegments: maxSegments, maxPages: maxPages,
		table: make([]int32, n), pages: make([]int32, maxSegments), positions: make([]int32, maxSegments),
	}
}

// The tables' places, in elements.
func (p *plan) segmentAt() int { return 0 }
func (p *plan) posAt() int     { return p.maxTokens }
func (p *plan) firstAt() int   { return 2 * p.maxTokens }
func (p *plan) startAt() int   { return 2*p.maxTokens + p.maxSegments }
func (p *plan) parentAt() int  { return 2*p.maxTokens + 2*p.maxSegments }
func (p *plan) pagesAt() int   { return 2*p.maxTokens + 3*p.maxSegments }

func (p *plan) address(at int) uint64 { return uint64(p.mem.ptr) + uint64(4*at) }

// Set queues the tables of a layout; see compute.Plan.
func (p *plan) Set(l compute.Layout) {
	p.b.notRecording("Plan.Set")
	if err := l.Check(0); err != nil {
		panic(err.Error())
	}
	pages := 0
	for _, s := range l.Pages {
		pages += len(s)
	}
	if l.Tokens() > p.maxTokens || l.Segments() > p.maxSegments || pages > p.maxPages {
		panic(fmt.Sprintf("compute: Plan.Set: %d tokens, %d segments, %d pages; plan is for %d, %d, %d",
			l.Tokens(), l.Segments(), pages, p.maxTokens, p.maxSegments, p.maxPages))
	}
	p.tokens, p.segments, p.context, p.hasTrees, p.hasPast = l.Tokens(), l.Segments(), 0, false, false
	list := p.table[p.pagesAt():p.pagesAt()]
	for s := range p.segments {
		from, to := l.Start[s], l.Start[s+1]
		for t := from; t < to; t++ {
			p.table[p.segmentAt()+int(t)] = int32(s)
		}
		p.table[p.startAt()+s], p.table[p.parentAt()+s] = from, -1
		if l.Parent != nil {
			p.table[p.parentAt()+s] = l.Parent[s]
		}
		if to > from {
			p.context = max(p.context, int(l.Pos[to-1])+1)
		}
		p.hasPast = p.hasPast || l.Past != nil && l.Past[s] > 0
		p.hasTrees = p.hasTrees || l.Parent != nil && l.Parent[s] >= 0
		p.pages[s], p.positions[s] = 0, to-from
		if l.Past != nil {
			p.positions[s] += l.Past[s]
		}
		p.table[p.firstAt()+s] = int32(len(list))
		if l.Pages != nil {
			list = append(list, l.Pages[s]...)
			p.pages[s] = int32(len(l.Pages[s]))
		}
	}
	copy(p.table[p.posAt():], l.Pos)
	// Only what is used of each table.
	for _, part := range [][2]int{{p.segmentAt(), p.tokens}, {p.posAt(), p.tokens}, {p.firstAt(), p.segments}, {p.startAt(), p.segments}, {p.parentAt(), p.segments}, {p.pagesAt(), pages}} {
		p.b.send(driver.Ptr(p.address(part[0])), compute.Bytes(p.table[part[0]:part[0]+part[1]]))
	}
}

// chunk is p as a chunk for a cache whose pages hold so many tokens. In a Graph the plan is noted: a
// replay needs as many tokens as the recording.
func (b *Backend) chunk(op string, p compute.Plan, c compute.Cache) *plan {
	pl, ok := p.(*plan)
	if !ok || pl.b != b {
		panic("compute: plan of another queue")
	}
	if pl.hasTrees {
		panic("compute/cuda: " + op + ": layout with a parent")
	}
	pl.holds(op, c.PageTokens)
	b.note(pl, c.PageTokens)
	return pl
}

// forest is p as a packed batch.
func (b *Backend) forest(op string, p compute.Plan) *plan {
	pl, ok := p.(*plan)
	if !ok || pl.b != b {
		panic("compute: plan of another queue")
	}
	if pl.hasPast {
		panic("compute/cuda: " + op + ": layout with a past")
	}
	b.note(pl, 0)
	return pl
}

// note keeps what a Graph's replay will have to fit; pageTokens is 0 where no cache is read.
func (b *Backend) note(p *plan, pageTokens int) {
	if b.recording != nil {
		b.recording.plans = append(b.recording.plans, recordedPlan{p, p.tokens, pageTokens})
	}
}

// holds panics unless every segment has pages for its tokens; pageTokens 0: none are needed.
func (p *plan) holds(op string, pageTokens int) {
	if pageTokens == 0 {
		return
	}
	for s := range p.segments {
		if int(p.pages[s])*pageTokens < int(p.positions[s]) {
			panic(fmt.Sprintf("compute/cuda: %s: segment %d has %d pages of %d tokens, needs %d tokens", op, s, p.pages[s], pageTokens, p.positions[s]))
		}
	}
}

package cpu

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute"
)

// plan is a Layout copied into buffers of fixed size; see compute.Plan.
type plan struct {
	layout compute.Layout // slices of the buffers below

	start, parent, past, pos, pages []int32
	pageLists                       [][]int32
}

// NewPlan makes a plan for layouts of at most these sizes.
func (b *Backend) NewPlan(maxTokens, maxSegments, maxPages int) compute.Plan {
	return &plan{
		start: make([]int32, maxSegments+1), parent: make([]int32, maxSegments), past: make([]int32, maxSegments),
		pos: make([]int32, maxTokens), pages: make([]int32, maxPages), pageLists: make([][]int32, maxSegments),
	}
}

// Set checks and copies l.
func (p *plan) Set(l compute.Layout) {
	if err := l.Check(0); err != nil {
		panic(err)
	}
	n, pages := l.Segments(), 0
	for _, list := range l.Pages {
		pages += len(list)
	}
	if n > len(p.parent) || l.Tokens() > len(p.pos) || pages > len(p.pages) {
		panic(fmt.Sprintf("compute/cpu: layout of %d tokens, %d segments, %d pages in a plan for %d, %d, %d",
			l.Tokens(), n, pages, len(p.pos), len(p.parent), len(p.pages)))
	}
	p.layout = compute.Layout{Start: p.start[:n+1], Parent: p.parent[:n], Past: p.past[:n], Pos: p.pos[:l.Tokens()]}
	p.start[0] = 0
	copy(p.start, l.Start)
	copy(p.pos, l.Pos)
	for i := range n {
		p.parent[i], p.past[i] = -1, 0
		if l.Parent != nil {
			p.parent[i] = l.Parent[i]
		}
		if l.Past != nil {
			p.past[i] = l.Past[i]
		}
	}
	if l.Pages != nil {
		rest := p.pages
		for i, list := range l.Pages {
			p.pageLists[i] = rest[:copy(rest, list)]
			rest = rest[len(list):]
		}
		p.layout.Pages = p.pageLists[:n]
	}
}

package ref

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute"
)

// plan spells a layout out: for each token, the rows it may see.
type plan struct {
	dev                              *device
	maxTokens, maxSegments, maxPages int

	layout   compute.Layout
	segments int
	context  int
	seen     [][]int // [tokens]: rows of its ancestors and of its segment up to itself, by position; with Past, unused
	segment  []int   // [tokens]
}

func (b *backend) NewPlan(maxTokens, maxSegments, maxPages int) compute.Plan {
	return &plan{dev: b.dev, maxTokens: maxTokens, maxSegments: maxSegments, maxPages: maxPages}
}

func (p *plan) Set(l compute.Layout) {
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
	p.layout = clone(l)
	p.segments, p.context = l.Segments(), 0
	p.seen, p.segment = make([][]int, l.Tokens()), make([]int, l.Tokens())
	whole := make([][]int, l.Segments()) // each segment's rows, ancestors first
	for s := range whole {
		var rows []int
		if l.Parent != nil && l.Parent[s] >= 0 {
			rows = append(rows, whole[l.Parent[s]]...)
		}
		for t := int(l.Start[s]); t < int(l.Start[s+1]); t++ {
			rows = append(rows, t)
			p.seen[t], p.segment[t] = rows[:len(rows):len(rows)], s
			p.context = max(p.context, int(l.Pos[t])+1)
		}
		whole[s] = rows
	}
}

func clone(l compute.Layout) compute.Layout {
	c := compute.Layout{
		Start:  append([]int32(nil), l.Start...),
		Parent: append([]int32(nil), l.Parent...),
		Past:   append([]int32(nil), l.Past...),
		Pos:    append([]int32(nil), l.Pos...),
	}
	for _, p := range l.Pages {
		c.Pages = append(c.Pages, append([]int32(nil), p...))
	}
	return c
}

func (b *backend) plan(p compute.Plan) *plan {
	r, ok := p.(*plan)
	if !ok || r.dev != b.dev {
		panic("compute: plan of another device")
	}
	return r
}

// window is the last n of the rows, or all.
func window(rows []int, n int) []int {
	if n > 0 && len(rows) > n {
		return rows[len(rows)-n:]
	}
	return rows
}

package cpu

import (
	"fmt"
	"slices"

	"github.com/seed-8780d58e/spin/compute"
)

// plan is a Layout copied into buffers of fixed size; see compute.Plan.
type plan struct {
	layout compute.Layout // slices of the buffers below

	start, parent, past, pos, pages []int32
	pageLists                       [][]int32

	tiles    []tile  // in the order of the layout
	trees    []tree  // in the order of their roots
	treeOf   []int32 // [segments]
	hasPast  bool
	hasTrees bool // some segment continues another
}

// tileTokens is the most tokens of a tile: with the query heads of one key/value head, so many rows
// that packing a block of keys is cheap beside what is done with it.
const tileTokens = 32

// tile is a run of one segment's tokens, whose queries are handled together. How segments are cut
// into tiles changes no bit.
type tile struct {
	segment, token, tokens, pos int32
	next                        int32 // the next tile of the same tree, or −1
}

// tree is a root segment and all that continue it: the tokens whose keys gather from each other.
type tree struct {
	first, last int32 // tiles; −1: no tokens
	work        int   // pairs of tokens that see each other, about
}

// run is a stretch of consecutive rows that hold consecutive positions: n keys of a block, from key
// at on, lie in rows row, row+1, … of K and V.
type run struct {
	at, row, n int
}

func planOf(p compute.Plan) *plan {
	q, ok := p.(*plan)
	if !ok {
		panic(fmt.Sprintf("compute/cpu: plan is a %T, want this device's", p))
	}
	return q
}

// NewPlan makes a plan for layouts of at most these sizes.
func (b *Backend) NewPlan(maxTokens, maxSegments, maxPages int) compute.Plan {
	return &plan{
		start: make([]int32, maxSegments+1), parent: make([]int32, maxSegments), past: make([]int32, maxSegments),
		pos: make([]int32, maxTokens), pages: make([]int32, maxPages), pageLists: make([][]int32, maxSegments),
		tiles: make([]tile, 0, maxTokens/tileTokens+maxSegments), trees: make([]tree, 0, maxSegments), treeOf: make([]int32, maxSegments),
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
	p.cut()
}

// cut makes the tiles and trees.
func (p *plan) cut() {
	p.tiles, p.trees, p.hasPast, p.hasTrees = p.tiles[:0], p.trees[:0], false, false
	for i := range p.layout.Segments() {
		if p.past[i] != 0 {
			p.hasPast = true
		}
		if parent := p.parent[i]; parent >= 0 {
			p.treeOf[i], p.hasTrees = p.treeOf[parent], true
		} else {
			p.treeOf[i] = int32(len(p.trees))
			p.trees = append(p.trees, tree{first: -1, last: -1})
		}
		for t := p.start[i]; t < p.start[i+1]; t += tileTokens {
			at := int32(len(p.tiles))
			p.tiles = append(p.tiles, tile{int32(i), t, min(tileTokens, p.start[i+1]-t), p.pos[t], -1})
			tr, last := &p.trees[p.treeOf[i]], &p.tiles[at]
			tr.work += int(last.tokens) * int(last.pos+last.tokens)
			if tr.first < 0 {
				tr.first, tr.last = at, at
			} else {
				p.tiles[tr.last].next, tr.last = at, at
			}
		}
	}
}

// continues reports whether segment s is ancestor, or continues it.
func (p *plan) continues(s, ancestor int32) bool {
	for s > ancestor {
		s = p.parent[s]
	}
	return s == ancestor
}

// forestRuns says where positions [from, to) of a segment lie in the batch, its ancestors' included,
// in the order of positions. runs is empty.
func (p *plan) forestRuns(runs []run, segment int32, from, to int) []run {
	for s, end := segment, to; end > from; s = p.parent[s] {
		token := int(p.start[s])
		first := int(p.pos[token])
		if begin := max(from, first); begin < end {
			runs = append(runs, run{begin - from, token + begin - first, end - begin})
			end = begin
		}
	}
	slices.Reverse(runs)
	return runs
}

// pageRuns says where positions [from, to) of a segment lie in a cache of so many pages, in the order
// of positions. runs is empty.
func (p *plan) pageRuns(runs []run, segment int32, from, to, pageTokens, cachePages int) []run {
	list := p.layout.Pages[segment]
	for pos := from; pos < to; {
		page, off := int(list[pos/pageTokens]), pos%pageTokens
		if uint(page) >= uint(cachePages) {
			panic(fmt.Sprintf("compute/cpu: page %d of a cache of %d", page, cachePages))
		}
		n := min(pageTokens-off, to-pos)
		row := page*pageTokens + off
		if last := len(runs) - 1; last >= 0 && runs[last].row+runs[last].n == row {
			runs[last].n += n
		} else {
			runs = append(runs, run{pos - from, row, n})
		}
		pos += n
	}
	return runs
}

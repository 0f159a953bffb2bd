package computetest

import (
	"slices"

	"github.com/seed-8780d58e/spin/compute"
)

// tree is some segments that continue each other: its parents are indexes of its own segments. Its
// tokens are rows first, first+1, … of the case's values, segment by segment.
type tree struct {
	first   int
	parents []int // −1 for the root
	lengths []int
}

func (t tree) tokens() (n int) {
	for _, l := range t.lengths {
		n += l
	}
	return n
}

// rows are the case's rows of segment s.
func (t tree) rows(s int) []int {
	from := t.first
	for _, l := range t.lengths[:s] {
		from += l
	}
	return upto(from + t.lengths[s])[from:]
}

// path are the case's rows from the root to the end of segment s.
func (t tree) path(s int) []int {
	if s < 0 {
		return nil
	}
	return append(t.path(t.parents[s]), t.rows(s)...)
}

// batch is a layout, and the case's row of each of its tokens.
type batch struct {
	layout compute.Layout
	sel    []int
}

func (b *batch) segment(parent int, rows []int) (index int) {
	l := &b.layout
	if len(l.Start) == 0 {
		l.Start = []int32{0}
	}
	pos := int32(0)
	if parent >= 0 {
		pos = l.Pos[l.Start[parent+1]-1] + 1
	}
	for i := range rows {
		l.Pos = append(l.Pos, pos+int32(i))
	}
	b.sel = append(b.sel, rows...)
	l.Start, l.Parent = append(l.Start, int32(len(b.sel))), append(l.Parent, int32(parent))
	return len(l.Parent) - 1
}

// pack lays trees out: one after the other, or their segments mixed at random, each tree's own in
// their order.
func (l *lab) pack(trees []tree, mixed bool) batch {
	var b batch
	next, index := make([]int, len(trees)), make([][]int, len(trees))
	for done := 0; done < len(trees); {
		i := done
		if mixed {
			i = l.rand.IntN(len(trees))
		}
		t := trees[i]
		if next[i] == len(t.lengths) {
			if !mixed {
				done++
				continue
			}
			done = 0
			for j := range trees {
				if next[j] == len(trees[j].lengths) {
					done++
				}
			}
			continue
		}
		s := next[i]
		next[i]++
		parent := -1
		if t.parents[s] >= 0 {
			parent = index[i][t.parents[s]]
		}
		index[i] = append(index[i], b.segment(parent, t.rows(s)))
	}
	return b
}

type attentionCase struct {
	h     compute.Heads
	trees []tree
}

// game is a prompt with answers, as SPIN packs them.
func game(prompt int, answers ...int) tree {
	t := tree{parents: []int{-1}, lengths: []int{prompt}}
	for _, n := range answers {
		t.parents, t.lengths = append(t.parents, 0), append(t.lengths, n)
	}
	return t
}

func (l *lab) attentionCases() []attentionCase {
	h := func(q, kv, dim, window int) compute.Heads {
		return compute.Heads{Q: q, KV: kv, Dim: dim, Window: window, Scale: float32(1 / sqrt(dim))}
	}
	chain := tree{parents: []int{-1, 0, 1, 2, 3, 2}, lengths: []int{1, 30, 3, 33, 2, 5}}
	cases := []attentionCase{
		{h(1, 1, 8, 0), []tree{game(1)}},
		{h(9, 3, 64, 0), []tree{game(37, 20, 5), game(64, 1, 0, 3), game(3)}},
		{h(4, 4, 16, 0), []tree{game(130, 10, 70), game(2, 2)}},
		{h(8, 1, 32, 0), []tree{chain, game(5, 5)}},
		{h(2, 1, 128, 7), []tree{chain, game(16, 16, 17)}},
		{h(2, 2, 20, 1), []tree{game(9, 3)}},
		{h(2, 1, 80, 64), []tree{game(200, 30, 9)}},
		{h(1, 1, 96, 65), []tree{game(300)}},
	}
	for range 4 * l.o.Rounds {
		kv, group := l.upTo(2), l.upTo(8)
		c := attentionCase{h: h(kv*group, kv, 4*l.upTo(16)+4, 0)}
		if l.coin() {
			c.h.Window = l.upTo(100)
		}
		for range l.upTo(4) {
			t := tree{}
			for s := range l.upTo(6) {
				parent := l.rand.IntN(s+1) - 1
				if parent >= 0 && t.lengths[parent] == 0 {
					parent = -1 // an empty segment has no children
				}
				t.parents, t.lengths = append(t.parents, parent), append(t.lengths, l.rand.IntN(30))
			}
			c.trees = append(c.trees, t)
		}
		cases = append(cases, c)
	}
	for i := range cases {
		first := 0
		for j := range cases[i].trees {
			cases[i].trees[j].first = first
			first += cases[i].trees[j].tokens()
		}
	}
	return within(l, cases, func(c attentionCase) (n int) {
		for _, t := range c.trees {
			n += t.tokens() * t.tokens() * c.h.Q * c.h.Dim
		}
		return n
	})
}

// attentionData are the values of all tokens of a case.
type attentionData struct {
	attentionCase
	q, k, v, dy values
	y, lse      values // of the forward operation, for the backward one
}

func (l *lab) attentionData(ac attentionCase) *attentionData {
	n := 0
	for _, t := range ac.trees {
		n += t.tokens()
	}
	h := ac.h
	return &attentionData{
		attentionCase: ac,
		q:             normal(l.rand, l.dt, n, h.Q*h.Dim, 1.5),
		k:             normal(l.rand, l.dt, n, h.KV*h.Dim, 1.5),
		v:             normal(l.rand, l.dt, n, h.KV*h.Dim, 1),
		dy:            normal(l.rand, l.dt, n, h.Q*h.Dim, 1),
	}
}

func (d *attentionData) plan(c *call, l compute.Layout) compute.Plan {
	p := c.b.NewPlan(l.Tokens()+3, l.Segments()+2, 0)
	p.Set(compute.Layout{})
	p.Set(l)
	return p
}

func (d *attentionData) roundings() int { return attentionRoundings(d.h.Dim, d.q.rows) }

// attentionRoundings: a score's absolute error is a relative one of its probability, and the scores
// reach 9, four times their standard deviation: hence 4².
func attentionRoundings(dim, tokens int) int { return 16 * (dim + tokens) }

func (d *attentionData) forward(l compute.Layout) func(*call) {
	return func(c *call) {
		n, k := d.q.rows, d.roundings()
		y, lse := c.outRows("y", zeros(d.q.dt, n, d.q.cols), k), c.outRows("lse", zeros(compute.F32, n, d.h.Q), k)
		c.composite()
		c.b.Attention(y, lse, c.inRows("q", d.q), c.inRows("k", d.k), c.inRows("v", d.v), d.h, d.plan(c, l))
	}
}

// backward's results are dq, dk and dv, in this order.
func (d *attentionData) backward(l compute.Layout) func(*call) {
	return func(c *call) {
		k := 2 * d.roundings()
		dq := c.outRows("dq", d.q, k)
		c.atLeast(1 / sqrt(d.q.rows))
		dk := c.outRows("dk", d.k, k)
		c.atLeast(1 / sqrt(d.q.rows))
		dv := c.outRows("dv", d.v, k)
		c.composite()
		c.b.AttentionBackward(dq, dk, dv, c.inRows("dy", d.dy), c.inRows("y", d.y), c.inRows("lse", d.lse),
			c.inRows("q", d.q), c.inRows("k", d.k), c.inRows("v", d.v), d.h, d.plan(c, l))
	}
}

// compareForests is lab.check for forests: the batches are all trees, on one thread and on several; all in
// another order and mixed; each alone; and each path as one sequence, where nothing is shared.
func (l *lab) compareForests(d *attentionData, op func(compute.Layout) func(*call), shared []string) []result {
	l.Helper()
	full := l.pack(d.trees, false)
	base := l.one.run(l, full.sel, op(full.layout))
	l.near(base, l.ref.run(l, full.sel, op(full.layout)))
	l.same("on several threads", base, l.many.run(l, full.sel, op(full.layout)), nil)

	other := slices.Clone(d.trees)
	l.rand.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
	mixed := l.pack(other, true)
	l.same("among other trees", base, l.many.run(l, mixed.sel, op(mixed.layout)), mixed.sel)
	alone := l.pack(other[:1], false)
	l.same("alone", base, l.one.run(l, alone.sel, op(alone.layout)), alone.sel)

	var paths batch
	for _, t := range d.trees {
		s := len(t.lengths) - 1 - l.rand.IntN(min(2, len(t.lengths)))
		paths.segment(-1, t.path(s))
	}
	paths.layout.Parent = nil // all −1
	var own, contiguous []result
	for i, r := range l.one.run(l, paths.sel, op(paths.layout)) {
		if slices.Contains(shared, r.name) {
			own, contiguous = append(own, base[i]), append(contiguous, r)
		}
	}
	l.same("as one sequence", own, contiguous, paths.sel)
	return base
}

func testAttention(l *lab) {
	for _, ac := range l.attentionCases() {
		d := l.attentionData(ac)
		l.compareForests(d, d.forward, []string{"y", "lse"})
	}
}

func testAttentionBackward(l *lab) {
	for _, ac := range l.attentionCases() {
		d := l.attentionData(ac)
		full := l.pack(d.trees, false)
		out := l.ref.run(l, full.sel, d.forward(full.layout))
		d.y, d.lse = rounded(out[0].got, l.dt), rounded(out[1].got, compute.F32)
		// A parent's dk and dv gather from all that continue it: only dq is the same in one sequence.
		l.compareForests(d, d.backward, []string{"dq"})
	}
}

func rounded(x values, dt compute.DType) values {
	return fill(dt, x.rows, x.cols, func(i int) float64 { return x.v[i] })
}

package computetest

import (
	"math/rand/v2"

	"github.com/seed-8780d58e/spin/compute"
)

// pagedCase is some sequences; tokens of sequence s are rows first[s] to first[s+1] of the values.
type pagedCase struct {
	h       compute.Heads
	first   []int
	q, k, v values
}

// schedule says how the sequences come in: which of them, in chunks of how many tokens, and where
// the cache holds them.
type schedule struct {
	pageTokens int
	chunk      func(r *rand.Rand) int
	only       int // one sequence alone; −1: all
}

// paged runs a schedule: each step takes a chunk of some sequences, in any order. Its one result
// has the case's rows, 0 for sequences left out.
func (l *lab) paged(r *rig, p pagedCase, s schedule) result {
	n := p.q.rows
	got := zeros(p.q.dt, n, p.q.cols)
	r.run(l, nil, func(c *call) {
		pages := make([][]int32, len(p.first)-1)
		total := int32(0)
		for i := range pages {
			for range (p.first[i+1] - p.first[i] + s.pageTokens - 1) / s.pageTokens {
				pages[i] = append(pages[i], total)
				total++
			}
		}
		total += 2 // spare pages
		place := c.rand.Perm(int(total))
		for i := range pages {
			for j, page := range pages[i] {
				pages[i][j] = int32(place[page])
			}
		}
		cache := compute.Cache{
			K:          c.out("cache K", zeros(p.k.dt, int(total)*s.pageTokens, p.k.cols), 0),
			V:          c.out("cache V", zeros(p.k.dt, int(total)*s.pageTokens, p.k.cols), 0),
			PageTokens: s.pageTokens,
		}
		plan := c.b.NewPlan(n, len(pages), int(total))
		past := make([]int, len(pages))
		for {
			var layout compute.Layout
			layout.Start = []int32{0}
			var sel []int
			for _, i := range c.rand.Perm(len(pages)) {
				left := p.first[i+1] - p.first[i] - past[i]
				if left == 0 || s.only >= 0 && i != s.only || s.only < 0 && c.rand.IntN(4) == 0 {
					continue
				}
				chunk := min(left, s.chunk(c.rand))
				layout.Past = append(layout.Past, int32(past[i]))
				layout.Pages = append(layout.Pages, pages[i][:(past[i]+chunk+s.pageTokens-1)/s.pageTokens])
				for range chunk {
					layout.Pos = append(layout.Pos, int32(past[i]))
					sel = append(sel, p.first[i]+past[i])
					past[i]++
				}
				layout.Start = append(layout.Start, int32(len(sel)))
			}
			if len(sel) == 0 {
				continue
			}
			plan.Set(layout)
			step := *c
			step.sel, step.blocks = sel, nil
			mark := c.arena.Mark()
			c.b.WriteKV(cache, step.inRows("k", p.k), step.inRows("v", p.v), plan)
			y := step.put("y", zeros(p.q.dt, len(sel), p.q.cols))
			y.written = true
			c.b.AttentionPaged(y.inner, step.inRows("q", p.q), cache, p.h, plan)
			for i, row := range sel {
				copy(got.row(row), c.read(c.t, y.inner).row(i))
			}
			for _, b := range step.blocks {
				step.untouched(b)
			}
			c.arena.Release(mark)
			if p.done(past, s.only) {
				return
			}
		}
	})
	return result{name: "y", got: got, roundings: attentionRoundings(p.h.Dim, n), composite: true}
}

func (p pagedCase) done(past []int, only int) bool {
	for i := range past {
		if (only < 0 || i == only) && past[i] < p.first[i+1]-p.first[i] {
			return false
		}
	}
	return true
}

func (l *lab) pagedCases() []pagedCase {
	var cases []pagedCase
	add := func(q, kv, dim, window int, lengths ...int) {
		p := pagedCase{h: compute.Heads{Q: q, KV: kv, Dim: dim, Window: window, Scale: float32(1 / sqrt(dim))}, first: []int{0}}
		for _, n := range lengths {
			p.first = append(p.first, p.first[len(p.first)-1]+n)
		}
		n := p.first[len(lengths)]
		p.q, p.k, p.v = normal(l.rand, l.dt, n, q*dim, 1.5), normal(l.rand, l.dt, n, kv*dim, 1.5), normal(l.rand, l.dt, n, kv*dim, 1)
		cases = append(cases, p)
	}
	add(1, 1, 8, 0, 1)
	add(9, 3, 64, 0, 70, 5, 33)
	add(8, 1, 32, 0, 17, 130)
	add(2, 1, 128, 20, 40, 41)
	add(4, 4, 20, 1, 9, 3)
	add(2, 1, 80, 65, 200)
	for range 2 * l.o.Rounds {
		kv := l.upTo(2)
		add(kv*l.upTo(8), kv, 4*l.upTo(16)+4, l.rand.IntN(2)*l.upTo(60), l.upTo(60), l.upTo(60), l.upTo(60))
	}
	return within(l, cases, func(p pagedCase) (n int) {
		for i, first := range p.first[1:] {
			n += (first - p.first[i]) * (first - p.first[i]) * p.q.cols
		}
		return n
	})
}

func testAttentionPaged(l *lab) {
	whole := func(*rand.Rand) int { return 1 << 30 }
	single := func(*rand.Rand) int { return 1 }
	few := func(r *rand.Rand) int { return 1 + r.IntN(50) }
	for _, p := range l.pagedCases() {
		base := l.paged(l.one, p, schedule{16, whole, -1})
		l.near([]result{base}, []result{l.paged(l.ref, p, schedule{64, whole, -1})})
		for _, s := range []schedule{{1, few, -1}, {5, few, -1}, {16, single, -1}, {64, few, -1}, {32, whole, -1}} {
			l.same("in other pages and chunks", []result{base}, []result{l.paged(l.one, p, s)}, nil)
		}
		l.same("on several threads", []result{base}, []result{l.paged(l.many, p, schedule{7, few, -1})}, nil)

		i := l.rand.IntN(len(p.first) - 1)
		alone := l.paged(l.one, p, schedule{3, few, i})
		sel := upto(p.first[i+1])[p.first[i]:]
		alone.got = alone.got.pick(sel)
		base.byRow = true
		l.same("alone", []result{base}, []result{alone}, sel)
	}
}

// testWriteKV and testCopyPages look at the cache itself.
func testWriteKV(l *lab) {
	const pageTokens, width = 4, 24
	k, v := normal(l.rand, l.dt, 7, width, 1), normal(l.rand, l.dt, 7, width, 1)
	before := normal(l.rand, l.dt, 6*pageTokens, width, 1)
	l.check(0, func(c *call) {
		cache := compute.Cache{K: c.out("cache K", before, 0), V: c.out("cache V", before, 0), PageTokens: pageTokens}
		plan := c.b.NewPlan(7, 2, 4)
		plan.Set(compute.Layout{Start: []int32{0, 5, 7}, Past: []int32{3, 0}, Pos: []int32{3, 4, 5, 6, 7, 0, 1}, Pages: [][]int32{{5, 0}, {2}}})
		c.b.WriteKV(cache, c.in("k", k), c.in("v", v), plan)
	})
}

func testCopyPages(l *lab) {
	for _, pageTokens := range []int{1, 5, 16} {
		before := normal(l.rand, l.dt, 7*pageTokens, 20, 1)
		l.check(0, func(c *call) {
			cache := compute.Cache{K: c.out("cache K", before, 0), V: c.out("cache V", before, 0), PageTokens: pageTokens}
			c.b.CopyPages(cache, c.in("dst", ints(3, 6, 0)), c.in("src", ints(1, 5, 1)))
		})
	}
}

package computetest

import (
	"slices"

	"github.com/seed-8780d58e/spin/compute"
)

// headCase asks for n rows of x [tokens, width] under a head of vocab rows.
type headCase struct{ tokens, width, vocab, n int }

func (l *lab) headCases() []headCase {
	cases := []headCase{
		{1, 1, 1, 1}, {3, 17, 7, 2}, {5, 64, 100, 9}, {40, 33, 1000, 60}, {2, 96, 4999, 2}, {3, 576, 515, 4}, {300, 48, 257, 130}, {9, 40, 2049, 300},
	}
	for range 3 * l.o.Rounds {
		cases = append(cases, headCase{l.upTo(100), l.upTo(100), l.upTo(1500), l.upTo(120)})
	}
	return within(l, cases, func(c headCase) int { return c.n * c.width * c.vocab })
}

// headData: row asks[i] of x is asked for, with targets[i].
type headData struct {
	headCase
	x, w          values
	asks, targets values
}

func (l *lab) headData(hc headCase) headData {
	return headData{
		headCase: hc,
		x:        normal(l.rand, l.dt, hc.tokens, hc.width, 1),
		w:        normal(l.rand, l.dt, hc.vocab, hc.width, 2/sqrt(hc.width)),
		asks:     intsBelow(l.rand, hc.n, hc.tokens),
		targets:  intsBelow(l.rand, hc.n, hc.vocab),
	}
}

func testHeadLogProb(l *lab) {
	for i, hc := range l.headCases() {
		d := l.headData(hc)
		k := hc.width + hc.vocab + 16
		l.check(hc.n, func(c *call) {
			logp, lse := c.outRows("logp", zeros(compute.F32, hc.n, 1), k), c.outRows("lse", zeros(compute.F32, hc.n, 1), k)
			var entropy, argmax compute.Tensor
			if i%3 != 1 {
				entropy = c.outRows("entropy", zeros(compute.F32, hc.n, 1), k)
			}
			if i%3 != 2 {
				argmax = c.outRows("argmax", zeros(compute.I32, hc.n, 1), 0)
			}
			// The rows of x lie in another order each time.
			place := c.rand.Perm(hc.tokens)
			asks := fill(compute.I32, hc.n, 1, func(i int) float64 { return float64(slices.Index(place, int(d.asks.v[i]))) })
			c.b.HeadLogProb(logp, lse, entropy, argmax, c.in("x", d.x.pick(place)), c.inRows("rows", asks),
				c.inRows("target", d.targets), c.weight(d.w, c.rand.IntN(2) == 0))
		})
	}
	l.argmaxOfTies()
}

// argmaxOfTies has integers for values, so that ties are exact on every machine.
func (l *lab) argmaxOfTies() {
	x := fill(l.dt, 20, 24, func(int) float64 { return float64(l.rand.IntN(3) - 1) })
	w := fill(l.dt, 700, 24, func(int) float64 { return float64(l.rand.IntN(3) - 1) })
	l.check(20, func(c *call) {
		c.b.HeadLogProb(c.outRows("logp", zeros(compute.F32, 20, 1), 1000), c.outRows("lse", zeros(compute.F32, 20, 1), 1000), compute.Tensor{},
			c.outRows("argmax", zeros(compute.I32, 20, 1), 0), c.in("x", x.pick(c.sel)), c.in("rows", ints(upto(len(c.sel))...)),
			c.inRows("target", ints(upto(20)...)), c.weight(w, false))
	})
}

func testHeadLogProbBackward(l *lab) {
	for i, hc := range l.headCases() {
		d := l.headData(hc)
		k := 16*hc.width + hc.vocab + hc.n + 16 // 4²: see attentionRoundings
		coef, dw0 := normal(l.rand, compute.F32, hc.n, 1, 1), normal(l.rand, compute.F32, hc.vocab, hc.width, 1)
		lse := rounded(l.ref.run(l, nil, func(c *call) {
			c.b.HeadLogProb(c.out("logp", coef, 0), c.out("lse", coef, 0), compute.Tensor{}, compute.Tensor{}, c.in("x", d.x),
				c.in("rows", d.asks), c.in("target", d.targets), c.weight(d.w, false))
		})[1].got, compute.F32)
		l.check(hc.tokens, func(c *call) {
			var dw compute.Tensor
			if i%4 != 3 {
				dw = c.out("dw", dw0, k)
				c.atLeast(1)
			}
			dx := c.outRows("dx", d.x, k)
			c.atLeast(2 / sqrt(hc.width))
			c.composite()
			rows, which := d.asked(c.sel)
			c.b.HeadLogProbBackward(dx, dw, c.in("coef", coef.pick(which)), c.in("lse", lse.pick(which)), c.inRows("x", d.x),
				c.in("rows", ints(rows...)), c.in("target", d.targets.pick(which)), c.weight(d.w, c.rand.IntN(2) == 0))
		})
	}
}

// asked are the rows asked for in a batch of rows sel, and which of asks each of them is. For one
// row they stay in order; of several rows, another batch may mix them otherwise.
func (d headData) asked(sel []int) (rows, which []int) {
	if slices.IsSorted(sel) {
		for i, r := range d.asks.v {
			for p, s := range sel {
				if s == int(r) {
					rows, which = append(rows, p), append(which, i)
				}
			}
		}
		return rows, which
	}
	for p, s := range sel {
		for i, r := range d.asks.v {
			if s == int(r) {
				rows, which = append(rows, p), append(which, i)
			}
		}
	}
	return rows, which
}

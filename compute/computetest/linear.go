package computetest

import (
	"math"

	"github.com/seed-8780d58e/spin/compute"
)

// linearCase is tokens, columns of x, columns of each y.
type linearCase struct {
	rows, in int
	outs     []int
}

func (l *lab) linearCases() []linearCase {
	cases := []linearCase{
		{1, 1, []int{1}},
		{1, 17, []int{3}},
		{2, 32, []int{16}},
		{5, 64, []int{48, 16, 16}},
		{7, 576, []int{192}},
		{16, 1536, []int{8}},
		{31, 15, []int{33, 1}},
		{64, 300, []int{33}},
		{129, 40, []int{257}},
		{300, 96, []int{100, 100}},
	}
	for range 6 * l.o.Rounds {
		c := linearCase{rows: l.upTo(300), in: l.upTo(200)}
		for range l.upTo(3) {
			c.outs = append(c.outs, l.upTo(150))
		}
		cases = append(cases, c)
	}
	return within(l, cases, func(c linearCase) (n int) {
		for _, out := range c.outs {
			n += c.rows * c.in * out
		}
		return n
	})
}

// size of N(0, 1/in) weights keeps the results near 1.
func (l *lab) weights(outs []int, in int) []values {
	var ws []values
	for _, out := range outs {
		ws = append(ws, normal(l.rand, l.dt, out, in, 1/sqrt(in)))
	}
	return ws
}

// testLinear makes its weights for training or not, by chance: the bits are the same, as those of
// who samples and who trains must be.
func testLinear(l *lab) {
	for i, lc := range l.linearCases() {
		x, ws, acc, dt := normal(l.rand, l.dt, lc.rows, lc.in, 1), l.weights(lc.outs, lc.in), i%2 == 1, l.actOrF32()
		var y0 []values
		for _, out := range lc.outs {
			y0 = append(y0, normal(l.rand, dt, lc.rows, out, 1))
		}
		l.check(lc.rows, func(c *call) {
			var ys []compute.Tensor
			var weights []compute.Weight
			for i := range ws {
				ys = append(ys, c.outRows("y", y0[i], lc.in+1))
				c.atLeast(1)
				weights = append(weights, c.weight(ws[i], c.rand.IntN(2) == 0))
			}
			c.b.Linear(ys, c.inRows("x", x), weights, acc)
		})
	}
}

func testLinearDX(l *lab) {
	for i, lc := range l.linearCases() {
		ws, acc := l.weights(lc.outs, lc.in), i%2 == 1
		dx0 := normal(l.rand, l.actOrF32(), lc.rows, lc.in, 1)
		var dy []values
		terms := 1
		for _, out := range lc.outs {
			dy = append(dy, normal(l.rand, l.dt, lc.rows, out, 1))
			terms += out
		}
		l.check(lc.rows, func(c *call) {
			var dys []compute.Tensor
			var weights []compute.Weight
			for i := range ws {
				dys = append(dys, c.inRows("dy", dy[i]))
				weights = append(weights, c.weight(ws[i], true))
			}
			dx := c.outRows("dx", dx0, terms)
			c.atLeast(sqrt(terms) / sqrt(lc.in))
			c.b.LinearDX(dx, dys, weights, acc)
		})
	}
}

func testLinearDW(l *lab) {
	for _, lc := range l.linearCases() {
		x, dy := normal(l.rand, l.dt, lc.rows, lc.in, 1), normal(l.rand, l.dt, lc.rows, lc.outs[0], 1)
		dw0 := normal(l.rand, compute.F32, lc.outs[0], lc.in, 1)
		alpha := float32(1)
		if l.coin() {
			alpha = -0.375
		}
		l.check(0, func(c *call) {
			dw := c.out("dw", dw0, lc.rows+2)
			c.atLeast(math.Abs(float64(alpha)) * sqrt(lc.rows))
			c.b.LinearDW(dw, c.in("dy", dy), c.in("x", x), alpha)
		})
		l.check(0, func(c *call) { // frozen
			c.b.LinearDW(compute.Tensor{}, c.in("dy", dy), c.in("x", x), alpha)
		})
	}
}

func testMatMul(l *lab) {
	sizes := [][3]int{{1, 1, 1}, {1, 16, 300}, {33, 8, 17}, {300, 16, 96}, {16, 150, 1}, {7, 5, 129}}
	for range 3 * l.o.Rounds {
		sizes = append(sizes, [3]int{l.upTo(300), l.upTo(64), l.upTo(200)})
	}
	for i, s := range within(l, sizes, func(s [3]int) int { return s[0] * s[1] * s[2] }) {
		for _, trans := range []compute.Trans{compute.NN, compute.NT, compute.TN} {
			m, n, k := s[0], s[1], s[2]
			in, acc := l.actOrF32(), (i+int(trans))%2 == 1
			alpha := float32(1)
			if l.coin() {
				alpha = 0.0625
			}
			a, b, y0 := normal(l.rand, in, m, k, 1), normal(l.rand, in, k, n, 1), normal(l.rand, l.actOrF32(), m, n, 1)
			switch trans {
			case compute.NT:
				b = normal(l.rand, in, n, k, 1)
			case compute.TN:
				a = normal(l.rand, in, k, m, 1)
			}
			if trans == compute.TN { // sums over rows
				l.check(0, func(c *call) {
					y := c.out("y", y0, k+2)
					c.atLeast(float64(alpha) * sqrt(k))
					c.b.MatMul(y, c.in("a", a), c.in("b", b), trans, alpha, acc)
				})
				continue
			}
			l.check(m, func(c *call) {
				y := c.outRows("y", y0, k+2)
				c.atLeast(float64(alpha) * sqrt(k))
				c.b.MatMul(y, c.inRows("a", a), c.in("b", b), trans, alpha, acc)
			})
		}
	}
}

package computetest

import (
	"math"
	"slices"

	"github.com/seed-8780d58e/spin/compute"
)

var widths = []int{1, 3, 16, 17, 31, 33, 64, 100, 576, 1000, 2048}

// shapes are rows and widths: each of widths, and some random ones.
func (l *lab) shapes() [][2]int {
	var s [][2]int
	for i, w := range widths {
		s = append(s, [2]int{[]int{1, 5, 37}[i%3], w})
	}
	s = append(s, [2]int{300, 48})
	for range 4 * l.o.Rounds {
		s = append(s, [2]int{l.upTo(300), l.upTo(200)})
	}
	return s
}

func testEmbed(l *lab) {
	for _, s := range l.shapes() {
		vocab := l.upTo(50)
		w, ids := normal(l.rand, l.dt, vocab, s[1], 1), intsBelow(l.rand, s[0], vocab)
		l.check(s[0], func(c *call) {
			c.b.Embed(c.outRows("x", zeros(compute.F32, s[0], s[1]), 0), c.weight(w, c.rand.IntN(2) == 0), c.inRows("ids", ids))
		})
	}
}

func testEmbedBackward(l *lab) {
	for _, s := range l.shapes() {
		vocab := l.upTo(50)
		dw, dx, ids := normal(l.rand, compute.F32, vocab, s[1], 1), normal(l.rand, compute.F32, s[0], s[1], 1), intsBelow(l.rand, s[0], vocab)
		l.check(0, func(c *call) {
			dwt := c.out("dw", dw, s[0])
			c.atLeast(sqrt(s[0]) / sqrt(vocab))
			c.b.EmbedBackward(dwt, c.in("dx", dx), c.in("ids", ids))
			c.b.EmbedBackward(compute.Tensor{}, c.in("dx", dx), c.in("ids", ids))
		})
	}
}

func testAddBias(l *lab) {
	for _, s := range l.shapes() {
		y, b := normal(l.rand, l.dt, s[0], s[1], 1), normal(l.rand, compute.F32, 1, s[1], 1)
		l.check(s[0], func(c *call) { c.b.AddBias(c.outRows("y", y, 1), c.in("b", b)) })
	}
}

func testColumnSum(l *lab) {
	for _, s := range l.shapes() {
		db, dy := normal(l.rand, compute.F32, 1, s[1], 1), normal(l.rand, l.dt, s[0], s[1], 1)
		l.check(0, func(c *call) {
			dbt := c.out("db", db, s[0])
			c.atLeast(sqrt(s[0]))
			c.b.ColumnSum(dbt, c.in("dy", dy))
			c.b.ColumnSum(compute.Tensor{}, c.in("dy", dy))
		})
	}
}

func testAddRMSNorm(l *lab) {
	const eps = 1e-5
	for i, s := range l.shapes() {
		x, delta, w := normal(l.rand, compute.F32, s[0], s[1], 1), normal(l.rand, l.dt, s[0], s[1], 1), normal(l.rand, compute.F32, 1, s[1], 1)
		l.check(s[0], func(c *call) {
			d, roundings := compute.Tensor{}, 0
			if i%2 == 0 {
				d, roundings = c.inRows("delta", delta), 1
			}
			xt := c.outRows("x", x, roundings)
			rstd := c.outRows("rstd", zeros(compute.F32, s[0], 1), s[1]+4)
			y := c.outRows("y", delta, s[1]+8)
			c.b.AddRMSNorm(y, rstd, xt, d, c.in("w", w), eps)
		})
	}
	// A row of zeros is normed by eps alone.
	w := normal(l.rand, compute.F32, 1, 24, 1)
	l.check(2, func(c *call) {
		c.b.AddRMSNorm(c.outRows("y", zeros(l.dt, 2, 24), 0), c.outRows("rstd", zeros(compute.F32, 2, 1), 4),
			c.outRows("x", zeros(compute.F32, 2, 24), 0), compute.Tensor{}, c.in("w", w), eps)
	})
}

func testAddRMSNormBackward(l *lab) {
	const eps = 1e-5
	for i, s := range l.shapes() {
		x, w := normal(l.rand, compute.F32, s[0], s[1], 2), normal(l.rand, compute.F32, 1, s[1], 1)
		dx, dy := normal(l.rand, compute.F32, s[0], s[1], 1), normal(l.rand, l.dt, s[0], s[1], 1)
		dw := normal(l.rand, compute.F32, 1, s[1], 1)
		rstd := zeros(compute.F32, s[0], 1)
		for r := range rstd.v {
			var sum float64
			for _, v := range x.row(r) {
				sum += v * v
			}
			rstd.v[r] = round(1/math.Sqrt(sum/float64(s[1])+eps), compute.F32)
		}
		l.check(s[0], func(c *call) {
			var dwt, ddelta compute.Tensor
			if i%4 != 0 {
				dwt = c.out("dw", dw, s[0]+4)
				c.atLeast(sqrt(s[0]))
			}
			dxt := c.outRows("dx", dx, s[1]+8)
			c.atLeast(slices.Max(rstd.v)) // a narrow row is nearly its own mean
			if i%3 != 0 {
				ddelta = c.outRows("ddelta", dy, s[1]+8)
				c.atLeast(slices.Max(rstd.v))
			}
			c.b.AddRMSNormBackward(dxt, ddelta, dwt, c.inRows("dy", dy),
				c.inRows("x", x), c.in("w", w), c.inRows("rstd", rstd), eps)
		})
	}
}

func testRoPE(l *lab) {
	for i, dim := range []int{2, 6, 8, 16, 20, 64, 80, 96, 128, 64, 64} {
		heads, rows, positions := l.upTo(5), []int{1, 7, 200}[i%3], l.upTo(400)
		cos, sin := zeros(compute.F32, positions, dim/2), zeros(compute.F32, positions, dim/2)
		for p := range positions {
			for j := range dim / 2 {
				s, c := math.Sincos(float64(p) * math.Pow(10000, -2*float64(j)/float64(dim)))
				cos.row(p)[j], sin.row(p)[j] = round(c, compute.F32), round(s, compute.F32)
			}
		}
		x, pos := normal(l.rand, l.dt, rows, heads*dim, 1), intsBelow(l.rand, rows, positions)
		for _, inverse := range []bool{false, true} {
			l.check(rows, func(c *call) {
				c.b.RoPE(c.outRows("x", x, 2), c.inRows("pos", pos), c.in("cos", cos), c.in("sin", sin), dim, inverse)
			})
		}
		l.rotatesBack(x, pos, cos, sin, dim)
	}
}

// rotatesBack checks that inverse undoes the rotation, up to the two roundings.
func (l *lab) rotatesBack(x, pos, cos, sin values, dim int) {
	there := l.one.run(l, nil, func(c *call) {
		t := c.out("x", x, 0)
		c.b.RoPE(t, c.in("pos", pos), c.in("cos", cos), c.in("sin", sin), dim, false)
		c.b.RoPE(t, c.in("pos", pos), c.in("cos", cos), c.in("sin", sin), dim, true)
	})[0].got
	for i, v := range there.v {
		pair := i + dim/2
		if i%dim >= dim/2 {
			pair = i - dim/2
		}
		if tol := 4 * max(epsilon(l.dt), epsilon(compute.F32)) * math.Hypot(x.v[i], x.v[pair]); !(math.Abs(v-x.v[i]) <= tol) {
			l.Errorf("element %d is %v, rotated there and back %v: off by %.3g, tolerance %.3g", i, x.v[i], v, math.Abs(v-x.v[i]), tol)
			return
		}
	}
}

// gates are N(0, 9), with the ends where exp overflows.
func (l *lab) gates(rows, cols int) values {
	g := normal(l.rand, l.dt, rows, cols, 3)
	for _, v := range []float64{0, 90, -90, -120, 120, 30, -30} {
		g.v[l.rand.IntN(len(g.v))] = round(v, l.dt)
	}
	return g
}

func testSwiGLU(l *lab) {
	for _, s := range l.shapes() {
		gate, up := l.gates(s[0], s[1]), normal(l.rand, l.dt, s[0], s[1], 1)
		l.check(s[0], func(c *call) {
			c.b.SwiGLU(c.outRows("y", gate, 16), c.inRows("gate", gate), c.inRows("up", up))
		})
	}
}

func testSwiGLUBackward(l *lab) {
	for _, s := range l.shapes() {
		gate, up, dy := l.gates(s[0], s[1]), normal(l.rand, l.dt, s[0], s[1], 1), normal(l.rand, l.dt, s[0], s[1], 1)
		l.check(s[0], func(c *call) {
			c.b.SwiGLUBackward(c.outRows("dgate", gate, 16), c.outRows("dup", up, 16),
				c.inRows("dy", dy), c.inRows("gate", gate), c.inRows("up", up))
		})
	}
}

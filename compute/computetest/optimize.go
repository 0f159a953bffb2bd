package computetest

import "github.com/seed-8780d58e/spin/compute"

func testSumSquares(l *lab) {
	for _, s := range append(l.shapes(), [2]int{300, 1000}) {
		y, x := fill(compute.F32, 1, 1, func(int) float64 { return 3 }), normal(l.rand, compute.F32, s[0], s[1], 1)
		l.check(0, func(c *call) { c.b.SumSquares(c.out("y", y, s[0]*s[1]), c.in("x", x)) })
	}
}

func testClipFactor(l *lab) {
	for _, sum := range []float64{0, 1e-12, 0.25, 1, 4, 1e12} {
		for _, maxNorm := range []float32{0, 0.5, 1, 1e-3} {
			s := fill(compute.F32, 1, 1, func(int) float64 { return sum })
			l.check(0, func(c *call) { c.b.ClipFactor(c.out("clip", s, 4), c.in("sumsq", s), maxNorm) })
		}
	}
}

func testOptimize(l *lab) {
	rules := []compute.Optimizer{
		{Kind: compute.RMSProp, LR: 1e-3, Alpha: 0.99, Eps: 1e-8},
		{Kind: compute.RMSProp, LR: 5e-7, Alpha: 0.9, Eps: 1e-6, WeightDecay: 0.1},
		{Kind: compute.AdamW, LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8},
		{Kind: compute.AdamW, LR: 1e-2, Beta1: 0.8, Beta2: 0.95, Eps: 1e-6, WeightDecay: 0.1},
	}
	for i, s := range [][2]int{{1, 1}, {1, 17}, {33, 50}, {128, 96}, {l.upTo(100), l.upTo(100)}} {
		for _, rule := range rules {
			// Masters of 0 show the update itself.
			size := float64(i%2) * 0.05
			master := normal(l.rand, compute.F32, s[0], s[1], size)
			var grads []values
			for range 3 {
				g := normal(l.rand, compute.F32, s[0], s[1], 0.3)
				for range len(g.v) / 4 {
					g.v[l.rand.IntN(len(g.v))] = 0 // a token that no batch held
				}
				grads = append(grads, g)
			}
			clip := fill(compute.F32, 1, 1, func(int) float64 { return 0.37 })
			op := func(c *call) {
				w := c.dev.NewWeight(s[0], s[1], c.dtype(l.dt), true)
				c.weights = append(c.weights, w)
				m := c.out("master", master, 64)
				c.atLeast(max(size, rule.LR))
				state := []compute.Tensor{c.out("first state", zeros(compute.F32, s[0], s[1]), 64)}
				if rule.Kind == compute.AdamW {
					c.atLeast(0.3 * (1 - rule.Beta1)) // of N(0, 0.3²) gradients
					state = append(state, c.out("second state", zeros(compute.F32, s[0], s[1]), 64))
				}
				for step, g := range grads {
					rule.Step = step + 1
					var factor compute.Tensor
					if step > 0 {
						factor = c.in("clip", clip)
					}
					var into compute.Weight
					if step != 1 {
						into = w
					}
					c.b.Optimize(into, m, c.in("g", g), state, factor, rule)
				}
				if !c.oracle {
					l.holds(c, w, m)
				}
			}
			l.check(0, op)
		}
	}
}

// holds checks that w's forms are those of a weight that master was stored into: the elements
// themselves, and the bits of both products.
func (l *lab) holds(c *call, w compute.Weight, master compute.Tensor) {
	l.Helper()
	want := c.read(l.T, master)
	out, in := w.Dims()
	rows := c.arena.Alloc(compute.F32, out, in)
	c.b.Embed(rows, w, c.in("ids", ints(upto(out)...)))
	for i, v := range c.read(l.T, rows).v {
		if !sameBits(v, round(want.v[i], w.DType())) {
			l.Errorf("element %d of the weight is %v, of its master %v", i, v, want.v[i])
			return
		}
	}
	other := c.dev.NewWeight(out, in, w.DType(), true)
	c.weights = append(c.weights, other)
	c.b.Store(other, 0, master)
	x, dy := c.in("x", normal(c.rand, l.dt, 3, in, 1)), c.in("dy", normal(c.rand, l.dt, 3, out, 1))
	var got [2][2]values
	for i, w := range []compute.Weight{w, other} {
		y, dx := c.arena.Alloc(c.dtype(l.dt), 3, out), c.arena.Alloc(c.dtype(l.dt), 3, in)
		c.b.Linear([]compute.Tensor{y}, x, []compute.Weight{w}, false)
		c.b.LinearDX(dx, []compute.Tensor{dy}, []compute.Weight{w}, false)
		got[i] = [2]values{c.read(l.T, y), c.read(l.T, dx)}
	}
	for i, name := range []string{"Linear", "LinearDX"} {
		for j, v := range got[0][i].v {
			if !sameBits(v, got[1][i].v[j]) {
				l.Errorf("%s of the optimized weight gives %v, of its stored master %v", name, v, got[1][i].v[j])
				return
			}
		}
	}
}

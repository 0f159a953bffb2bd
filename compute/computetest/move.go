package computetest

import (
	"math"

	"github.com/seed-8780d58e/spin/compute"
)

// testCopy wants exact conversions: to nearest even for BF16, subnormals and infinities included.
func testCopy(l *lab) {
	special := []float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), 1, 1 + 0x1p-8, 1 + 0x1p-7 + 0x1p-8,
		1 + 0x1p-8 + 0x1p-20, 1 - 0x1p-9, math.MaxFloat32, -math.MaxFloat32, 0x1p-126, 0x1p-127, 0x1p-133, 0x1p-134, 0x1p-149, -0x1.8p-133}
	for _, to := range []compute.DType{compute.F32, compute.BF16} {
		for _, s := range l.shapes() {
			src := normal(l.rand, l.dt, s[0], s[1], 1)
			for _, v := range special {
				src.v[l.rand.IntN(len(src.v))] = round(v, l.dt)
			}
			for _, r := range []*rig{l.one, l.many} {
				got := r.run(l, nil, func(c *call) { c.b.Copy(c.out("dst", zeros(to, s[0], s[1]), 0), c.in("src", src)) })[0].got
				for i, v := range src.v {
					if !sameBits(got.v[i], round(v, to)) {
						l.Errorf("%v to %v: %x became %x, want %x", l.dt, to, v, got.v[i], round(v, to))
						break
					}
				}
			}
		}
	}
	ids := intsBelow(l.rand, 37, 1000)
	l.check(37, func(c *call) { c.b.Copy(c.outRows("dst", zeros(compute.I32, 37, 1), 0), c.inRows("src", ids)) })
}

func testGather(l *lab) {
	for _, s := range l.shapes() {
		n := l.upTo(100)
		x, rows := normal(l.rand, l.actOrF32(), s[0], s[1], 1), intsBelow(l.rand, n, s[0])
		l.check(n, func(c *call) {
			c.b.Gather(c.outRows("y", zeros(x.dt, n, s[1]), 0), c.in("x", x), c.inRows("rows", rows))
		})
	}
}

func testZero(l *lab) {
	for _, dt := range []compute.DType{l.dt, compute.F32, compute.I32} {
		for _, s := range l.shapes() {
			x := fill(dt, s[0], s[1], func(int) float64 { return 7 })
			l.check(s[0], func(c *call) { c.b.Zero(c.outRows("t", x, 0)) })
		}
	}
}

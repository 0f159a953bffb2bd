package ref

import "github.com/seed-8780d58e/spin/compute"

func dot(x, y []float64) float64 {
	var s float64
	for i, v := range x {
		s += v * y[i]
	}
	return s
}

// axpy adds a·x to y.
func axpy(y []float64, a float64, x []float64) {
	for i, v := range x {
		y[i] += a * v
	}
}

func (b *backend) Store(w compute.Weight, row int, src compute.Tensor) {
	compute.CheckStore(w, row, src)
	dst := b.weight(w)
	for i := range src.Rows {
		copy(dst.row(row+i), b.row(src, i))
	}
}

func (b *backend) Linear(ys []compute.Tensor, x compute.Tensor, ws []compute.Weight, acc bool) {
	compute.CheckLinear(ys, x, ws)
	for i := range ws {
		w := b.weight(ws[i])
		b.withinLinear("Linear", x.Rows, w.in, w.out)
		for t := range x.Rows {
			xt, y := b.row(x, t), b.row(ys[i], t)
			for o := range y {
				if s := dot(xt, w.row(o)); acc {
					y[o] += s
				} else {
					y[o] = s
				}
			}
		}
	}
}

func (b *backend) LinearDX(dx compute.Tensor, dys []compute.Tensor, ws []compute.Weight, acc bool) {
	compute.CheckLinearDX(dx, dys, ws)
	b.withinTrain("LinearDX")
	if !acc {
		b.Zero(dx)
	}
	for i := range ws {
		w := b.weight(ws[i])
		if !w.train {
			panic("compute: LinearDX: weight not made for training")
		}
		b.withinLinear("LinearDX", dx.Rows, w.in, w.out)
		for t := range dx.Rows {
			for o, d := range b.row(dys[i], t) {
				axpy(b.row(dx, t), d, w.row(o))
			}
		}
	}
}

func (b *backend) LinearDW(dw, dy, x compute.Tensor, alpha float32) {
	compute.CheckLinearDW(dw, dy, x)
	b.withinTrain("LinearDW")
	b.withinLinear("LinearDW", x.Rows, x.Cols, dy.Cols)
	if dw.Absent() {
		return
	}
	for t := range x.Rows {
		for o, d := range b.row(dy, t) {
			axpy(b.row(dw, o), float64(alpha)*d, b.row(x, t))
		}
	}
}

func (b *backend) MatMul(y, a, c compute.Tensor, t compute.Trans, alpha float32, acc bool) {
	m, n, k := compute.CheckMatMul(y, a, c, t)
	left := func(i, l int) float64 { return b.row(a, i)[l] }
	right := func(l, j int) float64 { return b.row(c, l)[j] }
	switch t {
	case compute.NT:
		right = func(l, j int) float64 { return b.row(c, j)[l] }
	case compute.TN:
		left = func(i, l int) float64 { return b.row(a, l)[i] }
	}
	for i := range m {
		for j := range n {
			var s float64
			for l := range k {
				s += left(i, l) * right(l, j)
			}
			s *= float64(alpha)
			if acc {
				s += b.row(y, i)[j]
			}
			b.row(y, i)[j] = s
		}
	}
}

package ref

import (
	"math"

	"github.com/seed-8780d58e/spin/compute"
)

// logits are x·Wᵀ of one row.
func logits(x []float64, w *weight) []float64 {
	z := make([]float64, w.out)
	for v := range z {
		z[v] = dot(x, w.row(v))
	}
	return z
}

// logSumExp also returns the lowest index of the largest z.
func logSumExp(z []float64) (lse float64, top int) {
	for v := range z {
		if z[v] > z[top] {
			top = v
		}
	}
	var sum float64
	for _, x := range z {
		sum += math.Exp(x - z[top])
	}
	return z[top] + math.Log(sum), top
}

func (b *backend) HeadLogProb(logp, lse, entropy, argmax, x, rows, target compute.Tensor, w compute.Weight) {
	compute.CheckHeadLogProb(logp, lse, entropy, argmax, x, rows, target, w)
	hw := b.weight(w)
	b.withinHead("HeadLogProb", rows.Rows, hw.in, hw.out)
	for i, r := range b.column(rows) {
		z := logits(b.row(x, r), hw)
		l, top := logSumExp(z)
		b.row(lse, i)[0] = l
		b.row(logp, i)[0] = z[b.ints(target, i)[0]] - l
		if !entropy.Absent() {
			var s float64
			for _, x := range z {
				s -= math.Exp(x-l) * (x - l)
			}
			b.row(entropy, i)[0] = s
		}
		if !argmax.Absent() {
			b.ints(argmax, i)[0] = int32(top)
		}
	}
}

// With z the logits: ∂logp/∂z = onehot(target) − softmax(z).
func (b *backend) HeadLogProbBackward(dx, dw, coef, lse, x, rows, target compute.Tensor, w compute.Weight) {
	compute.CheckHeadLogProbBackward(dx, dw, coef, lse, x, rows, target, w)
	hw := b.weight(w)
	b.withinHead("HeadLogProbBackward", rows.Rows, hw.in, hw.out)
	b.withinTrain("HeadLogProbBackward")
	b.Zero(dx)
	for i, r := range b.column(rows) {
		xi, c := b.row(x, r), b.row(coef, i)[0]
		for v, z := range logits(xi, hw) {
			dz := -c * math.Exp(z-b.row(lse, i)[0])
			if v == int(b.ints(target, i)[0]) {
				dz += c
			}
			axpy(b.row(dx, r), dz, hw.row(v))
			if !dw.Absent() {
				axpy(b.row(dw, v), dz, xi)
			}
		}
	}
}

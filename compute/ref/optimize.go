package ref

import (
	"math"

	"github.com/seed-8780d58e/spin/compute"
)

func (b *backend) SumSquares(y, x compute.Tensor) {
	compute.CheckSumSquares(y, x)
	for i := range x.Rows {
		b.row(y, 0)[0] += dot(b.row(x, i), b.row(x, i))
	}
}

func (b *backend) ClipFactor(clip, sumsq compute.Tensor, maxNorm float32) {
	compute.CheckClipFactor(clip, sumsq, maxNorm)
	b.row(clip, 0)[0] = 1
	if maxNorm > 0 {
		b.row(clip, 0)[0] = min(1, float64(maxNorm)/(math.Sqrt(b.row(sumsq, 0)[0])+1e-6))
	}
}

func (b *backend) Optimize(w compute.Weight, master, g compute.Tensor, state []compute.Tensor, clip compute.Tensor, h compute.Optimizer) {
	compute.CheckOptimize(w, master, g, state, clip, h)
	factor := 1.0
	if !clip.Absent() {
		factor = b.row(clip, 0)[0]
	}
	for i := range master.Rows {
		master, g := b.row(master, i), b.row(g, i)
		for j := range master {
			g := g[j] * factor
			if h.Kind == compute.RMSProp {
				master[j] -= rmsprop(g+h.WeightDecay*master[j], &b.row(state[0], i)[j], h)
			} else {
				master[j] -= h.LR * h.WeightDecay * master[j]
				master[j] -= adam(g, &b.row(state[0], i)[j], &b.row(state[1], i)[j], h)
			}
		}
	}
	if w != nil {
		b.Store(w, 0, master)
	}
}

func rmsprop(g float64, v *float64, h compute.Optimizer) (step float64) {
	*v = h.Alpha**v + (1-h.Alpha)*g*g
	return h.LR * g / (math.Sqrt(*v) + h.Eps)
}

func adam(g float64, m, v *float64, h compute.Optimizer) (step float64) {
	*m = h.Beta1**m + (1-h.Beta1)*g
	*v = h.Beta2**v + (1-h.Beta2)*g*g
	mHat := *m / (1 - math.Pow(h.Beta1, float64(h.Step)))
	vHat := *v / (1 - math.Pow(h.Beta2, float64(h.Step)))
	return h.LR * mHat / (math.Sqrt(vHat) + h.Eps)
}

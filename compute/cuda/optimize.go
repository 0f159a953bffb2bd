//go:build cuda

package cuda

import (
	"math"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cuda/driver"
)

// SumSquares adds a sum of squares; see compute.Backend.
func (b *Backend) SumSquares(y, x compute.Tensor) {
	compute.CheckSumSquares(y, x)
	blocks := min(x.Rows, sumBlocks)
	parts, to := b.address(b.scratch.tensor(compute.F32, b.scratch.parts, 1, sumBlocks)), b.address(y)
	b.launch(b.k.sumSquares, rows(blocks), parts, b.address(x), stride(x), integer(x.Rows), integer(x.Cols))
	b.launch(b.k.sumParts, rows(1), to, parts, integer(blocks))
}

// ClipFactor is the factor of a gradient's norm; see compute.Backend.
func (b *Backend) ClipFactor(clip, sumsq compute.Tensor, maxNorm float32) {
	compute.CheckClipFactor(clip, sumsq, maxNorm)
	b.launch(b.k.clipFactor, driver.Grid{X: 1, Y: 1, Threads: 1}, b.address(clip), b.address(sumsq), float(maxNorm))
}

// Optimize takes a step and stores the weight; see compute.Backend.
func (b *Backend) Optimize(w compute.Weight, master, g compute.Tensor, state []compute.Tensor, clip compute.Tensor, h compute.Optimizer) {
	compute.CheckOptimize(w, master, g, state, clip, h)
	var to uint64
	dt := compute.F32
	if w != nil {
		m := b.weight(w)
		to, dt = uint64(m.mem.ptr), m.dt
	}
	n := integer(master.Cols)
	factor := func(x float64) uint64 { return float(float32(x)) }
	if h.Kind == compute.RMSProp {
		b.launch(b.k.rmsProp.of(dt), rows(master.Rows), to, b.address(master), stride(master), b.address(g), stride(g), b.address(state[0]), stride(state[0]),
			b.address(clip), n, factor(h.WeightDecay), factor(h.Alpha), factor(1-h.Alpha), factor(h.LR), factor(h.Eps))
		return
	}
	step := float64(h.Step)
	b.launch(b.k.adamW.of(dt), rows(master.Rows), to, b.address(master), stride(master), b.address(g), stride(g),
		b.address(state[0]), stride(state[0]), b.address(state[1]), stride(state[1]), b.address(clip), n, factor(1-h.LR*h.WeightDecay),
		factor(h.Beta1), factor(1-h.Beta1), factor(h.Beta2), factor(1-h.Beta2), factor(h.LR/(1-math.Pow(h.Beta1, step))), factor(1/math.Sqrt(1-math.Pow(h.Beta2, step))), factor(h.Eps))
}

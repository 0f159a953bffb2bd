package cpu

import (
	"math"

	"github.com/seed-8780d58e/spin/compute"
)

// sumBlock is the columns that SumSquares adds up in F32, and sumItems the most items that it cuts a
// tensor into. Blocks and items add up in float64.
const (
	sumBlock = 4096
	sumItems = 1024
)

type sumSquaresJob struct {
	k     *vectorKernels
	x     view
	per   int       // blocks of an item
	sums  []float64 // [items]
	total int       // blocks
}

func (j *sumSquaresJob) do(_, item int) {
	from, to := part(item, j.per, j.total)
	blocks, sum := parts(j.x.cols, sumBlock), 0.0
	for i := from; i < to; i++ {
		r, c := i/blocks, i%blocks*sumBlock
		sum += float64(j.k.sumSquares(min(sumBlock, j.x.cols-c), j.x.at(r, c)))
	}
	j.sums[item] = sum
}

// SumSquares adds Σ x² to y; see compute.Backend.
func (b *Backend) SumSquares(y, x compute.Tensor) {
	compute.CheckSumSquares(y, x)
	b.scratch.reset()
	j := &b.vector.sumSquares
	*j = sumSquaresJob{k: &b.k.vector, x: b.view(x), total: x.Rows * parts(x.Cols, sumBlock)}
	j.per = max(rowsPerItem, parts(j.total, sumItems))
	j.sums = take[float64](&b.scratch, parts(j.total, j.per))
	b.pool.run(len(j.sums), j)
	sum := float64(b.view(y).float(0))
	for _, s := range j.sums {
		sum += s
	}
	b.view(y).set(0, float32(sum))
}

// ClipFactor sets clip = min(1, maxNorm/(√sumsq + 1e-6)); see compute.Backend.
func (b *Backend) ClipFactor(clip, sumsq compute.Tensor, maxNorm float32) {
	compute.CheckClipFactor(clip, sumsq, maxNorm)
	factor := 1.0
	if maxNorm > 0 {
		factor = min(1, float64(maxNorm)/(math.Sqrt(float64(b.view(sumsq).float(0)))+1e-6))
	}
	b.view(clip).set(0, float32(factor))
}

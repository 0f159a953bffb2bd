//go:build cuda

package cuda

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cuda/driver"
)

// mostWeights is how many weights one LinearDX adds up: q, k and v.
const mostWeights = 3

// LinearDX multiplies back by at most three weights; see compute.Backend.
func (b *Backend) LinearDX(dx compute.Tensor, dys []compute.Tensor, ws []compute.Weight, acc bool) {
	compute.CheckLinearDX(dx, dys, ws)
	b.withinTrain("LinearDX")
	b.within("LinearDX", "tokens", dx.Rows, max(b.limits.Tokens, b.limits.HeadRows))
	if len(ws) > mostWeights {
		panic(fmt.Sprintf("compute/cuda: LinearDX: %d weights, at most %d", len(ws), mostWeights))
	}
	args := [5 + 4*mostWeights]uint64{b.address(dx), stride(dx), integer(dx.Rows), integer(dx.Cols), flag(acc)}
	for i, w := range ws {
		m := b.weight(w)
		if !m.train {
			panic("compute: LinearDX: weight not made for training")
		}
		copy(args[5+4*i:], []uint64{b.address(dys[i]), stride(dys[i]), uint64(m.mem.ptr), integer(m.out)})
	}
	k := b.k.linearDX.of(dx.DType)
	if dys[0].DType != dx.DType {
		k = b.k.linearDXBF16F32
	}
	b.launch(k, driver.Grid{X: tiles(dx.Cols), Y: tiles(dx.Rows), Threads: linearThreads}, args[:]...)
}

// LinearDW adds a weight's gradient up; see compute.Backend.
func (b *Backend) LinearDW(dw, dy, x compute.Tensor, alpha float32) {
	compute.CheckLinearDW(dw, dy, x)
	b.withinTrain("LinearDW")
	b.within("LinearDW", "tokens", x.Rows, max(b.limits.Tokens, b.limits.HeadRows))
	if !dw.Absent() {
		b.product(dw, b.columnsOf(dy), b.columnsOf(x), x.Rows, alpha, true)
	}
}

// MatMul multiplies; see compute.Backend.
func (b *Backend) MatMul(y, left, right compute.Tensor, t compute.Trans, alpha float32, acc bool) {
	_, _, depth := compute.CheckMatMul(y, left, right, t)
	a, c := b.rowsOf(left), b.columnsOf(right)
	switch t {
	case compute.NT:
		c = b.rowsOf(right)
	case compute.TN:
		a = b.columnsOf(left)
	}
	b.product(y, a, c, depth, alpha, acc)
}

// EmbedBackward adds rows to their tokens' gradients; see compute.Backend.
func (b *Backend) EmbedBackward(dw, dx, ids compute.Tensor) {
	compute.CheckEmbedBackward(dw, dx, ids)
	b.withinTrain("EmbedBackward")
	if !dw.Absent() {
		b.launch(b.k.embedBackward, rows(dx.Rows), b.address(dw), stride(dw), b.address(dx), stride(dx), b.address(ids), stride(ids), integer(dx.Rows), integer(dx.Cols))
	}
}

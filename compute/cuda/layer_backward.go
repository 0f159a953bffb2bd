//go:build cuda

package cuda

import (
	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cuda/driver"
)

// columns is a grid of a block for each 32 columns; see kernels/column_sum.cu.
func columns(n int) driver.Grid { return driver.Grid{X: (n + 31) / 32, Y: 1, Threads: rowThreads} }

// ColumnSum adds the sum over rows; see compute.Backend.
func (b *Backend) ColumnSum(db, dy compute.Tensor) {
	compute.CheckColumnSum(db, dy)
	if !db.Absent() {
		b.launch(b.k.columnSum.of(dy.DType), columns(dy.Cols), b.address(db), b.address(dy), stride(dy), integer(dy.Rows), integer(dy.Cols))
	}
}

// AddRMSNormBackward is AddRMSNorm's backward operation; see compute.Backend.
func (b *Backend) AddRMSNormBackward(dx, ddelta, dw, dy, x, w, rstd compute.Tensor, eps float32) {
	compute.CheckAddRMSNormBackward(dx, ddelta, dw, dy, x, w, rstd)
	b.withinTrain("AddRMSNormBackward")
	weights := b.address(dw)
	b.launch(b.k.addRMSNormBackward.of(dy.DType), rows(x.Rows), b.address(dx), stride(dx), b.address(ddelta), stride(ddelta), b.address(dy), stride(dy),
		b.address(x), stride(x), b.address(w), b.address(rstd), stride(rstd), integer(x.Cols))
	if weights != 0 {
		b.launch(b.k.normDW.of(dy.DType), columns(x.Cols), weights, b.address(dy), stride(dy), b.address(x), stride(x), b.address(rstd), stride(rstd), integer(x.Rows), integer(x.Cols))
	}
}

// SwiGLUBackward is SwiGLU's backward operation; see compute.Backend.
func (b *Backend) SwiGLUBackward(dgate, dup, dy, gate, up compute.Tensor) {
	compute.CheckSwiGLUBackward(dgate, dup, dy, gate, up)
	b.withinTrain("SwiGLUBackward")
	b.launch(b.k.swiGLUBackward.of(dy.DType), rows(dy.Rows), b.address(dgate), stride(dgate), b.address(dup), stride(dup), b.address(dy), stride(dy),
		b.address(gate), stride(gate), b.address(up), stride(up), integer(dy.Cols))
}

//go:build cuda

package cuda

import "github.com/seed-8780d58e/spin/compute"

// AddBias adds a row to each row; see compute.Backend.
func (b *Backend) AddBias(y, bias compute.Tensor) {
	compute.CheckAddBias(y, bias)
	b.launch(b.k.addBias.of(y.DType), rows(y.Rows), b.address(y), stride(y), b.address(bias), integer(y.Cols))
}

// AddRMSNorm adds and normalises; see compute.Backend.
func (b *Backend) AddRMSNorm(y, rstd, x, delta, w compute.Tensor, eps float32) {
	compute.CheckAddRMSNorm(y, rstd, x, delta, w)
	b.launch(b.k.addRMSNorm.of(y.DType), rows(x.Rows), b.address(y), stride(y), b.address(rstd), stride(rstd), b.address(x), stride(x),
		b.address(delta), stride(delta), b.address(w), integer(x.Cols), float(eps))
}

// RoPE rotates heads in place; see compute.Backend.
func (b *Backend) RoPE(x, pos, cos, sin compute.Tensor, headDim int, inverse bool) {
	compute.CheckRoPE(x, pos, cos, sin, headDim)
	b.launch(b.k.rope.of(x.DType), rows(x.Rows), b.address(x), stride(x), b.address(pos), stride(pos), b.address(cos), stride(cos),
		b.address(sin), stride(sin), integer(x.Cols/headDim), integer(headDim/2), flag(inverse))
}

// SwiGLU is the gated activation; see compute.Backend.
func (b *Backend) SwiGLU(y, gate, up compute.Tensor) {
	compute.CheckSwiGLU(y, gate, up)
	b.launch(b.k.swiGLU.of(y.DType), rows(y.Rows), b.address(y), stride(y), b.address(gate), stride(gate), b.address(up), stride(up), integer(y.Cols))
}

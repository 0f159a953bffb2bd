//go:build cuda

package cuda

import "github.com/seed-8780d58e/spin/compute"

// The operations that this early proof does not have.

func unbuilt(op string) { panic("compute/cuda: " + op + " is not built yet") }

func (b *Backend) LinearDX(dx compute.Tensor, dys []compute.Tensor, ws []compute.Weight, acc bool) {
	unbuilt("LinearDX")
}
func (b *Backend) LinearDW(dw, dy, x compute.Tensor, alpha float32) { unbuilt("LinearDW") }
func (b *Backend) MatMul(y, a, c compute.Tensor, t compute.Trans, alpha float32, acc bool) {
	unbuilt("MatMul")
}
func (b *Backend) EmbedBackward(dw, dx, ids compute.Tensor) { unbuilt("EmbedBackward") }
func (b *Backend) ColumnSum(db, dy compute.Tensor)          { unbuilt("ColumnSum") }
func (b *Backend) AddRMSNormBackward(dx, ddelta, dw, dy, x, w, rstd compute.Tensor, eps float32) {
	unbuilt("AddRMSNormBackward")
}
func (b *Backend) SwiGLUBackward(dgate, dup, dy, gate, up compute.Tensor) { unbuilt("SwiGLUBackward") }
func (b *Backend) Attention(y, lse, q, k, v compute.Tensor, h compute.Heads, p compute.Plan) {
	unbuilt("Attention")
}
func (b *Backend) AttentionBackward(dq, dk, dv, dy, y, lse, q, k, v compute.Tensor, h compute.Heads, p compute.Plan) {
	unbuilt("AttentionBackward")
}
func (b *Backend) HeadLogProb(logp, lse, entropy, argmax, x, rows, target compute.Tensor, w compute.Weight) {
	unbuilt("HeadLogProb")
}
func (b *Backend) HeadLogProbBackward(dx, dw, coef, lse, x, rows, target compute.Tensor, w compute.Weight) {
	unbuilt("HeadLogProbBackward")
}
func (b *Backend) SumSquares(y, x compute.Tensor)                         { unbuilt("SumSquares") }
func (b *Backend) ClipFactor(clip, sumsq compute.Tensor, maxNorm float32) { unbuilt("ClipFactor") }
func (b *Backend) Optimize(w compute.Weight, master, g compute.Tensor, state []compute.Tensor, clip compute.Tensor, h compute.Optimizer) {
	unbuilt("Optimize")
}

var (
	_ compute.Device  = (*Device)(nil)
	_ compute.Backend = (*Backend)(nil)
)

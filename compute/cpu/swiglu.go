package cpu

import "github.com/seed-8780d58e/spin/compute"

type swigluJob struct {
	k           *vectorKernels
	y, gate, up view
	per         int // rows of an item
}

func (j *swigluJob) do(_, item int) {
	from, to := part(item, j.per, j.y.rows)
	for r := from; r < to; r++ {
		j.k.swiglu[j.y.dt](j.y.cols, j.y.row(r), j.gate.row(r), j.up.row(r))
	}
}

// SwiGLU sets y = silu(gate)·up; see compute.Backend.
func (b *Backend) SwiGLU(y, gate, up compute.Tensor) {
	compute.CheckSwiGLU(y, gate, up)
	j := &b.vector.swiglu
	*j = swigluJob{&b.k.vector, b.view(y), b.view(gate), b.view(up), b.rowItems(y.Rows)}
	b.pool.run(parts(y.Rows, j.per), j)
}

type swigluBackwardJob struct {
	k                        *vectorKernels
	dgate, dup, dy, gate, up view
}

func (j *swigluBackwardJob) do(_, item int) {
	from, to := part(item, rowsPerItem, j.dy.rows)
	for r := from; r < to; r++ {
		j.k.swigluGrad[j.dy.dt](j.dy.cols, j.dgate.row(r), j.dup.row(r), j.dy.row(r), j.gate.row(r), j.up.row(r))
	}
}

// SwiGLUBackward is SwiGLU's gradient; see compute.Backend.
func (b *Backend) SwiGLUBackward(dgate, dup, dy, gate, up compute.Tensor) {
	compute.CheckSwiGLUBackward(dgate, dup, dy, gate, up)
	j := &b.vector.swigluBackward
	*j = swigluBackwardJob{&b.k.vector, b.view(dgate), b.view(dup), b.view(dy), b.view(gate), b.view(up)}
	b.pool.run(parts(dy.Rows, rowsPerItem), j)
}

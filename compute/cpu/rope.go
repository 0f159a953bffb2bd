package cpu

import "github.com/seed-8780d58e/spin/compute"

type ropeJob struct {
	k                *vectorKernels
	x, pos, cos, sin view
	dim              int
	sign             float32
	per              int // rows of an item
}

func (j *ropeJob) do(_, item int) {
	from, to := part(item, j.per, j.x.rows)
	half, rotate := j.dim/2, j.k.rotate[j.x.dt]
	for r := from; r < to; r++ {
		pos := j.pos.index(r, j.cos.rows)
		cos, sin := j.cos.row(pos), j.sin.row(pos)
		for c := 0; c < j.x.cols; c += j.dim {
			rotate(half, j.x.at(r, c), j.x.at(r, c+half), cos, sin, j.sign)
		}
	}
}

// RoPE rotates the heads of x by their positions; see compute.Backend.
func (b *Backend) RoPE(x, pos, cos, sin compute.Tensor, headDim int, inverse bool) {
	compute.CheckRoPE(x, pos, cos, sin, headDim)
	j := &b.vector.rope
	*j = ropeJob{&b.k.vector, b.view(x), b.view(pos), b.view(cos), b.view(sin), headDim, 1, b.rowItems(x.Rows)}
	if inverse {
		j.sign = -1
	}
	b.pool.run(parts(x.Rows, j.per), j)
}

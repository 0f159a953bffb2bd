package cpu

import (
	"math"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

type normJob struct {
	k                    *vectorKernels
	y, rstd, x, delta, w view
	eps                  float32
	per                  int // rows of an item
}

func (j *normJob) do(_, item int) {
	from, to := part(item, j.per, j.x.rows)
	n := j.x.cols
	for r := from; r < to; r++ {
		var sum float32
		if j.delta.absent() {
			sum = j.k.sumSquares(n, j.x.row(r))
		} else {
			sum = j.k.addSumSquares[j.delta.dt](n, j.x.row(r), j.delta.row(r))
		}
		rstd := float32(1 / math.Sqrt(float64(sum)/float64(n)+float64(j.eps)))
		j.rstd.set(r, rstd)
		j.k.normApply[j.y.dt](n, j.y.row(r), j.x.row(r), j.w.p, rstd)
	}
}

// AddRMSNorm adds delta to x and normalises it into y; see compute.Backend.
func (b *Backend) AddRMSNorm(y, rstd, x, delta, w compute.Tensor, eps float32) {
	compute.CheckAddRMSNorm(y, rstd, x, delta, w)
	j := &b.vector.norm
	*j = normJob{&b.k.vector, b.view(y), b.view(rstd), b.view(x), b.view(delta), b.view(w), eps, b.rowItems(x.Rows)}
	b.pool.run(parts(x.Rows, j.per), j)
}

type normBackwardJob struct {
	k                          *vectorKernels
	dx, ddelta, dy, x, w, rstd view
	dw                         []float32 // [chunks, C]; nil: w is frozen
}

// With r = rstd: dx += r·(dy·w) − x·r³·mean(dy·w·x), dw += dy·x·r.
func (j *normBackwardJob) do(_, item int) {
	from, to := part(item, chunkRows, j.x.rows)
	n, dt := j.x.cols, j.dy.dt
	var dw unsafe.Pointer
	if j.dw != nil {
		sum := j.dw[item*n:][:n]
		clear(sum)
		dw = unsafe.Pointer(&sum[0])
	}
	for r := from; r < to; r++ {
		dy, x, dx, rstd := j.dy.row(r), j.x.row(r), j.dx.row(r), j.rstd.float(r)
		mean := float64(j.k.normDot[dt](n, dy, j.w.p, x)) / float64(n)
		r64 := float64(rstd)
		j.k.normGrad[dt](n, dx, dy, j.w.p, x, rstd, float32(-r64*r64*r64*mean))
		if dw != nil {
			j.k.normWeightGrad[dt](n, dw, dy, x, rstd)
		}
		if !j.ddelta.absent() {
			j.k.narrow[dt](n, j.ddelta.row(r), dx, 1)
		}
	}
}

// AddRMSNormBackward is AddRMSNorm's gradient; see compute.Backend.
func (b *Backend) AddRMSNormBackward(dx, ddelta, dw, dy, x, w, rstd compute.Tensor, eps float32) {
	compute.CheckAddRMSNormBackward(dx, ddelta, dw, dy, x, w, rstd)
	if x.Len() == 0 {
		return
	}
	b.scratch.reset()
	chunks := parts(x.Rows, chunkRows)
	j := &b.vector.normBackward
	*j = normBackwardJob{k: &b.k.vector, dx: b.view(dx), ddelta: b.view(ddelta), dy: b.view(dy), x: b.view(x), w: b.view(w), rstd: b.view(rstd)}
	if !dw.Absent() {
		j.dw = take[float32](&b.scratch, chunks*x.Cols)
	}
	b.pool.run(chunks, j)
	if !dw.Absent() {
		b.addChunks(b.view(dw), j.dw)
	}
}

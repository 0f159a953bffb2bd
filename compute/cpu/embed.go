package cpu

import "github.com/seed-8780d58e/spin/compute"

type embedJob struct {
	x, ids view
	w      *weight
	per    int // rows of an item
}

func (j *embedJob) do(_, item int) {
	from, to := part(item, j.per, j.x.rows)
	for r := from; r < to; r++ {
		j.w.row(j.x.floats(r), j.ids.int(r))
	}
}

// Embed sets x[i] = W[ids[i]]; see compute.Backend.
func (b *Backend) Embed(x compute.Tensor, w compute.Weight, ids compute.Tensor) {
	compute.CheckEmbed(x, w, ids)
	j := &b.vector.embed
	*j = embedJob{b.view(x), b.view(ids), b.weightOf(w), b.rowItems(x.Rows)}
	b.pool.run(parts(x.Rows, j.per), j)
}

// embedBackwardJob is cut into columns: each keeps the order of the rows.
type embedBackwardJob struct {
	k           *vectorKernels
	dw, dx, ids view
}

func (j *embedBackwardJob) do(_, item int) {
	from, to := part(item, columns, j.dx.cols)
	for r := range j.dx.rows {
		j.k.add[compute.F32](to-from, j.dw.at(j.ids.index(r, j.dw.rows), from), j.dx.at(r, from))
	}
}

// EmbedBackward adds dx[i] to dw[ids[i]], in row order; see compute.Backend.
func (b *Backend) EmbedBackward(dw, dx, ids compute.Tensor) {
	compute.CheckEmbedBackward(dw, dx, ids)
	if dw.Absent() {
		return
	}
	j := &b.vector.embedBackward
	*j = embedBackwardJob{&b.k.vector, b.view(dw), b.view(dx), b.view(ids)}
	b.pool.run(parts(dx.Cols, columns), j)
}

package cpu

import (
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

type biasJob struct {
	k    *vectorKernels
	y, b view
}

func (j *biasJob) do(_, item int) {
	from, to := part(item, rowsPerItem, j.y.rows)
	for r := from; r < to; r++ {
		j.k.add[j.y.dt](j.y.cols, j.y.row(r), j.b.p)
	}
}

// AddBias adds b to each row of y; see compute.Backend.
func (b *Backend) AddBias(y, bias compute.Tensor) {
	compute.CheckAddBias(y, bias)
	j := &b.vector.bias
	*j = biasJob{&b.k.vector, b.view(y), b.view(bias)}
	b.pool.run(parts(y.Rows, rowsPerItem), j)
}

type columnSumJob struct {
	k    *vectorKernels
	dy   view
	sums []float32 // [chunks, C]
}

func (j *columnSumJob) do(_, item int) {
	from, to := part(item, chunkRows, j.dy.rows)
	sum := j.sums[item*j.dy.cols:][:j.dy.cols]
	clear(sum)
	for r := from; r < to; r++ {
		j.k.accumulate[j.dy.dt](len(sum), unsafe.Pointer(&sum[0]), j.dy.row(r))
	}
}

// ColumnSum adds the sum over dy's rows to db; see compute.Backend.
func (b *Backend) ColumnSum(db, dy compute.Tensor) {
	compute.CheckColumnSum(db, dy)
	if db.Absent() || dy.Len() == 0 {
		return
	}
	b.scratch.reset()
	chunks := parts(dy.Rows, chunkRows)
	j := &b.vector.columnSum
	*j = columnSumJob{&b.k.vector, b.view(dy), take[float32](&b.scratch, chunks*dy.Cols)}
	b.pool.run(chunks, j)
	b.addChunks(b.view(db), j.sums)
}

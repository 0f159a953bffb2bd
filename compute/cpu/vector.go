package cpu

import (
	"fmt"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// view is a tensor of this device with its address worked out.
type view struct {
	p          unsafe.Pointer
	stride     int // bytes
	rows, cols int
	dt         compute.DType
}

// view checks that t lies in this device's memory. An absent tensor gives the zero view.
func (b *Backend) view(t compute.Tensor) view {
	if t.Absent() {
		return view{}
	}
	b.own(t)
	return view{pointer(t), t.Stride * t.DType.Size(), t.Rows, t.Cols, t.DType}
}

func (v view) absent() bool { return v.p == nil }

func (v view) row(r int) unsafe.Pointer { return unsafe.Add(v.p, r*v.stride) }

// at is the address of element (r, c).
func (v view) at(r, c int) unsafe.Pointer {
	return unsafe.Add(v.p, r*v.stride+c*v.dt.Size())
}

// index is row r of an I32 column, which says where in [0, n) to go.
func (v view) index(r, n int) int {
	i := v.int(r)
	if uint(i) >= uint(n) {
		panic(fmt.Sprintf("compute/cpu: index %d, want one of [0, %d)", i, n))
	}
	return i
}

func (v view) int(r int) int          { return int(*(*int32)(v.row(r))) }
func (v view) float(r int) float32    { return *(*float32)(v.row(r)) }
func (v view) set(r int, x float32)   { *(*float32)(v.row(r)) = x }
func (v view) floats(r int) []float32 { return unsafe.Slice((*float32)(v.row(r)), v.cols) }

// vectorJobs are the jobs of the operations of this half: bound once, so that a call allocates
// nothing.
type vectorJobs struct {
	embed          embedJob
	embedBackward  embedBackwardJob
	bias           biasJob
	columnSum      columnSumJob
	addChunks      addChunksJob
	norm           normJob
	normBackward   normBackwardJob
	rope           ropeJob
	swiglu         swigluJob
	swigluBackward swigluBackwardJob
	sumSquares     sumSquaresJob
	attention      attentionJob
	gradient       gradientJob
	writeKV        writeKVJob
	sample         sampleJob
	tiles          []tileScratch // [threads]
}

// Items of work. Elementwise operations are cut into items of rowsPerItem rows, or of fewer where all
// threads would not have some; sums over rows into
// chunks of chunkRows rows, whose sums are then added up in their order. Both borders are row
// numbers, whatever the number of threads.
const (
	rowsPerItem = 16
	chunkRows   = 32
	columns     = 256 // where the order is over rows, items are blocks of this many columns
)

// rowItems is the rows of an item of an elementwise operation.
func (b *Backend) rowItems(rows int) int {
	return max(min(rows/(4*b.pool.threads), rowsPerItem), 1)
}

// part is item i of n when items have size elements each.
func part(i, size, n int) (from, to int) { return i * size, min((i+1)*size, n) }

func parts(n, size int) int { return (n + size - 1) / size }

// vectorScratch is the scratch memory, in bytes, that the operations of this half need at most.
func (b *Backend) vectorScratch(l compute.Limits) int64 {
	if b.vector.tiles == nil {
		b.vector.tiles = make([]tileScratch, b.pool.threads)
	}
	n := scratchBytes(sumItems, 8)
	n = max(n, b.sampleScratch(l.Vocab))
	if l.Heads.KV > 0 {
		n = max(n, b.attentionScratch(l.Heads, l.Tokens, l.Train))
	}
	if l.Train {
		n = max(n, scratchBytes(parts(l.Tokens, chunkRows)*l.Width, 4))
	}
	return n
}

// addChunksJob adds sums of chunks of rows to a row of F32, chunk by chunk.
type addChunksJob struct {
	k      *vectorKernels
	y      unsafe.Pointer // [cols]
	sums   []float32      // [chunks, cols]
	chunks int
	cols   int
}

func (j *addChunksJob) do(_, item int) {
	from, to := part(item, columns, j.cols)
	for c := range j.chunks {
		j.k.add[compute.F32](to-from, unsafe.Add(j.y, 4*from), unsafe.Pointer(&j.sums[c*j.cols+from]))
	}
}

// addChunks adds the sums of all chunks to y.
func (b *Backend) addChunks(y view, sums []float32) {
	if y.cols == 0 {
		return
	}
	j := &b.vector.addChunks
	*j = addChunksJob{&b.k.vector, y.p, sums, len(sums) / y.cols, y.cols}
	b.pool.run(parts(y.cols, columns), j)
}

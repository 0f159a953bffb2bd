//go:build cuda

package cuda

import (
	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cuda/driver"
)

var (
	_ compute.Device  = (*Device)(nil)
	_ compute.Backend = (*Backend)(nil)
)

// scratch is what operations take memory from: its parts follow from the limits.
type scratch struct {
	mem                       *memory
	logits, x, dx, parts, end int64 // where each part starts, in bytes
}

// headRows is how many rows of logits the head makes at a time; it is part of the order of dw's sums.
const headRows = 256

// sumBlocks is kernels/optimize.cu's SUM_BLOCKS.
const sumBlocks = 1024

// plan lays the parts out for l. Each starts at a multiple of 256 bytes.
func (s *scratch) plan(l compute.Limits) {
	at := int64(0)
	part := func(rows, cols int) (start int64) {
		start = at
		at += (4*int64(rows)*int64(cols) + 255) / 256 * 256
		return start
	}
	chunk := min(l.HeadRows, headRows)
	s.parts = part(1, sumBlocks)
	s.logits, s.x, s.dx = part(chunk, l.Vocab), part(chunk, l.Width), at
	if l.Train {
		s.dx = part(l.HeadRows, l.Width)
	}
	s.end = at
}

// Reserve takes the scratch memory of the head and of SumSquares; see compute.Backend. What it takes
// anew it does not give back before Close, since a recorded graph may still use it.
func (b *Backend) Reserve(l compute.Limits) int64 {
	b.limits = b.limits.Max(l)
	b.scratch.plan(b.limits)
	if m := b.scratch.mem; m == nil || m.bytes < b.scratch.end {
		b.scratch.mem = b.dev.alloc("Reserve", b.scratch.end)
	}
	return b.scratch.end
}

// tensor is a contiguous part of the scratch.
func (s *scratch) tensor(dt compute.DType, start int64, rows, cols int) compute.Tensor {
	return compute.Tensor{Mem: s.mem, Off: int(start) / dt.Size(), Rows: rows, Cols: cols, Stride: cols, DType: dt}
}

// withinTrain panics where a backward operation was not reserved.
func (b *Backend) withinTrain(op string) {
	if !b.limits.Train {
		panic("compute/cuda: " + op + ": not reserved for training")
	}
}

// matrix is an operand of a product: element (i, k) lies at address + i·row + k·col.
type matrix struct {
	address  uint64
	row, col int
	dt       compute.DType
}

// product queues y = alpha·Σ a(i, k)·c(j, k), or adds it; see kernels/product.cuh.
func (b *Backend) product(y compute.Tensor, a, c matrix, depth int, alpha float32, acc bool) {
	k := b.k.matMul[form(a.dt)][form(y.DType)]
	if a.dt != c.dt {
		k = b.k.matMulMixed
	}
	grid := driver.Grid{X: tiles(y.Cols), Y: tiles(y.Rows), Threads: linearThreads}
	b.launch(k, grid, b.address(y), stride(y), a.address, uint64(int64(a.row)), uint64(int64(a.col)), c.address, uint64(int64(c.row)), uint64(int64(c.col)),
		integer(y.Rows), integer(y.Cols), integer(depth), float(alpha), flag(acc))
}

// rowsOf and columnsOf are t's rows, or its columns, as the rows of an operand.
func (b *Backend) rowsOf(t compute.Tensor) matrix {
	return matrix{b.address(t), t.Stride, 1, t.DType}
}

func (b *Backend) columnsOf(t compute.Tensor) matrix {
	return matrix{b.address(t), 1, t.Stride, t.DType}
}

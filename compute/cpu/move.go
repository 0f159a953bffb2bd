package cpu

import (
	"fmt"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// moving is the job of Zero, Copy and Gather. Its items are blocks of rows.
type moving struct {
	g     *gemmKernels
	dst   compute.Tensor
	src   compute.Tensor // absent: zeros
	index compute.Tensor // absent: row i of src to row i of dst
	block int
}

// moveBytes is what an item moves, about.
const moveBytes = 256 << 10

func (b *Backend) move(dst, src, index compute.Tensor) {
	x := &b.moving
	x.g, x.dst, x.src, x.index = &b.k.gemm, dst, src, index
	x.block = max(moveBytes/max(dst.Cols*dst.DType.Size(), 1), 1)
	b.pool.run((dst.Rows+x.block-1)/x.block, x)
}

func (x *moving) do(_, item int) {
	size := x.dst.DType.Size()
	for r := item * x.block; r < min((item+1)*x.block, x.dst.Rows); r++ {
		to := unsafe.Add(memoryOf(x.dst).base, (x.dst.Off+r*x.dst.Stride)*size)
		if x.src.Absent() {
			clear(unsafe.Slice((*byte)(to), x.dst.Cols*size))
			continue
		}
		s := r
		if !x.index.Absent() {
			s = int(row[int32](x.index, r)[0])
		}
		from := unsafe.Add(memoryOf(x.src).base, (x.src.Off+s*x.src.Stride)*x.src.DType.Size())
		x.g.convert(to, x.dst.DType, from, x.src.DType, x.dst.Cols)
	}
}

// convert copies n elements from one dtype to another.
func (g *gemmKernels) convert(to unsafe.Pointer, dt compute.DType, from unsafe.Pointer, st compute.DType, n int) {
	switch {
	case dt == st:
		copy(unsafe.Slice((*byte)(to), n*dt.Size()), unsafe.Slice((*byte)(from), n*st.Size()))
	case dt == compute.F32 && st == compute.BF16:
		g.widenRows(1, from, 0, to, 0, n/8)
		x, y := unsafe.Slice((*uint16)(from), n), unsafe.Slice((*float32)(to), n)
		for i := n &^ 7; i < n; i++ {
			y[i] = compute.F32FromBF16(x[i])
		}
	case dt == compute.BF16 && st == compute.F32:
		g.narrowRows(1, from, 0, to, 0, n/8)
		x, y := unsafe.Slice((*float32)(from), n), unsafe.Slice((*uint16)(to), n)
		for i := n &^ 7; i < n; i++ {
			y[i] = compute.BF16FromF32(x[i])
		}
	default:
		panic(fmt.Sprintf("compute/cpu: Copy from %v to %v", st, dt))
	}
}

// Zero sets every element of t to 0.
func (b *Backend) Zero(t compute.Tensor) {
	b.own(t)
	if t.Contiguous() && t.Rows > 0 { // rows of a line's multiple, so that one long row is shared too
		if n, line := t.Len(), 16<<10; n > line {
			whole := t
			whole.Rows, whole.Cols, whole.Stride = n/line, line, line
			b.move(whole, compute.Tensor{}, compute.Tensor{})
			t.Off, t.Rows, t.Cols = t.Off+n/line*line, 1, n%line
		}
	}
	b.move(t, compute.Tensor{}, compute.Tensor{})
}

// Copy writes src to dst, converting the dtype.
func (b *Backend) Copy(dst, src compute.Tensor) {
	compute.CheckCopy(dst, src)
	b.own(dst, src)
	b.move(dst, src, compute.Tensor{})
}

// Gather sets y[i] = x[rows[i]].
func (b *Backend) Gather(y, x, rows compute.Tensor) {
	compute.CheckGather(y, x, rows)
	b.own(y, x, rows)
	checkIndex("rows of Gather", rows, x.Rows)
	b.move(y, x, rows)
}

// checkIndex panics unless all of index [n, 1] lie in [0, limit).
func checkIndex(what string, index compute.Tensor, limit int) {
	for i := range index.Rows {
		if v := row[int32](index, i)[0]; v < 0 || int(v) >= limit {
			panic(fmt.Sprintf("compute/cpu: %s: %d at %d, want less than %d", what, v, i, limit))
		}
	}
}

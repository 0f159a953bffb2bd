package cpu

import (
	"fmt"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// weight is a packed [out, in] matrix. Linear multiplies by its transpose: forward holds panels of
// nr rows, along in. LinearDX multiplies by itself: backward holds panels of nr columns, along out.
type weight struct {
	g                 *gemmKernels
	out, in           int
	dt                compute.DType
	form              form
	forward, backward *memory // backward only where it is trained through
}

// NewWeight makes a matrix of zeros; see compute.Device.
func (d *Device) NewWeight(out, in int, dt compute.DType, train bool) compute.Weight {
	if out < 1 || in < 1 || dt != compute.F32 && dt != compute.BF16 {
		panic(fmt.Sprintf("compute/cpu: NewWeight(%d, %d, %v): want at least 1 by 1, f32 or bf16", out, in, dt))
	}
	w := &weight{g: &d.kernels.gemm, out: out, in: in, dt: dt}
	if dt == compute.BF16 {
		w.form = paired
	}
	w.forward = d.slabs.take(int64(w.g.panelsOf(out)) * int64(w.forwardPanel()))
	if train {
		w.backward = d.slabs.take(int64(w.g.panelsOf(in)) * int64(w.backwardPanel()))
	}
	return w
}

func (w *weight) Dims() (out, in int)  { return w.out, w.in }
func (w *weight) DType() compute.DType { return w.dt }

func (w *weight) Bytes() int64 {
	n := w.forward.bytes
	if w.backward != nil {
		n += w.backward.bytes
	}
	return n
}

func (w *weight) Free() {
	w.forward.free()
	if w.backward != nil {
		w.backward.free()
	}
}

func (w *weight) forwardPanel() int  { return w.g.panelBytes(w.form, w.in) }
func (w *weight) backwardPanel() int { return w.g.panelBytes(w.form, w.out) }

// cell is the address of element (r, c) in forward, and in backward.
func (w *weight) cell(back bool, r, c int) unsafe.Pointer {
	n, k, panel, base := r, c, w.forwardPanel(), w.forward
	if back {
		n, k, panel, base = c, r, w.backwardPanel(), w.backward
	}
	p := unsafe.Add(base.base, n/w.g.nr*panel)
	if w.form == paired {
		return unsafe.Add(p, (k/2*w.g.nr+n%w.g.nr)*4+k%2*2)
	}
	return unsafe.Add(p, (k*w.g.nr+n%w.g.nr)*4)
}

// row copies row r, widened, to dst [in].
func (w *weight) row(dst []float32, r int) {
	if r < 0 || r >= w.out || len(dst) != w.in {
		panic(fmt.Sprintf("compute/cpu: row %d of a [%d, %d] weight into %d values", r, w.out, w.in, len(dst)))
	}
	nr := w.g.nr
	if w.backward != nil { // where neighbours lie together
		for c := 0; c < w.in; c += nr {
			p := w.cell(true, r, c)
			for i := range min(nr, w.in-c) {
				dst[c+i] = w.value(unsafe.Add(p, 4*i))
			}
		}
		return
	}
	p := w.cell(false, r, 0)
	for c := range dst {
		if w.form == paired {
			dst[c] = w.value(unsafe.Add(p, (c/2*nr)*4+c%2*2))
		} else {
			dst[c] = w.value(unsafe.Add(p, c*nr*4))
		}
	}
}

// value is the element at p.
func (w *weight) value(p unsafe.Pointer) float32 {
	if w.form == paired {
		return compute.F32FromBF16(*(*uint16)(p))
	}
	return *(*float32)(p)
}

// stageBytes is the scratch that a thread needs to pack rows of this weight.
func (w *weight) stageBytes() int {
	if w.form != paired {
		return 0
	}
	return w.g.nr * int(roundUp(int64(w.in), 16)) * 2
}

// storeRows packs rows [row, row+n) from F32 rows at src, stride elements apart. They lie within
// one panel. stage has stageBytes.
func (w *weight) storeRows(row, n int, src unsafe.Pointer, stride int, stage unsafe.Pointer) {
	g := w.g
	from := matrix{p: src, stride: stride, dt: compute.F32, along: true}
	if w.form == paired {
		line := int(roundUp(int64(w.in), 16))
		g.narrowRows(n, src, stride*4, stage, line*2, w.in/8)
		for i := range n {
			for c := w.in &^ 7; c < w.in; c++ {
				v := *(*float32)(from.at(i, c))
				*(*uint16)(unsafe.Add(stage, (i*line+c)*2)) = compute.BF16FromF32(v)
			}
		}
		from = matrix{p: stage, stride: line, dt: compute.BF16, along: true}
	}
	if n < g.nr { // rows beside them stay
		for i := range n {
			w.storeRow(row+i, from, i)
		}
		return
	}
	g.packB(from, w.form, 0, g.nr, 0, w.in, unsafe.Add(w.forward.base, row/g.nr*w.forwardPanel()))
	if w.backward == nil {
		return
	}
	from.along = false
	for j := 0; j < w.in; j += g.nr {
		dst := w.cell(true, row, j)
		switch {
		case j+g.nr > w.in:
			for i := range n {
				for c := j; c < w.in; c++ {
					w.put(true, row+i, c, from.bits(c, i))
				}
			}
		case w.form == paired:
			g.pairRows(n/2, from.at(j, 0), from.stride*2, dst, g.nr*4, g.nr/8)
		default:
			g.copyRows(n, from.at(j, 0), from.stride*4, dst, g.nr*4, g.nr/8)
		}
	}
}

func (w *weight) storeRow(row int, from matrix, i int) {
	for c := range w.in {
		v := from.bits(i, c)
		w.put(false, row, c, v)
		if w.backward != nil {
			w.put(true, row, c, v)
		}
	}
}

func (w *weight) put(back bool, r, c int, bits uint32) {
	p := w.cell(back, r, c)
	if w.form == paired {
		*(*uint16)(p) = uint16(bits)
	} else {
		*(*uint32)(p) = bits
	}
}

// storing is the job of Store and Optimize. Its items are panels of nr rows.
type storing struct {
	w         *weight // nil: only masters are updated
	nr        int
	row, rows int // rows of w, and of src and masters from 0
	src       compute.Tensor
	stage     []float32
	stageSize int // floats of a thread's stage
	step      func(x *storing, from, n int)
	update    updating
}

// items is the number of panels that the rows touch.
func (x *storing) items() int { return (x.row+x.rows-1)/x.nr - x.row/x.nr + 1 }

func (x *storing) do(thread, item int) {
	first := max(x.row, (x.row/x.nr+item)*x.nr)
	n := min((first/x.nr+1)*x.nr, x.row+x.rows) - first
	if x.step != nil {
		x.step(x, first-x.row, n)
	}
	if x.w != nil {
		var stage unsafe.Pointer
		if x.stageSize > 0 {
			stage = unsafe.Pointer(&x.stage[thread*x.stageSize])
		}
		src := unsafe.Add(memoryOf(x.src).base, (x.src.Off+(first-x.row)*x.src.Stride)*4)
		x.w.storeRows(first, n, src, x.src.Stride, stage)
	}
}

// Store fills rows of w; see compute.Backend.
func (b *Backend) Store(w compute.Weight, row int, src compute.Tensor) {
	compute.CheckStore(w, row, src)
	b.own(src)
	b.store(b.weightOf(w), row, src, nil)
}

// store packs src into w's rows from row on, each panel after step has had it.
func (b *Backend) store(w *weight, row int, src compute.Tensor, step func(*storing, int, int)) {
	if src.Rows == 0 {
		return
	}
	x := &b.storing
	x.w, x.nr, x.row, x.rows, x.src, x.step = w, b.k.gemm.nr, row, src.Rows, src, step
	x.stageSize = 0
	b.scratch.reset()
	if w != nil && w.stageBytes() > 0 {
		x.stageSize = w.stageBytes() / 4
		x.stage = take[float32](&b.scratch, b.pool.threads*x.stageSize)
	}
	b.pool.run(x.items(), x)
}

func (b *Backend) weightOf(w compute.Weight) *weight {
	p, ok := w.(*weight)
	if !ok || p.g != &b.k.gemm {
		panic(fmt.Sprintf("compute/cpu: weight of another device (%T)", w))
	}
	return p
}

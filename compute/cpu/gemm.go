package cpu

import (
	"fmt"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// A product is Y = alpha·Σ A·B, or Y += alpha·Σ A·B, over one or more terms, with A packed in
// scratch and B in a weight's panels or in scratch too.
//
// The order of an element's sum is the same wherever it lies: terms in turn, each cut into blocks
// of K at multiples of a constant, each block summed by one tile kernel from low to high k, the
// block sums added in turn in F32; then alpha, the addition to Y, and one rounding to Y's dtype.
// Neither M nor the row's index, the column's place or the thread is part of it.

// term is A·B of one A and one B.
type term struct {
	a       unsafe.Pointer // packed: panel i lies aPanel bytes behind panel i−1
	aPanel  int
	b       unsafe.Pointer // panel j lies bPanel bytes behind panel j−1
	bPanel  int
	groups  int
	aGroup  int // bytes of A for one row of a group
	block   int // groups of a K block
	kernels *tiles
}

// output is a Y, and where its terms lie in the multiplication's list.
type output struct {
	y          unsafe.Pointer
	stride     int // bytes
	dt         compute.DType
	cols       int
	row0, col0 int // what y is the address of
	from, to   int // terms
	chunkFirst int // its first chunk, counted over all outputs
}

// multiplication is the job that computes products with the same rows. Its items are blocks of
// rows times chunks of columns.
type multiplication struct {
	g         *gemmKernels
	m         int // rows
	tileCount int // panels of A
	full      int // of them of the largest height
	rowTiles  int // panels of A in an item
	chunk     int // panels of B in an item
	chunks    int // of all outputs
	alpha     float32
	acc       bool
	terms     []term
	outs      []output
	partial   []float32 // a thread's sums: rowTiles·chunk tiles, and one more
}

const gemmItemColumns = 256 // columns of an item

func (g *gemmKernels) itemTiles() int  { return max(g.itemRows/g.heights[0], 4) }
func (g *gemmKernels) itemPanels() int { return gemmItemColumns / g.nr }
func (g *gemmKernels) tileFloats() int { return g.heights[0] * g.nr }

// partialFloats is the sums of one thread.
func (g *gemmKernels) partialFloats() int {
	return (g.itemTiles()*g.itemPanels() + 1) * g.tileFloats()
}

// plan cuts the work into items once the outputs are listed: smaller ones where there would be too
// few for the threads.
func (x *multiplication) plan(g *gemmKernels, m, threads int) int {
	chunk := g.itemPanels()
	for items := x.cut(g, m, chunk); ; items = x.cut(g, m, chunk) {
		if chunk == 1 || threads == 1 || items >= 4*threads {
			return items
		}
		chunk /= 2
	}
}

// cut cuts the work into items of so many panels of B, and returns how many there are.
func (x *multiplication) cut(g *gemmKernels, m, chunk int) int {
	x.g, x.m, x.tileCount, x.full, x.chunk, x.chunks = g, m, g.tileCount(m), g.fullTiles(m), chunk, 0
	x.rowTiles = min(g.itemTiles(), x.tileCount)
	for i := range x.outs {
		o := &x.outs[i]
		o.chunkFirst = x.chunks
		x.chunks += (g.panelsOf(o.cols) + chunk - 1) / chunk
	}
	return x.chunks * ((x.tileCount + x.rowTiles - 1) / x.rowTiles)
}

// part is the chunk of an item and its tiles of rows. The blocks of rows take turns with each chunk: B
// may be larger than the caches (the head's is), and comes from memory once.
func (x *multiplication) part(item int) (chunk, i0, i1 int) {
	blocks := (x.tileCount + x.rowTiles - 1) / x.rowTiles
	i0 = item % blocks * x.rowTiles
	return item / blocks, i0, min(i0+x.rowTiles, x.tileCount)
}

func (x *multiplication) do(thread, item int) {
	c, i0, i1 := x.part(item)
	out := 0
	for out+1 < len(x.outs) && c >= x.outs[out+1].chunkFirst {
		out++
	}
	o := &x.outs[out]
	j0 := (c - o.chunkFirst) * x.chunk
	j1 := min(j0+x.chunk, x.g.panelsOf(o.cols))
	size := x.g.partialFloats()
	x.item(o, i0, i1, j0, j1, unsafe.Pointer(&x.partial[thread*size]))
}

// item computes tiles [i0, i1) of rows and panels [j0, j1) of columns. Each panel of B is read once
// for every K block, and serves all rows while it is in the first caches. Where there is one block in
// all, a tile's sums are finished at once, and all take the same place.
func (x *multiplication) item(o *output, i0, i1, j0, j1 int, partial unsafe.Pointer) {
	g := x.g
	tileBytes := g.tileFloats() * 4
	spare := unsafe.Add(partial, (i1-i0)*(j1-j0)*tileBytes)
	last := o.to - 1
	once := o.from == last && x.terms[last].block >= x.terms[last].groups
	for t := o.from; t < o.to; t++ {
		e := &x.terms[t]
		block := e.block
		for k := 0; k < e.groups || k == 0; k += block {
			kc := min(block, e.groups-k)
			acc, store := 1, t == last && k+block >= e.groups
			if t == o.from && k == 0 {
				acc = 0
			}
			for j := j0; j < j1; j++ {
				b := unsafe.Add(e.b, j*e.bPanel+k*g.nr*4)
				if x.m == 1 && j+1 < j1 && e.kernels.twin != nil {
					c := unsafe.Add(partial, (j-j0)*tileBytes)
					e.kernels.twin(kc, unsafe.Add(e.a, k*e.aGroup), b, c, acc, e.bPanel, tileBytes)
					if store {
						x.store(o, c, 0, 1, j*g.nr, spare)
						x.store(o, unsafe.Add(c, tileBytes), 0, 1, (j+1)*g.nr, spare)
					}
					j++
					continue
				}
				for i := i0; i < i1; i++ {
					mr := g.heights[0]
					row := i * mr
					if i >= x.full {
						row, mr = g.tile(i, x.m)
					}
					c := partial
					if !once {
						c = unsafe.Add(partial, ((j-j0)*(i1-i0)+i-i0)*tileBytes)
					}
					e.kernels.of[mr](kc, unsafe.Add(e.a, i*e.aPanel+k*mr*e.aGroup), b, c, acc)
					if store {
						x.store(o, c, row, mr, j*g.nr, spare)
					}
				}
			}
		}
	}
}

// store writes the finished sums of a tile. spare has room for another tile.
func (x *multiplication) store(o *output, c unsafe.Pointer, row, mr, col int, spare unsafe.Pointer) {
	g := x.g
	size := o.dt.Size()
	y := unsafe.Add(o.y, (row-o.row0)*o.stride+(col-o.col0)*size)
	cols := min(g.nr, o.cols-col)
	ts := g.nr * 4 // bytes of a tile's row
	if x.alpha != 1 || x.acc {
		// y + alpha·c, in F32, beside y where y is not F32 or not whole.
		sum, ss := y, o.stride
		beside := o.dt != compute.F32 || cols < g.nr
		if beside || !x.acc {
			sum, ss = spare, ts
		}
		switch {
		case !x.acc:
			clear(unsafe.Slice((*float32)(spare), mr*g.nr))
		case beside:
			g.widenTo(spare, ts, y, o.stride, o.dt, mr, cols)
		}
		g.axpyRows(mr, c, ts, sum, ss, g.nr/8, x.alpha)
		if sum == y {
			return
		}
		c = sum
	}
	w8 := cols / 8
	if o.dt == compute.BF16 {
		g.narrowRows(mr, c, ts, y, o.stride, w8)
	} else {
		g.copyRows(mr, c, ts, y, o.stride, w8)
	}
	for i := range mr {
		for j := w8 * 8; j < cols; j++ {
			v := *(*float32)(unsafe.Add(c, i*ts+j*4))
			if o.dt == compute.BF16 {
				*(*uint16)(unsafe.Add(y, i*o.stride+j*2)) = compute.BF16FromF32(v)
			} else {
				*(*float32)(unsafe.Add(y, i*o.stride+j*4)) = v
			}
		}
	}
}

// widenTo reads cols columns of mr rows of y into a tile of F32.
func (g *gemmKernels) widenTo(tile unsafe.Pointer, ts int, y unsafe.Pointer, stride int, dt compute.DType, mr, cols int) {
	w8 := cols / 8
	if dt == compute.BF16 {
		g.widenRows(mr, y, stride, tile, ts, w8)
	} else {
		g.copyRows(mr, y, stride, tile, ts, w8)
	}
	for i := range mr {
		for j := w8 * 8; j < cols; j++ {
			v := (*float32)(unsafe.Add(tile, i*ts+j*4))
			if dt == compute.BF16 {
				*v = compute.F32FromBF16(*(*uint16)(unsafe.Add(y, i*stride+j*2)))
			} else {
				*v = *(*float32)(unsafe.Add(y, i*stride+j*4))
			}
		}
	}
}

// gemmJobs are a Backend's jobs and what they need in every operation.
type gemmJobs struct {
	mul  multiplication
	pack packing

	few        few
	fewPacking fewPacking
}

// aBytes is the scratch of A's panels for m rows.
func (g *gemmKernels) aBytes(f form, m, k int) int64 {
	return scratchBytes(g.tileCount(m)*g.aPanel(f, k)/4, 4)
}

// aPanel is the bytes from one panel of A to the next.
func (g *gemmKernels) aPanel(f form, k int) int {
	return (g.heights[0]*f.groups(k)*f.dwords() + spill) * 4
}

// begin resets the scratch and takes what every product needs.
func (b *Backend) begin() {
	g := &b.k.gemm
	b.scratch.reset()
	x, p := &b.gemm.mul, &b.gemm.pack
	x.partial = take[float32](&b.scratch, b.pool.threads*g.partialFloats())
	p.g, p.stage = g, take[float32](&b.scratch, b.pool.threads*maxMR*stageDwords)
	x.terms, x.outs, p.parts = x.terms[:0], x.outs[:0], p.parts[:0]
}

// beginBytes is the scratch that begin takes.
func (b *Backend) beginBytes() int64 {
	n := b.pool.threads
	return scratchBytes(n*b.k.gemm.partialFloats(), 4) + scratchBytes(n*maxMR*stageDwords, 4)
}

// formsOf is how operands of these dtypes are packed, and what multiplies them.
func (g *gemmKernels) formsOf(a, b compute.DType) (fa, fb form, block int, k *tiles) {
	switch {
	case b == compute.F32:
		return single, single, g.blockF, &g.f32
	case a == compute.BF16 && g.pairs:
		return paired, paired, g.blockB, &g.dot
	}
	return double, paired, g.blockB, &g.wide
}

// evenBlock is the groups of a K block where K is the model's: blocks of about one size, so that the
// last one is not short. It depends on K alone.
func evenBlock(groups, block int) int {
	n := max((groups+block-1)/block, 1)
	return int(roundUp(int64((groups+n-1)/n), 8))
}

// packedA lists rows [first, first+n) of a, of the size rows that it has, to be packed, and returns
// where to.
func (b *Backend) packedA(a matrix, f form, first, n, size, k int) unsafe.Pointer {
	g := &b.k.gemm
	stride := g.aPanel(f, k)
	panels := g.tileCount(n)
	dst := unsafe.Pointer(unsafe.SliceData(take[float32](&b.scratch, panels*stride/4)))
	b.gemm.pack.parts = append(b.gemm.pack.parts, packPart{
		src: a, form: f, first: first, n: n, size: size, k: k, dst: dst, panels: panels, stride: stride,
	})
	return dst
}

// packedB lists columns [first, first+n) of m, of the size columns that it has.
func (b *Backend) packedB(m matrix, f form, first, n, size, k int) unsafe.Pointer {
	g := &b.k.gemm
	stride := g.panelBytes(f, k)
	panels := g.panelsOf(n)
	dst := unsafe.Pointer(unsafe.SliceData(take[float32](&b.scratch, panels*stride/4)))
	b.gemm.pack.parts = append(b.gemm.pack.parts, packPart{
		src: m, form: f, isB: true, first: first, n: n, size: size, k: k, dst: dst, panels: panels, stride: stride,
	})
	return dst
}

// runPacking packs what was listed. A few panels are not worth waking anyone.
func (b *Backend) runPacking() {
	p := &b.gemm.pack
	panels := 0
	for i := range p.parts {
		panels += p.parts[i].panels
	}
	n := p.items()
	if panels < 2*packPanels {
		for i := range n {
			p.do(0, i)
		}
	} else {
		b.pool.run(n, p)
	}
	p.parts = p.parts[:0]
}

// rowsThatFit is how many rows of A fit into the scratch that is left, tileBytes for a tile's: all m
// of them, or a multiple of an item's.
func (b *Backend) rowsThatFit(m, tileBytes int) int {
	g := &b.k.gemm
	fit := int(b.scratch.left()-4096) / tileBytes
	if fit >= g.tileCount(m) {
		return m
	}
	step := g.itemTiles()
	if fit < step {
		panic(fmt.Sprintf("compute/cpu: %d bytes of scratch left for tiles of %d: the operation is larger than the Limits given to Reserve", b.scratch.left(), tileBytes))
	}
	return fit / step * step * g.heights[0]
}

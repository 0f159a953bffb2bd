package cpu

import (
	"sync/atomic"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// Products of few rows (decoding) read a weight once for little arithmetic: at 8 rows, memory and
// multiply-adds take about as long, so that neither may wait for the other. Three things differ
// from the general product, none of which is part of an element's sum:
//
// A thread walks through the panels of its own half of the columns from end to end, a stream that
// the hardware follows; only when it is done does it take panels from the other end of another's.
// A panel is finished before the next one begins, and while its tiles are computed, a block of K at
// a time, they fetch the block behind it. Rows are cut into tiles of about the same height.

// fewRows is the most rows that are handled so. One row has kernels that take two panels at once.
const fewRows = 64

// streamKernel is a tileKernel that fetches step bytes at ahead with every group.
type streamKernel func(kc int, a, b, c unsafe.Pointer, acc int, ahead unsafe.Pointer, step int)

// streamTiles is a family of them, by height.
type streamTiles [maxMR + 1]streamKernel

// fewTile is a panel of A.
type fewTile struct {
	row, mr int
	a       unsafe.Pointer
}

// few is the job of a Linear of few rows. Its items are spans of panels of one output; which one
// a call takes depends on the thread that calls.
type few struct {
	mul     multiplication // its outs, terms and memory
	kernels *streamTiles
	span    int // panels of an item
	tiles   [fewRows]fewTile
	count   int // tiles
	src     matrix
	k       int
	form    form
	stage   []float32
	ranges  []fewRange // a thread each
}

// fewRange is the items that a thread has left: the next one in the low half, the end in the high.
type fewRange struct {
	left atomic.Uint64
	_    [56]byte
}

// cutRows cuts m rows into the fewest tiles, all of about one height.
func (x *few) cutRows(g *gemmKernels, m int) {
	top := g.heights[0]
	x.count = 0
	for row, n := 0, (m+top-1)/top; row < m; n = max(n-1, 1) {
		mr := (m - row + n - 1) / n
		for x.kernels[mr] == nil && row+mr < m {
			mr++
		}
		for x.kernels[mr] == nil {
			mr--
		}
		x.tiles[x.count] = fewTile{row: row, mr: mr}
		x.count++
		row += mr
	}
}

// packA packs a tile's rows.
func (x *few) packA(t *fewTile, stage unsafe.Pointer) {
	g, mr := x.mul.g, t.mr
	if mr == 1 || mr&1 == 0 {
		g.packA(x.src, x.form, t.row, mr, x.mul.m, 0, x.k, true, t.a, stage)
		return
	}
	// An odd number of rows goes through transposes that read one row more: they read the stage.
	out, end := unsafe.Slice((*uint32)(t.a), x.form.groups(x.k)*x.form.dwords()*mr), x.form.groups(x.k)*x.form.dwords()
	whole := x.k
	if x.form == paired {
		whole /= 2
	}
	d := 0
	for n := (whole - d) / 8; n > 0; n = (whole - d) / 8 {
		n = min(n, stageDwords/8)
		switch {
		case x.form == paired:
			g.copyRows(mr, x.src.at(t.row, 2*d), x.src.stride*2, stage, stageDwords*4, n)
		case x.src.dt == compute.BF16:
			g.widenRows(mr, x.src.at(t.row, d), x.src.stride*2, stage, stageDwords*4, n)
		default:
			g.copyRows(mr, x.src.at(t.row, d), x.src.stride*4, stage, stageDwords*4, n)
		}
		at := unsafe.Add(t.a, d*mr*4)
		for i := (mr - 1) &^ 7; i >= 0; i -= 8 {
			rows := min(mr-i, 8)
			g.transpose[rows+rows&1](n, unsafe.Add(stage, i*stageDwords*4), stageDwords*4, unsafe.Add(at, i*4), mr*4)
		}
		d += 8 * n
	}
	for ; d < end; d++ {
		for i := range mr {
			out[d*mr+i] = x.src.element(x.form, t.row+i, d, x.k)
		}
	}
}

// fewPacking is the job that packs A, a tile an item.
type fewPacking struct{ x *few }

func (p *fewPacking) do(thread, item int) {
	p.x.packA(&p.x.tiles[item], unsafe.Pointer(&p.x.stage[thread*maxMR*stageDwords]))
}

// deal gives each thread its share of the items.
func (x *few) deal(items, threads int) {
	for t := range threads {
		from, to := items*t/threads, items*(t+1)/threads
		x.ranges[t].left.Store(uint64(from) | uint64(to)<<32)
	}
}

// next is the item that a thread takes: the first of its own, then the last of another's.
func (x *few) next(thread int) int {
	for own := true; ; own = false {
		for i := range x.ranges {
			r := &x.ranges[(thread+i)%len(x.ranges)].left
			for left := r.Load(); ; left = r.Load() {
				from, to := left&(1<<32-1), left>>32
				if from >= to {
					break
				}
				item := to - 1
				if own && i == 0 {
					item = from
					from++
				} else {
					to--
				}
				if r.CompareAndSwap(left, from|to<<32) {
					return int(item)
				}
			}
		}
	}
}

func (x *few) do(thread, _ int) {
	item := x.next(thread)
	m := &x.mul
	out := 0
	for out+1 < len(m.outs) && item >= m.outs[out+1].chunkFirst {
		out++
	}
	o := &m.outs[out]
	e := &m.terms[o.from]
	first := (item - o.chunkFirst) * x.span
	panels := m.g.panelsOf(o.cols)
	c := unsafe.Pointer(&m.partial[thread*m.g.partialFloats()])
	spare := unsafe.Add(c, x.count*m.g.tileFloats()*4)
	for j := first; j < min(first+x.span, panels); j++ {
		x.panel(o, e, j, j+1 == panels, c, spare)
	}
}

// panel computes the tiles of panel j.
func (x *few) panel(o *output, e *term, j int, isLast bool, c, spare unsafe.Pointer) {
	g := x.mul.g
	group := g.nr * 4
	step := (group + x.count - 1) / x.count
	tileBytes := g.tileFloats() * 4
	base := unsafe.Add(e.b, j*e.bPanel)
	for k, acc := 0, 0; k < e.groups || k == 0; k += e.block {
		kc := min(e.block, e.groups-k)
		b := unsafe.Add(base, k*group)
		ahead, by := unsafe.Add(b, kc*group), step
		if isLast && k+e.block >= e.groups {
			ahead, by = b, 0 // nothing follows
		}
		for i := range x.count {
			t := &x.tiles[i]
			sums := unsafe.Add(c, i*tileBytes)
			x.kernels[t.mr](kc, unsafe.Add(t.a, k*t.mr*e.aGroup), b, sums, acc, unsafe.Add(ahead, i*kc*by), by)
			if k+e.block >= e.groups {
				x.mul.store(o, sums, t.row, t.mr, j*g.nr, spare)
			}
		}
		acc = 1
	}
}

// streamsOf is the family of kernels for few rows that goes with one for many, or nil.
func (g *gemmKernels) streamsOf(k *tiles) *streamTiles {
	s := &g.streams[0]
	switch k {
	case &g.wide:
		s = &g.streams[1]
	case &g.dot:
		s = &g.streams[2]
	}
	if s[1] == nil {
		return nil
	}
	return s
}

// linearFew is Linear for few rows.
func (b *Backend) linearFew(ys []compute.Tensor, x compute.Tensor, ws []compute.Weight, acc bool, kernels *streamTiles, fa, fb form, block int) {
	g, f, threads := &b.k.gemm, &b.gemm.few, b.pool.threads
	b.begin()
	m := &f.mul
	m.g, m.m, m.alpha, m.acc, m.partial = g, x.Rows, 1, acc, b.gemm.mul.partial
	f.kernels, f.src, f.k, f.form, f.stage = kernels, matrixOf(x, true), x.Cols, fa, b.gemm.pack.stage
	f.cutRows(g, x.Rows)
	for i := range f.count {
		t := &f.tiles[i]
		t.a = unsafe.Pointer(unsafe.SliceData(take[float32](&b.scratch, t.mr*fa.groups(x.Cols)*fa.dwords()+spill)))
	}
	b.pool.run(f.count, &b.gemm.fewPacking)

	panels := 0
	for _, w := range ws {
		panels += g.panelsOf(w.(*weight).out)
	}
	f.span = max(min(panels/(8*threads), g.itemPanels()), 1)
	m.outs, m.terms = m.outs[:0], m.terms[:0]
	items := 0
	for i, w := range ws {
		p, y := w.(*weight), ys[i]
		m.outs = append(m.outs, output{
			y: pointer(y), stride: y.Stride * y.DType.Size(), dt: y.DType, cols: y.Cols, from: i, to: i + 1, chunkFirst: items,
		})
		m.terms = append(m.terms, term{
			b: p.forward.base, bPanel: p.forwardPanel(), groups: fb.groups(x.Cols), block: evenBlock(fb.groups(x.Cols), block), aGroup: fa.dwords() * 4,
		})
		items += parts(g.panelsOf(p.out), f.span)
	}
	f.deal(items, threads)
	b.pool.run(items, f)
}

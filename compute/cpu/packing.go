package cpu

import "unsafe"

// packing is the job that packs operands into scratch. Its items are groups of panels where memory
// runs along K, and ranges of K where it runs across the panels: so each item reads whole lines of
// memory, one after the other.
type packing struct {
	g     *gemmKernels
	parts []packPart
	stage []float32 // a thread's stage
}

// packPart is one operand: n of its rows (A) or columns (B), from first on.
type packPart struct {
	src       matrix
	form      form
	isB       bool
	first, n  int
	size      int // rows of A or columns of B in all
	k         int
	dst       unsafe.Pointer
	panels    int
	stride    int // bytes between panels
	itemFirst int
}

const (
	packPanels = 4  // of an item: a panel of A is some 10 to 100 µs of packing
	packRange  = 64 // of K, in an item
	packDepth  = 16 // of K, that panels take at a time; even
)

func (p *packPart) items() int {
	if p.src.along {
		return parts(p.panels, packPanels)
	}
	return parts(p.k, packRange)
}

func (x *packing) items() int {
	n := 0
	for i := range x.parts {
		x.parts[i].itemFirst = n
		n += x.parts[i].items()
	}
	return n
}

func (x *packing) do(thread, item int) {
	n := 0
	for n+1 < len(x.parts) && item >= x.parts[n+1].itemFirst {
		n++
	}
	p := &x.parts[n]
	item -= p.itemFirst
	stage := unsafe.Pointer(&x.stage[thread*maxMR*stageDwords])
	if p.src.along {
		for i := item * packPanels; i < min((item+1)*packPanels, p.panels); i++ {
			x.panel(p, i, 0, p.k, true, stage)
		}
		return
	}
	from, end := part(item, packRange, p.k)
	spread := 0
	if !p.isB && p.form != paired && p.size >= 16 {
		spread = x.spread(p, from, end)
	}
	for ; from < end; from += packDepth {
		to := min(from+packDepth, end)
		for i := spread; i < p.panels; i++ {
			x.panel(p, i, from, to, to == end, stage)
		}
	}
}

// panel packs [from, to) of K of panel i; exact is packA's.
func (x *packing) panel(p *packPart, i, from, to int, exact bool, stage unsafe.Pointer) {
	dst := unsafe.Add(p.dst, i*p.stride)
	if p.isB {
		x.g.packB(p.src, p.form, p.first+i*x.g.nr, p.size, from, to, dst)
		return
	}
	row, mr := x.g.tile(i, p.n)
	x.g.packA(p.src, p.form, p.first+row, mr, p.size, from, to, exact, dst, stage)
}

// spread packs [from, to) of K of the full panels of an A whose memory runs across them, and returns
// how many they are. Each row of memory is dealt out to all panels at once, whole vectors at a time,
// which spill into the next row's place: so the last row, behind which another item may be at work,
// is dealt out exactly.
func (x *packing) spread(p *packPart, from, to int) int {
	g, mr, full := x.g, x.g.heights[0], x.g.fullTiles(p.n)
	rows, size := g.copyRows, p.src.dt.Size()
	if size == 2 {
		rows = g.widenRows
	}
	for k := from; k < to-1; k++ {
		rows(full, p.src.at(p.first, k), mr*size, unsafe.Add(p.dst, k*mr*4), p.stride, parts(mr, 8))
	}
	for i := range full {
		dst := unsafe.Slice((*uint32)(unsafe.Add(p.dst, i*p.stride+(to-1)*mr*4)), mr)
		src := p.src.at(p.first+i*mr, to-1)
		if size == 4 {
			copy(dst, unsafe.Slice((*uint32)(src), mr))
		} else {
			for j, v := range unsafe.Slice((*uint16)(src), mr) {
				dst[j] = uint32(v) << 16
			}
		}
		if p.form == double && to == p.k && to%2 == 1 {
			clear(unsafe.Slice((*uint32)(unsafe.Add(unsafe.Pointer(&dst[0]), mr*4)), mr))
		}
	}
	return full
}

package cpu

import (
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// Matrices are multiplied in packed form. A is cut into panels of mr rows, B into panels of nr
// columns; within a panel, what one step of a tile kernel reads lies together:
//
//	A panel: [K][mr] F32, or [K/2][mr] pairs of BF16
//	B panel: [K][nr] F32, or [K/2][nr] pairs of BF16
//
// A pair is two neighbours along K in one dword, the even one below. K and nr are padded with
// zeros. A step along K (one k, or one pair) is a group.

// matrix is an operand in memory, not packed.
type matrix struct {
	p      unsafe.Pointer
	stride int // elements
	dt     compute.DType
	// along says that a row of memory runs along K: A [M, K], B [N, K]. Otherwise memory is
	// [K, M] or [K, N].
	along bool
}

func matrixOf(t compute.Tensor, along bool) matrix {
	return matrix{p: pointer(t), stride: t.Stride, dt: t.DType, along: along}
}

// at is the address of element (i, k), i counted along M or N.
func (m matrix) at(i, k int) unsafe.Pointer {
	if m.along {
		return unsafe.Add(m.p, (i*m.stride+k)*m.dt.Size())
	}
	return unsafe.Add(m.p, (k*m.stride+i)*m.dt.Size())
}

func (m matrix) bits(i, k int) uint32 {
	if m.dt == compute.BF16 {
		return uint32(*(*uint16)(m.at(i, k)))
	}
	return *(*uint32)(m.at(i, k))
}

// form is what a group of a packed panel holds.
type form uint8

const (
	single form = iota // F32, one k
	double             // F32, two k: A for Wide tiles
	paired             // BF16, two k
)

// groups is how many steps K takes.
func (f form) groups(k int) int {
	if f == single {
		return k
	}
	return (k + 1) / 2
}

// dwords is the room of a group, for one row or column.
func (f form) dwords() int {
	if f == double {
		return 2
	}
	return 1
}

// spill is what packing may write behind a panel, in dwords; panels of A lie that far apart.
const spill = 16

// element is the dword d of (i, …) in this form, for what the row kernels cannot take. K ends at k.
func (m matrix) element(f form, i, d, k int) uint32 {
	switch {
	case f == paired:
		v := m.bits(i, 2*d)
		if 2*d+1 < k {
			v |= m.bits(i, 2*d+1) << 16
		}
		return v
	case d >= k:
		return 0
	case m.dt == compute.BF16:
		return m.bits(i, d) << 16
	}
	return m.bits(i, d)
}

// packA packs rows [row, row+mr) of the m rows of a, [from, to) of K, to the panel at dst, in a form
// that fits a's dtype. from is even; to is even or the end of K. Where memory runs across the panel,
// it may spill behind to, unless told to be exact. stage has room for mr·stageDwords dwords.
func (g *gemmKernels) packA(a matrix, f form, row, mr, m, from, to int, exact bool, dst, stage unsafe.Pointer) {
	d, end := from, f.groups(to)*f.dwords() // dwords of a row
	if f == paired {
		d = from / 2
	}
	at := func(d int) unsafe.Pointer { return unsafe.Add(dst, d*mr*4) }
	switch {
	case a.along && (f == paired || a.dt == compute.F32):
		whole := to
		if f == paired {
			whole = to / 2
		}
		n := (whole - d) / 8
		g.transposeRows(mr, n, a.at(row, from), a.stride*a.dt.Size(), at(d))
		d += 8 * n
	case a.along: // widen, then transpose
		for n := (to - d) / 8; n > 0; n = (to - d) / 8 {
			n = min(n, stageDwords/8)
			g.widenRows(mr, a.at(row, d), a.stride*2, stage, stageDwords*4, n)
			g.transposeRows(mr, n, stage, stageDwords*4, at(d))
			d += 8 * n
		}
	case row+(mr+7)&^7 <= m: // memory beside the panel is of the same rows
		w8, n := (mr+7)/8, to-d
		if f == paired {
			n = to/2 - d
		}
		if exact && n > 0 {
			n--
		}
		switch {
		case f == paired:
			g.pairRows(n, a.at(row, from), a.stride*2, at(d), mr*4, w8)
		case a.dt == compute.BF16:
			g.widenRows(n, a.at(row, from), a.stride*2, at(d), mr*4, w8)
		default:
			g.copyRows(n, a.at(row, from), a.stride*4, at(d), mr*4, w8)
		}
		d += n
	}
	out := unsafe.Slice((*uint32)(dst), end*mr)
	for ; d < end; d++ {
		for i := range mr {
			out[d*mr+i] = a.element(f, row+i, d, to)
		}
	}
}

// stageDwords is the part of a row that packA widens at a time.
const stageDwords = 256

// transposeRows writes 8·n columns of mr rows of dwords, mr of them for each.
func (g *gemmKernels) transposeRows(mr, n int, src unsafe.Pointer, ss int, dst unsafe.Pointer) {
	if mr == 1 {
		g.copyRows(1, src, 0, dst, 0, n)
		return
	}
	// The last rows first: a transpose of fewer than 8 rows spills into the next column's.
	for i := (mr - 1) &^ 7; i >= 0; i -= 8 {
		g.transpose[min(mr-i, 8)](n, unsafe.Add(src, i*ss), ss, unsafe.Add(dst, i*4), mr*4)
	}
}

// packB packs columns [col, col+nr) of the n columns of b, [from, to) of K, to the panel at dst. b's
// dtype is F32 for form single and BF16 for paired; from and to are as packA's.
func (g *gemmKernels) packB(b matrix, f form, col, n, from, to int, dst unsafe.Pointer) {
	d, end, whole := from, f.groups(to), to
	if f == paired {
		d, whole = from/2, to/2
	}
	at := func(d int) unsafe.Pointer { return unsafe.Add(dst, d*g.nr*4) }
	cols := min(g.nr, n-col)
	switch {
	case cols < g.nr:
		clear(unsafe.Slice((*uint32)(at(d)), (end-d)*g.nr))
	case b.along:
		blocks := (whole - d) / 8
		for j := 0; j < g.nr; j += 8 {
			g.transpose[8](blocks, b.at(col+j, from), b.stride*b.dt.Size(), unsafe.Add(at(d), j*4), g.nr*4)
		}
		d += 8 * blocks
	case f == paired:
		g.pairRows(whole-d, b.at(col, from), b.stride*2, at(d), g.nr*4, g.nr/8)
		d = whole
	default:
		g.copyRows(whole-d, b.at(col, from), b.stride*4, at(d), g.nr*4, g.nr/8)
		d = whole
	}
	out := unsafe.Slice((*uint32)(dst), end*g.nr)
	for ; d < end; d++ {
		for j := range cols {
			out[d*g.nr+j] = b.element(f, col+j, d, to)
		}
	}
}

// panelBytes is the memory of a panel of B.
func (g *gemmKernels) panelBytes(f form, k int) int { return f.groups(k) * g.nr * 4 }

// panelsOf is how many panels n columns take.
func (g *gemmKernels) panelsOf(n int) int { return (n + g.nr - 1) / g.nr }

// fullTiles is how many panels of m rows have the largest height. Two or three rows that are left
// over would wait for their sums: with a tile of the largest height they make two of the next.
func (g *gemmKernels) fullTiles(m int) int {
	top := g.heights[0]
	full, rest := m/top, m%top
	if full > 0 && (rest == 2 || rest == 3) && top+2 == 2*g.heights[1] {
		full--
	}
	return full
}

// tileCount is how many panels m rows of A are cut into: of the largest height, then of smaller
// ones.
func (g *gemmKernels) tileCount(m int) int {
	n := g.fullTiles(m)
	for rest := m - n*g.heights[0]; rest > 0; n++ {
		_, mr := g.tile(n, m)
		rest -= mr
	}
	return n
}

// tile is the first row and the height of panel i of m rows.
func (g *gemmKernels) tile(i, m int) (row, mr int) {
	top, full := g.heights[0], g.fullTiles(m)
	if i < full {
		return i * top, top
	}
	row, i = full*top, i-full
	for _, h := range g.heights[1:] {
		for m-row >= h {
			if i == 0 {
				return row, h
			}
			row, i = row+h, i-1
		}
	}
	return m, 0
}

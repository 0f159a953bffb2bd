package kernels

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute/cpu/internal/neon"
)

// product is C (+)= A·B for a tile of attention. C [rows, 16·panels] and B [k, 16·panels], F32 or
// BF16, are row-major, A is [rows, k] or, transposed, [k, rows]; leading dimensions in bytes. Each
// element of C is one chain of fused multiply-adds in the order of k, beginning at 0 or, with acc, at
// its old value: so it has the same bits however the tile is cut.
func product(name string, transposed bool, b dtype) *neon.Func {
	doc := "sets C [rows, 16·panels] = A·B, or adds to it where acc is 1: a chain of fused multiply-adds in\nthe order of k > 0."
	f := neon.New(name, "rows, panels, k int, a unsafe.Pointer, lda int, b unsafe.Pointer, ldb int, c unsafe.Pointer, ldc, acc int", "", name+" "+doc)
	p := &productProgram{f, transposed, b}
	f.Arg("rows", prRows)
	f.Arg("a", prA)
	f.Arg("lda", prLDA)
	f.Arg("ldb", prLDB)
	f.Arg("c", prC)
	f.Arg("ldc", prLDC)
	f.Label("group")
	f.Go("CMP $6, %v\nBGE rows6", prRows)
	for m := 5; m >= 1; m-- {
		f.Go("CMP $%d, %v\nBEQ rows%d", m, prRows, m)
	}
	f.Go("B done")
	for m := 6; m >= 1; m-- {
		p.group(m)
	}
	f.Label("done")
	return f
}

type productProgram struct {
	*neon.Func
	transposed bool
	b          dtype
}

// Registers of products.
const (
	prRows   r = iota
	prA        // of the group
	prLDA      //
	prLDB      //
	prC        // of the group
	prLDC      //
	prPanels   // left
	prK        // left
	prBPanel   // of the panel
	prB        // of the step
	prCPanel   //
	prIndex    // of the step, along a row of A
	prT        // to work with
	prRow    r = 19
)

// group is m rows of C, panel by panel.
func (f *productProgram) group(m int) {
	f.Label(fmt.Sprintf("rows%d", m))
	f.Arg("panels", prPanels)
	f.Arg("b", prBPanel)
	f.Go("MOVD %v, %v", prC, prCPanel)
	f.Label(fmt.Sprintf("panel%d", m))
	eachC := func(do func(i int, base r)) {
		f.Go("MOVD %v, %v", prCPanel, prT)
		for i := range m {
			do(i, prT)
			if i < m-1 {
				f.Go("ADD %v, %v", prLDC, prT)
			}
		}
	}
	f.Go("MOVD %s, %v\nCBZ %v, zero%d", f.Param("acc"), prT, prT, m)
	eachC(func(i int, base r) {
		f.LoadPair(v(4*i), v(4*i+1), base, 0)
		f.LoadPair(v(4*i+2), v(4*i+3), base, 32)
	})
	f.Go("B start%d", m)
	f.Label(fmt.Sprintf("zero%d", m))
	for i := range 4 * m {
		f.Zero(v(i))
	}
	f.Label(fmt.Sprintf("start%d", m))
	f.Go("MOVD %v, %v", prBPanel, prB)
	f.Arg("k", prK)
	if f.transposed {
		f.Go("MOVD %v, %v", prA, prRow)
	} else {
		f.Go("MOVD ZR, %v\nMOVD %v, %v", prIndex, prA, prRow)
		for i := range m - 1 {
			f.Go("ADD %v, %v, %v", prLDA, prRow+r(i), prRow+r(i+1))
		}
	}
	f.Go("PCALIGN $16")
	f.Label(fmt.Sprintf("k%d", m))
	f.step(m)
	f.Go("SUB $1, %v\nCBNZ %v, k%d", prK, prK, m)
	eachC(func(i int, base r) {
		f.StorePair(v(4*i), v(4*i+1), base, 0)
		f.StorePair(v(4*i+2), v(4*i+3), base, 32)
	})
	f.Go("ADD $64, %v\nADD $%d, %v\nSUB $1, %v\nCBNZ %v, panel%d", prCPanel, 16*f.b.size(), prBPanel, prPanels, prPanels, m)
	if f.transposed {
		f.Go("ADD $%d, %v", 4*m, prA)
	} else {
		f.Go("MOVD $%d, %v\nMADD %v, %v, %v, %v", m, prT, prT, prA, prLDA, prA)
	}
	f.Go("MOVD $%d, %v\nMADD %v, %v, %v, %v\nSUB $%d, %v\nB group", m, prT, prT, prC, prLDC, prC, m, prRows)
}

// step adds one k to the sums: four vectors of B, in V24 to V27, by an element of A for each row.
func (f *productProgram) step(m int) {
	const b, a = v(24), v(28)
	if f.b == bf16 {
		f.LoadPair(b+1, b+3, prB, 0)
		f.Widen(b, b+1, b+1)
		f.Widen(b+2, b+3, b+3)
	} else {
		f.LoadPair(b, b+1, prB, 0)
		f.LoadPair(b+2, b+3, prB, 32)
	}
	f.Go("ADD %v, %v", prLDB, prB)
	if f.transposed {
		for off, x := 0, a; off < m; x++ {
			size := 16
			for off+size/4 > m {
				size /= 2
			}
			f.Load(size, x, prRow, 4*off)
			off += size / 4
		}
		f.Go("ADD %v, %v", prLDA, prRow)
	}
	for i := range m {
		x, lane := a+v(i%4), 0
		if f.transposed {
			x, lane = transposedLane(a, m, i)
		} else {
			f.LoadIndexed(x, prRow+r(i), prIndex)
		}
		for j := range v(4) {
			f.Lane("fmla", v(4*i)+j, b+j, x, lane)
		}
	}
	if !f.transposed {
		f.Go("ADD $1, %v", prIndex)
	}
}

// transposedLane is where step has loaded element i of m: in registers of four, two and one.
func transposedLane(a v, m, i int) (x v, lane int) {
	for _, n := range []int{4, 2, 1} {
		if m < n {
			continue
		}
		if i < n {
			return a, i
		}
		a, m, i = a+1, m-n, i-n
	}
	panic("kernels: more than seven rows")
}

// transposeBlocks is dst[c][r] = src[r][c], widened, in blocks of eight by eight.
func transposeBlocks(dt dtype) *neon.Func {
	name := "neonTranspose" + dt.String()
	f := neon.New(name, "rows8, cols8 int, dst unsafe.Pointer, ldd int, src unsafe.Pointer, lds int", "",
		name+" sets dst[c][r] = src[r][c], widened, for 8·rows8 rows and 8·cols8 columns, both > 0.")
	const rows, cols, dst, ldd, src, lds, from, to, row = r(0), r(1), r(2), r(3), r(4), r(5), r(6), r(7), r(8)
	for i, name := range []string{"rows8", "cols8", "dst", "ldd", "src", "lds"} {
		f.Arg(name, r(i))
	}
	f.Label("rows")
	f.Go("MOVD %v, %v\nMOVD %v, %v", src, from, dst, to)
	f.Arg("cols8", cols)
	f.Label("cols")
	f.Go("MOVD %v, %v", from, row)
	for i := range v(8) {
		if dt == bf16 {
			f.Load(16, 8+i, row, 0)
			f.Widen(i, 8+i, 8+i)
		} else {
			f.LoadPair(i, 8+i, row, 0)
		}
		if i < 7 {
			f.Go("ADD %v, %v", lds, row)
		}
	}
	for half := range v(2) {
		transpose4(f, 8*half, 16)
		transpose4(f, 8*half+4, 20)
		for c := range v(4) {
			f.StorePair(16+c, 20+c, to, 0)
			f.Go("ADD %v, %v", ldd, to)
		}
	}
	f.Go("ADD $%d, %v\nSUB $1, %v\nCBNZ %v, cols", 8*dt.size(), from, cols, cols)
	f.Go("ADD $32, %v\nADD %v<<3, %v\nSUB $1, %v\nCBNZ %v, rows", dst, lds, src, rows, rows)
	return f
}

// Offsets of the fields of softmaxRow.
const (
	rowFirst = 4 * iota // the first key of the block that the row sees,
	rowEnd              // and the one behind the last
	rowTop              // the largest score until now
	rowSum              // Σ exp(score − top)
	rowAlpha            // what the last block multiplied the older sums by
	rowLSE              // log-sum-exp of the whole row
	rowD                // dy·y
	_
	rowBytes
)

// Registers of the kernels on blocks of scores.
const (
	blRows r = iota
	blS      // of the row
	blDP
	blState
	blX     // of the step
	blG     //
	blLeft  // vectors that the row sees
	blClear // vectors behind them
	blFirst
	blEnd
	blLD
)

// Vector registers of the same: lane numbers, limits, and what the exponential may use.
const (
	blScale  v = 20
	blNegInf v = 21
	blBefore v = 22 // first − 1
	blBehind v = 23 // end
	blLane   v = 24 // and 25: the numbers of the step's keys
	blEight  v = 26
	blMask   v = 30 // and 31
)

var blFree = [4]pair{{6, 7}, {8, 9}, {10, 11}, {12, 13}}

// blockRows writes the loop over rows, around each, called for a row that sees a key of the block:
// blLeft steps, then clear those behind, which adds the same 0 as arithmetic would.
func blockRows(f *neon.Func, tensors []string, each, unseen func()) {
	f.Arg("rows", blRows)
	for i, name := range tensors {
		f.Arg(name, blS+r(i))
	}
	f.Arg("state", blState)
	f.Arg("lds", blLD)
	f.Scalar("scale", blScale)
	loadConstants(f, blX)
	dup(f, blNegInf, cNegInf)
	f.Go("MOVD $8, %v", blX)
	f.DupR(blEight, blX)
	f.Label("row")
	f.Go("MOVD %v, %v\nMOVD %v, %v", blS, blX, blDP, blG)
	f.Arg("vectors", blClear)
	f.Go("MOVW %d(%v), %v\nMOVW %d(%v), %v\nCMP %v, %v\nBGE unseen", rowFirst, blState, blFirst, rowEnd, blState, blEnd, blEnd, blFirst)
	f.Go("ADD $7, %v, %v\nLSR $3, %v\nSUB %v, %v", blEnd, blLeft, blLeft, blLeft, blClear)
	f.Go("SUB $1, %v", blFirst)
	f.DupR(blBefore, blFirst)
	f.DupR(blBehind, blEnd)
	f.Go("MOVD $neonLanes<>(SB), %v", blFirst)
	loadPair(f, pairAt(blLane), blFirst, 0)
	each()
	f.Go("B rest")
	f.Label("unseen")
	unseen()
	f.Label("rest")
	f.Zero(0)
	f.Loop("clear", blClear, func() {
		f.StorePairNext(0, 0, blX)
		if len(tensors) > 1 {
			f.StorePairNext(0, 0, blG)
		}
	})
	for i := range tensors {
		f.Go("ADD %v, %v", blLD, blS+r(i))
	}
	f.Go("ADD $%d, %v\nSUB $1, %v\nCBNZ %v, row", rowBytes, blState, blRows, blRows)
}

// keyMask sets blMask to the lanes whose keys the row sees, and moves the lane numbers on. It uses V0
// and V1.
func keyMask(f *neon.Func) {
	lane, mask := pairAt(blLane), pairAt(blMask)
	three(f, "cmgt", mask, lane, both(blBefore))
	three(f, "cmgt", a0, both(blBehind), lane)
	three(f, "and", mask, mask, a0)
	three(f, "add", lane, lane, both(blEight))
}

// softmaxBlock turns a block of scores, row by row, into exp(scale·score − top), 0 where the row
// does not see the key, and brings top, sum and alpha of its row up to date (arXiv 2307.08691,
// algorithm 1). A key that is not seen scores −Inf.
func softmaxBlock() *neon.Func {
	f := neon.New("neonSoftmaxBlock", "rows, vectors int, s unsafe.Pointer, lds int, state *softmaxRow, scale float32", "",
		"neonSoftmaxBlock turns scores [rows, 8·vectors] into exp(scale·score − top), 0 where the row does not see\nthe key, and brings state up to date; scale > 0.")
	top, sum := pairAt(2), pairAt(4)
	seen := func() {
		f.Mov(top[0], blNegInf)
		f.Mov(top[1], blNegInf)
		f.Go("MOVD %v, %v", blLeft, blFirst)
		f.Loop("top", blFirst, func() {
			keyMask(f)
			loadPair(f, a0, blX, 0)
			three(f, "bif", a0, both(blNegInf), pairAt(blMask))
			f.StorePairNext(0, 1, blX)
			three(f, "fmul", a0, a0, both(blScale))
			three(f, "fmax", top, top, a0)
		})
		f.Three("fmax", top[0], top[0], top[1])
		f.MaxAcross(top[0], top[0])
		alpha, old := v(0), v(1)
		f.Load(4, old, blState, rowTop)
		f.One("fmax", top[0], top[0], old)
		f.Store(4, top[0], blState, rowTop)
		f.One("fsub", alpha, old, top[0])
		f.Zero(1)
		exp(f, a0, blFree)
		f.Store(4, alpha, blState, rowAlpha)
		less := v(27) // −top, in every lane
		f.Dup(less, top[0], 0)
		f.Two("fneg", less, less)
		f.Mov(28, alpha)
		f.Zero(sum[0])
		f.Zero(sum[1])
		f.Go("MOVD %v, %v", blS, blX)
		f.Loop("exp", blLeft, func() {
			loadPair(f, top, blX, 0)
			f.Mov(0, less)
			f.Mov(1, less)
			three(f, "fmla", a0, top, both(blScale))
			exp(f, a0, blFree)
			f.StorePairNext(0, 1, blX)
			three(f, "fadd", sum, sum, a0)
		})
		sumPair(f, sum)
		f.Load(4, 0, blState, rowSum)
		f.MAdd(0, 0, 28, sum[0])
		f.Store(4, 0, blState, rowSum)
	}
	blockRows(f, []string{"s"}, seen, func() {
		f.Go("MOVW $0x3f800000, %v\nMOVW %v, %d(%v)", blEnd, blEnd, rowAlpha, blState)
	})
	return f
}

// gradBlock turns a block of scores s into the probabilities p = exp(scale·s − lse), and dp = dy·vᵀ
// into the gradient of q·k, p·(dp − d)·scale; both are 0 where the row does not see the key.
func gradBlock() *neon.Func {
	f := neon.New("neonGradBlock", "rows, vectors int, s, dp unsafe.Pointer, lds int, state *softmaxRow, scale float32", "",
		"neonGradBlock turns scores s into p = exp(scale·s − lse) and dp into p·(dp − d)·scale, both 0 where the row\ndoes not see the key.")
	less, d := v(27), v(28)
	seen := func() {
		f.Load(4, less, blState, rowLSE)
		f.Dup(less, less, 0)
		f.Two("fneg", less, less)
		f.Load(4, d, blState, rowD)
		f.Dup(d, d, 0)
		f.Loop("grad", blLeft, func() {
			keyMask(f)
			loadPair(f, pairAt(2), blX, 0)
			f.Mov(0, less)
			f.Mov(1, less)
			three(f, "fmla", a0, pairAt(2), both(blScale))
			three(f, "bif", a0, both(blNegInf), pairAt(blMask))
			exp(f, a0, blFree)
			f.StorePairNext(0, 1, blX)
			loadPair(f, pairAt(2), blG, 0)
			three(f, "fsub", pairAt(2), pairAt(2), both(d))
			three(f, "fmul", pairAt(2), pairAt(2), a0)
			three(f, "fmul", pairAt(2), pairAt(2), both(blScale))
			three(f, "and", pairAt(2), pairAt(2), pairAt(blMask))
			f.StorePairNext(2, 3, blG)
		})
	}
	blockRows(f, []string{"s", "dp"}, seen, func() {})
	return f
}

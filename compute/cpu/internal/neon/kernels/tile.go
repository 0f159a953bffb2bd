package kernels

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute/cpu/internal/neon"
)

// Kind is what a tile kernel multiplies.
type Kind int

const (
	F32  Kind = iota // panels of F32
	Wide             // A of F32, B of pairs of BF16, widened on the way
)

// Heights are the rows mr of tiles. With six, 24 sums, four vectors of B and three of A fill the
// registers, and a step along K is 24 multiply-adds by lane for six loads.
var Heights = []int{6, 4, 2, 1}

// Tile is the kernel C [mr, 16] = A·B for one height, the heart of every product.
func Tile(kind Kind, mr int) *neon.Func { return tile(kind, mr, 1) }

// Twin is the kernel of one row and two panels of B: with one, each multiply-add would wait for the
// last.
func Twin(kind Kind) *neon.Func { return tile(kind, 1, 2) }

// Registers of tile kernels.
const (
	tileKC r = iota
	tileA
	tileB
	tileC
	tileB2 // the second panel of B, and its tile
	tileC2
	tileSteps
)

func tile(kind Kind, mr, panels int) *neon.Func {
	name := fmt.Sprintf("neonTile%sx%d", [...]string{"F32", "Wide"}[kind], mr)
	doc := [...]string{
		"%s sets C [%d, 16] = Σₖ A[k]·B[k], or adds the sum to C with acc, for k = 0, 1, … in one\nfused multiply-add each. a is [kc][%[2]d], b is [kc][16], c is contiguous.",
		"%s sets C [%d, 16] = Σₖ A[k]·B[k], or adds the sum to C with acc, for k = 0, 1, … < 2·kc\nin one fused multiply-add each. a is F32 [2·kc][%[2]d], b is BF16 [kc][16][2], c is contiguous.",
	}[kind]
	params := "kc int, a, b, c unsafe.Pointer, acc int"
	if panels == 2 {
		name += "Twin"
		params += ", bs, cs int"
		doc += "\nIt does so for two panels: the second b lies bs bytes behind the first, the second c cs bytes."
	}
	t := &tileProgram{Func: neon.New(name, params, "", fmt.Sprintf(doc, name, mr)), kind: kind, mr: mr, vectors: 4 * panels}
	t.Arg("kc", tileKC)
	t.Arg("a", tileA)
	t.Arg("b", tileB)
	t.Arg("c", tileC)
	if panels == 2 {
		t.Arg("bs", tileB2)
		t.Arg("cs", tileC2)
		t.Go("ADD %v, %v\nADD %v, %v", tileB, tileB2, tileC, tileC2)
	}
	for i := range mr * t.vectors {
		t.Zero(v(i))
	}
	if kind == Wide {
		t.HighOnes(tileMask, 0xff)
	}
	shift := t.unroll() / 2 // 2, 4: the logarithm
	t.Go("LSR $%d, %v, %v", shift, tileKC, tileSteps)
	t.Go("CBZ %v, rest\nPCALIGN $16", tileSteps)
	t.Label("unrolled")
	t.steps(t.unroll())
	t.Go("SUB $1, %v\nCBNZ %v, unrolled", tileSteps, tileSteps)
	t.Label("rest")
	t.Go("AND $%d, %v", t.unroll()-1, tileKC)
	t.Loop("single", tileKC, func() { t.steps(1) })
	t.Go("MOVD %s, %v\nCBZ %v, store", t.Param("acc"), tileKC, tileKC)
	for i := 0; i < mr*t.vectors; i += 2 {
		c, off := t.place(i)
		t.LoadPair(tileMask-1, tileMask, c, off)
		t.Three("fadd", v(i), tileMask-1, v(i))
		t.Three("fadd", v(i+1), tileMask, v(i+1))
	}
	t.Label("store")
	for i := 0; i < mr*t.vectors; i += 2 {
		c, off := t.place(i)
		t.StorePair(v(i), v(i+1), c, off)
	}
	return t.Func
}

// tileMask holds 0xffff0000 in Wide kernels; when the sums are done it is free.
const tileMask v = 31

type tileProgram struct {
	*neon.Func
	kind    Kind
	mr      int
	vectors int // of a row: 4 a panel
}

// unroll is the steps along K whose elements of A fill whole vectors.
func (t *tileProgram) unroll() int {
	if t.mr == 1 && t.kind == F32 {
		return 4
	}
	return 2
}

// place is where vector i of the sums is stored: in the first tile, or in a twin's second.
func (t *tileProgram) place(i int) (base r, off int) {
	if first := 4 * t.mr; i >= first {
		return tileC2, 16 * (i - first)
	}
	return tileC, 16 * i
}

// steps writes n steps along K: a step is one k of F32 and a pair of k of Wide.
func (t *tileProgram) steps(n int) {
	depth := 1 // k of a step
	if t.kind == Wide {
		depth = 2
	}
	sums := v(t.mr * t.vectors)
	a := sums + 4 // after four registers for B
	if t.kind == Wide && n > 1 && t.mr > 2 {
		for range n { // A of two steps would need more registers than there are
			t.steps(1)
		}
		return
	}
	t.loadA(a, n*depth*t.mr)
	for s := range n {
		for p := 0; p < t.vectors; p += 4 {
			b := tileB
			if p > 0 {
				b = tileB2
			}
			t.multiply(a, s*depth*t.mr, b, p, sums)
		}
	}
}

// loadA reads n floats of A.
func (t *tileProgram) loadA(a v, n int) {
	for ; n >= 8; n -= 8 {
		t.LoadPairNext(a, a+1, tileA)
		a += 2
	}
	for _, size := range []int{16, 8, 4} {
		if n >= size/4 {
			t.LoadNext(size, a, tileA)
			n -= size / 4
			a++
		}
	}
}

// multiply adds one step's products with a panel of B to the sums of its four vectors, from vector p
// of a row on. A's elements of the step begin at the given one; t0 to t0+3 hold B.
func (t *tileProgram) multiply(a v, element int, b r, p int, t0 v) {
	fma := func(j int, x v, element int) {
		for i := range t.mr {
			e := element + i
			t.Lane("fmla", v(i*t.vectors+p+j), x, a+v(e/4), e%4)
		}
	}
	for j := 0; j < 4; j += 2 {
		if t.kind == F32 {
			x := t0 + v(j)
			t.LoadPairNext(x, x+1, b)
			fma(j, x, element)
			fma(j+1, x+1, element)
			continue
		}
		t.LoadPairNext(t0, t0+1, b)
		t.Shift("shl", t0+2, t0, 16) // the even k of each pair
		t.Shift("shl", t0+3, t0+1, 16)
		fma(j, t0+2, element)
		fma(j+1, t0+3, element)
		t.Three("and", t0, t0, tileMask) // the odd k
		t.Three("and", t0+1, t0+1, tileMask)
		fma(j, t0, element+t.mr)
		fma(j+1, t0+1, element+t.mr)
	}
}

// peak is a loop of nothing but multiply-adds: the measure of what the CPU can do.
func peak() *neon.Func {
	const sums = 24
	f := neon.New("neonPeakF32", "n int", "", fmt.Sprintf("neonPeakF32 runs n times %d independent multiply-adds of four F32.", sums))
	f.Arg("n", 0)
	for i := range v(sums + 2) {
		f.Zero(i)
	}
	f.Loop("again", 0, func() {
		for i := range v(sums) {
			f.Lane("fmla", i, sums, sums+1, 0)
		}
	})
	return f
}

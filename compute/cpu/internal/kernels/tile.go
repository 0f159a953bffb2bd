package kernels

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute/cpu/internal/asm"
)

// Kind is what a tile kernel multiplies.
type Kind int

const (
	F32  Kind = iota // panels of F32
	Wide             // A of F32, B of pairs of BF16, widened on the way
	Dot              // pairs of BF16, by VDPBF16PS
)

// Tile is a family of kernels C[mr, 2 vectors] = A·B, the heart of every product.
type Tile struct {
	Kind    Kind
	Bytes   int   // of a vector
	Heights []int // mr, the largest first
	Stream  []int // mr of the kernels for few rows
}

// Tiles is all families.
func Tiles() []Tile {
	avx2, avx512 := []int{6, 4, 2, 1}, []int{14, 8, 4, 2, 1}
	few2, few512 := []int{6, 5, 4, 3, 2, 1}, []int{14, 12, 10, 8, 6, 4, 3, 2, 1}
	return []Tile{{F32, 32, avx2, few2}, {Wide, 32, avx2, few2}, {F32, 64, avx512, few512}, {Wide, 64, avx512, few512}, {Dot, 64, avx512, few512}}
}

// Name is the kernel's for one height.
func (t Tile) Name(mr int) string {
	return name(t.Bytes, fmt.Sprintf("Tile%sx%d", [...]string{"F32", "Wide", "Dot"}[t.Kind], mr))
}

// Func is the kernel for one height. With 2·mr accumulators, 2 vectors of B and one of A in
// registers, a step is mr broadcasts and 2·mr multiply-adds.
func (t Tile) Func(mr int) *asm.Func { return t.program(mr, 1, false) }

// Twin is the kernel of one row and two panels of B: with one, each multiply-add would wait for the
// last. The second panel lies bs bytes behind the first, its tile cs bytes.
func (t Tile) Twin() *asm.Func { return t.program(1, 2, false) }

// TwinName is its name.
func (t Tile) TwinName() string { return t.Name(1) + "Twin" }

// StreamFunc is the kernel for few rows, where B comes from memory: it fetches step bytes at ahead
// with every group, so that the next block of B arrives while this one is multiplied, by however
// many tiles.
func (t Tile) StreamFunc(mr int) *asm.Func { return t.program(mr, 1, true) }

// StreamName is its name.
func (t Tile) StreamName(mr int) string {
	return name(t.Bytes, fmt.Sprintf("Stream%sx%d", [...]string{"F32", "Wide", "Dot"}[t.Kind], mr))
}

func (t Tile) program(mr, panels int, stream bool) *asm.Func {
	nv := 2 * panels
	nr := 2 * t.Bytes / 4
	doc := [...]string{
		"%s sets C [%d, %d] = Σₖ A[k]·B[k], or adds the sum to C with acc, for k = 0, 1, … in one fused\nmultiply-add each. a is [kc][%[2]d], b is [kc][%[3]d], c is contiguous.",
		"%s sets C [%d, %d] = Σₖ A[k]·B[k], or adds the sum to C with acc, for k = 0, 1, … < 2·kc in one\nfused multiply-add each. a is F32 [2·kc][%[2]d], b is BF16 [kc][%[3]d][2], c is contiguous.",
		"%s sets C [%d, %d] = Σₖ A[k]·B[k], or adds the sum to C with acc, for pairs of k = 0, 1, … < kc, by\nVDPBF16PS: the odd k of a pair before the even one. a is BF16 [kc][%[2]d][2], b is BF16\n[kc][%[3]d][2], c is contiguous.",
	}[t.Kind]
	f := asm.New(t.Name(mr), "kc int, a, b, c unsafe.Pointer, acc int", fmt.Sprintf(doc, t.Name(mr), mr, nr))
	if panels == 2 {
		f = asm.New(t.TwinName(), "kc int, a, b, c unsafe.Pointer, acc, bs, cs int",
			fmt.Sprintf(doc, t.TwinName(), mr, nr)+"\nIt does so for two panels: the second b lies bs bytes behind the first, the second c cs bytes.")
	}
	if stream {
		f = asm.New(t.StreamName(mr), "kc int, a, b, c unsafe.Pointer, acc int, ahead unsafe.Pointer, step int",
			fmt.Sprintf(doc, t.StreamName(mr), mr, nr)+"\nWith each group it fetches step bytes of memory, from ahead on, into the first cache.")
	}
	v := func(n int) asm.Vec { return asm.Vec{Bytes: t.Bytes, N: n} }
	sum := func(i, j int) asm.Vec { return v(i*nv + j) }
	bv := func(j int) asm.Vec { return v(mr*nv + j) }
	av := v(mr*nv + nv)
	high := v(mr*nv + nv + 1) // 0xffff0000

	f.Load("kc", asm.CX)
	f.Load("a", asm.AX)
	f.Load("b", asm.BX)
	f.Load("c", asm.DI)
	f.Load("acc", asm.R8)
	if panels == 2 {
		f.Load("bs", asm.R9)
		f.Load("cs", asm.R10)
	}
	if stream {
		f.Load("ahead", asm.R11)
		f.Load("step", asm.R12)
	}
	// place is vector v of a row: of the first panel, then of the second.
	place := func(base, index asm.Reg, row, v int) asm.Mem {
		m := asm.At(base, (row*2+v%2)*t.Bytes)
		if v >= 2 {
			m.Index, m.Scale = index, 1
		}
		return m
	}
	for i := range mr * nv {
		zero(f, v(i))
	}
	if mr > 4 && !stream { // many tiles: c has left the first cache since the last block of K
		for line := 0; line < mr*2*t.Bytes; line += 64 {
			f.Op("PREFETCHT0", asm.At(asm.DI, line))
		}
	}
	if t.Kind == Wide {
		ones(f, high)
		f.Op("VPSLLD", asm.Imm(16), high, high)
	}
	multiply := func(k int) { // row k of a by the vectors of b
		for i := range mr {
			f.Op("VBROADCASTSS", asm.At(asm.AX, (k*mr+i)*4), av)
			for j := range nv {
				if t.Kind == Dot {
					f.Op("VDPBF16PS", bv(j), av, sum(i, j))
				} else {
					f.Op("VFMADD231PS", bv(j), av, sum(i, j))
				}
			}
		}
	}
	step := func(u int) {
		at := func(j int) asm.Mem { return place(asm.BX, asm.R9, u, j) }
		switch {
		case stream:
			for line := 0; line < 2*t.Bytes; line += 64 {
				f.Op("PREFETCHT0", asm.At(asm.R11, line))
			}
			f.Op("ADDQ", asm.R12, asm.R11)
		case mr <= 4: // few rows: b comes from memory
			for p := range panels {
				ahead := at(2 * p)
				ahead.Disp += 1024
				f.Op("PREFETCHT0", ahead)
			}
		}
		if t.Kind != Wide {
			for j := range nv {
				f.Op("VMOVUPS", at(j), bv(j))
			}
			multiply(u)
			return
		}
		for j := range nv { // the even k of each pair
			if t.Bytes == 64 {
				f.Op("VPSLLD", asm.Imm(16), at(j), bv(j))
			} else {
				f.Op("VMOVUPS", at(j), bv(j))
				f.Op("VPSLLD", asm.Imm(16), bv(j), bv(j))
			}
		}
		multiply(2 * u)
		for j := range nv { // the odd k
			if t.Bytes == 64 {
				f.Op("VPANDD", at(j), high, bv(j))
			} else {
				f.Op("VANDPS", at(j), high, bv(j))
			}
		}
		multiply(2*u + 1)
	}
	unroll, aStep := 4, mr*4
	if t.Kind == Wide {
		unroll, aStep = 2, 2*mr*4
	}
	f.Op("MOVQ", asm.CX, asm.DX)
	f.Op("SHRQ", asm.Imm(map[int]int{2: 1, 4: 2}[unroll]), asm.DX)
	loop(f, "unrolled", asm.DX, func() {
		for u := range unroll {
			step(u)
		}
		f.Op("ADDQ", asm.Imm(unroll*aStep), asm.AX)
		f.Op("ADDQ", asm.Imm(unroll*2*t.Bytes), asm.BX)
	})
	f.Op("ANDQ", asm.Imm(unroll-1), asm.CX)
	loop(f, "rest", asm.CX, func() {
		step(0)
		f.Op("ADDQ", asm.Imm(aStep), asm.AX)
		f.Op("ADDQ", asm.Imm(2*t.Bytes), asm.BX)
	})
	f.Op("TESTQ", asm.R8, asm.R8)
	f.Jump("JEQ", "store")
	for i := range mr * nv {
		f.Op("VADDPS", place(asm.DI, asm.R10, i/nv, i%nv), v(i), v(i))
	}
	f.Label("store")
	for i := range mr * nv {
		f.Op("VMOVUPS", v(i), place(asm.DI, asm.R10, i/nv, i%nv))
	}
	f.Return()
	return f
}

// peaks are loops of nothing but multiply-adds: the measure of what the CPU can do.
func peaks() []*asm.Func {
	var all []*asm.Func
	for _, t := range []Tile{{Kind: F32, Bytes: 32}, {Kind: F32, Bytes: 64}, {Kind: Dot, Bytes: 64}} {
		sums, what, op := 12, "F32", "VFMADD231PS"
		if t.Bytes == 64 {
			sums = 24
		}
		if t.Kind == Dot {
			what, op = "BF16", "VDPBF16PS"
		}
		f := asm.New(name(t.Bytes, "Peak"+what), "n int", fmt.Sprintf("%s runs n times %d independent multiply-adds.", name(t.Bytes, "Peak"+what), sums))
		v := func(n int) asm.Vec { return asm.Vec{Bytes: t.Bytes, N: n} }
		f.Load("n", asm.CX)
		for i := range sums + 2 {
			zero(f, v(i))
		}
		loop(f, "again", asm.CX, func() {
			for i := range sums {
				f.Op(op, v(sums), v(sums+1), v(i))
			}
		})
		f.Return()
		all = append(all, f)
	}
	return all
}

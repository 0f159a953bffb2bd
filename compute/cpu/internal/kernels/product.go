package kernels

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute/cpu/internal/asm"
)

// Product is a family of AVX-512 kernels for the products of attention, whose operands lie in
// row-major tiles: C [mr, 16·vectors] = A·B. Each element is one chain of multiply-adds in the order
// of k, as in the AVX2 kernels of internal/vectorkernels: the bits are the same.
type Product struct {
	Transposed bool // A is [k, mr], else [mr, k]
	BF16       bool // B is BF16, widened on the way; else F32
}

// Products is all families.
func Products() []Product { return []Product{{}, {BF16: true}, {Transposed: true}} }

// ProductHeights are the rows mr that a kernel can take, the largest first.
func ProductHeights() []int { return []int{12, 4, 1} }

// Name is the kernel's for one height and for one or two vectors of columns.
func (p Product) Name(mr, vectors int) string {
	what, dt := "NN", "F32"
	if p.Transposed {
		what = "TN"
	}
	if p.BF16 {
		dt = "BF16"
	}
	return fmt.Sprintf("avx512Mul%s%sx%dx%d", what, dt, mr, vectors)
}

// Func is that kernel. Leading dimensions are bytes.
func (p Product) Func(mr, vectors int) *asm.Func {
	n := p.Name(mr, vectors)
	f := asm.New(n, "k int, a unsafe.Pointer, lda int, b unsafe.Pointer, ldb int, c unsafe.Pointer, ldc, acc int",
		fmt.Sprintf("%s adds A·B to C [%d, %d], or sets C to it where acc is 0, for k > 0 in order, in one fused\nmultiply-add each.", n, mr, 16*vectors))
	sum := func(i, j int) asm.Vec { return asm.Z(i*vectors + j) }
	bv := func(j int) asm.Vec { return asm.Z(24 + j) }
	av := func(i int) asm.Vec { return asm.Z(26 + i%4) }

	f.Load("k", asm.CX)
	f.Load("a", asm.AX)
	f.Load("lda", asm.R9)
	f.Load("b", asm.BX)
	f.Load("ldb", asm.SI)
	f.Load("ldc", asm.DX)
	f.Load("acc", asm.R13)
	// Rows of an A that is not transposed: three from each base.
	bases := []asm.Reg{asm.AX}
	if !p.Transposed {
		bases = []asm.Reg{asm.AX, asm.R8, asm.R10, asm.R11}[:(mr+2)/3]
	}
	for i := 1; i < len(bases); i++ {
		f.Op("MOVQ", bases[i-1], bases[i])
		for range 3 {
			f.Op("ADDQ", asm.R9, bases[i])
		}
	}
	element := func(i int) asm.Mem {
		if p.Transposed {
			return asm.At(asm.AX, 4*i)
		}
		m := asm.At(bases[i/3], 0)
		if i%3 > 0 {
			m.Index, m.Scale = asm.R9, i%3
		}
		return m
	}
	eachRow := func(row func(i int)) {
		f.Load("c", asm.DI)
		for i := range mr {
			row(i)
			if i < mr-1 {
				f.Op("ADDQ", asm.DX, asm.DI)
			}
		}
	}

	f.Op("TESTQ", asm.R13, asm.R13)
	f.Jump("JEQ", "zero")
	eachRow(func(i int) {
		for j := range vectors {
			f.Op("VMOVUPS", asm.At(asm.DI, 64*j), sum(i, j))
		}
	})
	f.Jump("JMP", "start")
	f.Label("zero")
	for i := range mr * vectors {
		zero(f, asm.Z(i))
	}
	f.Label("start")
	loop(f, "depth", asm.CX, func() {
		for j := range vectors {
			if p.BF16 {
				f.Op("VPMOVZXWD", asm.At(asm.BX, 32*j), bv(j))
				f.Op("VPSLLD", asm.Imm(16), bv(j), bv(j))
			} else {
				f.Op("VMOVUPS", asm.At(asm.BX, 64*j), bv(j))
			}
		}
		for i := range mr {
			f.Op("VBROADCASTSS", element(i), av(i))
			for j := range vectors {
				f.Op("VFMADD231PS", bv(j), av(i), sum(i, j))
			}
		}
		if p.Transposed {
			f.Op("ADDQ", asm.R9, asm.AX)
		} else {
			for _, r := range bases {
				f.Op("ADDQ", asm.Imm(4), r)
			}
		}
		f.Op("ADDQ", asm.SI, asm.BX)
	})
	eachRow(func(i int) {
		for j := range vectors {
			f.Op("VMOVUPS", sum(i, j), asm.At(asm.DI, 64*j))
		}
	})
	f.Return()
	return f
}

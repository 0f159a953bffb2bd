package kernels

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute/cpu/internal/asm"
)

const rowsParams = "n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds int, w8 int"

// rows are the kernels that move rows: for packing and for storing tiles.
func rows() []*asm.Func {
	all := []*asm.Func{copyRows(), widenRows(), narrowRows(), pairRows(), axpyRows()}
	for _, r := range []int{8, 6, 4, 2} {
		all = append(all, transpose(r))
	}
	return all
}

func copyRows() *asm.Func {
	f := asm.New("avx2CopyRows", rowsParams, "avx2CopyRows copies n rows of 8·w8 dwords.")
	return eachRow(f, 1, 32, 32, func() {
		f.Op("VMOVUPS", asm.At(asm.R9, 0), asm.Y(0))
		f.Op("VMOVUPS", asm.Y(0), asm.At(asm.R10, 0))
	})
}

func widenRows() *asm.Func {
	f := asm.New("avx2WidenRows", rowsParams, "avx2WidenRows copies n rows of 8·w8 elements from BF16 to F32.")
	return eachRow(f, 1, 16, 32, func() {
		f.Op("VPMOVZXWD", asm.At(asm.R9, 0), asm.Y(0))
		f.Op("VPSLLD", asm.Imm(16), asm.Y(0), asm.Y(0))
		f.Op("VMOVUPS", asm.Y(0), asm.At(asm.R10, 0))
	})
}

func narrowRows() *asm.Func {
	f := asm.New("avx2NarrowRows", rowsParams, "avx2NarrowRows copies n rows of 8·w8 elements from F32 to BF16, rounded to nearest even, as\ncompute.BF16FromF32 does.")
	x, low, quiet, nan, bias, one, r := asm.Y(0), asm.Y(1), asm.Y(2), asm.Y(3), asm.Y(4), asm.Y(5), asm.Y(6)
	ones(f, one)
	f.Op("VPSRLD", asm.Imm(17), one, bias) // 0x7fff
	f.Op("VPSRLD", asm.Imm(31), one, one)  // 1
	f.Op("VPSLLD", asm.Imm(6), one, quiet) // 0x40
	return eachRow(f, 1, 32, 16, func() {
		f.Op("VMOVUPS", asm.At(asm.R9, 0), x)
		f.Op("VPSRLD", asm.Imm(16), x, low)
		f.Op("VPAND", one, low, r)
		f.Op("VPADDD", bias, r, r)
		f.Op("VPADDD", x, r, r)
		f.Op("VPSRLD", asm.Imm(16), r, r)
		f.Op("VPOR", quiet, low, low)
		f.Op("VCMPPS", asm.Imm(3), x, x, nan)
		f.Op("VBLENDVPS", nan, low, r, r)
		f.Op("VPACKUSDW", r, r, r)
		f.Op("VPERMQ", asm.Imm(8), r, r)
		f.Op("VMOVDQU", asm.X(6), asm.At(asm.R10, 0))
	})
}

func pairRows() *asm.Func {
	f := asm.New("avx2PairRows", rowsParams, "avx2PairRows makes n rows of 8·w8 dwords from 2·n rows of BF16: element j of row 2i below, of row\n2i+1 above.")
	return eachRow(f, 2, 16, 32, func() {
		f.Op("VPMOVZXWD", asm.At(asm.R9, 0), asm.Y(0))
		f.Op("VPMOVZXWD", asm.Mem{Base: asm.R9, Index: asm.SI, Scale: 1}, asm.Y(1))
		f.Op("VPSLLD", asm.Imm(16), asm.Y(1), asm.Y(1))
		f.Op("VPOR", asm.Y(0), asm.Y(1), asm.Y(0))
		f.Op("VMOVUPS", asm.Y(0), asm.At(asm.R10, 0))
	})
}

func axpyRows() *asm.Func {
	f := asm.New("avx2AxpyRows", rowsParams+", alpha float32", "avx2AxpyRows adds alpha·src to dst, n rows of 8·w8 F32: the product is rounded, then the sum.")
	f.Op("VBROADCASTSS", f.Param("alpha"), asm.Y(1))
	return eachRow(f, 1, 32, 32, func() {
		f.Op("VMULPS", asm.At(asm.R9, 0), asm.Y(1), asm.Y(0))
		f.Op("VADDPS", asm.At(asm.R10, 0), asm.Y(0), asm.Y(0))
		f.Op("VMOVUPS", asm.Y(0), asm.At(asm.R10, 0))
	})
}

// transpose is the kernel that packs rows of dwords, 8 columns at a time.
func transpose(rows int) *asm.Func {
	n := fmt.Sprintf("avx2Transpose%d", rows)
	doc := fmt.Sprintf("%s writes column k < 8·n of %d rows of dwords, row stride ss, to dst + k·ds, in the order\nof k.", n, rows)
	if rows < 8 {
		doc += fmt.Sprintf(" It writes 8 dwords for each k, the last %d of them 0: columns that lie closer are\noverwritten by the next, and the memory behind the last one is too.", 8-rows)
	}
	f := asm.New(n, "n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds int", doc)
	f.Load("n", asm.CX)
	f.Load("src", asm.AX)
	f.Load("ss", asm.SI)
	f.Load("dst", asm.DI)
	f.Load("ds", asm.DX)
	y := asm.Y
	loop(f, "blocks", asm.CX, func() {
		f.Op("MOVQ", asm.AX, asm.BX)
		for r := range 8 {
			if r >= rows {
				zero(f, y(r))
				continue
			}
			f.Op("VMOVUPS", asm.At(asm.BX, 0), y(r))
			if r < rows-1 {
				f.Op("ADDQ", asm.SI, asm.BX)
			}
		}
		for p := range 4 { // pairs of rows
			f.Op("VUNPCKLPS", y(2*p+1), y(2*p), y(8+2*p))
			f.Op("VUNPCKHPS", y(2*p+1), y(2*p), y(9+2*p))
		}
		for q := range 2 { // fours of rows: y(4q+c) has column c in both lanes
			for h := range 2 {
				lo, hi := y(8+4*q+h), y(10+4*q+h)
				f.Op("VSHUFPS", asm.Imm(0x44), hi, lo, y(4*q+2*h))
				f.Op("VSHUFPS", asm.Imm(0xee), hi, lo, y(4*q+2*h+1))
			}
		}
		for lane := range 2 {
			for c := range 4 {
				f.Op("VPERM2F128", asm.Imm(0x20+0x11*lane), y(4+c), y(c), y(8))
				f.Op("VMOVUPS", y(8), asm.At(asm.DI, 0))
				f.Op("ADDQ", asm.DX, asm.DI)
			}
		}
		f.Op("ADDQ", asm.Imm(32), asm.AX)
	})
	f.Return()
	return f
}

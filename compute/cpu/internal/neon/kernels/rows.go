package kernels

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute/cpu/internal/neon"
)

const rowsParams = "n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds int, w8 int"

// rows are the kernels that move rows: for packing and for storing tiles.
func rows() []*neon.Func {
	all := []*neon.Func{copyRows(), widenRows(), narrowRows(), pairRows(), axpyRows()}
	for _, n := range []int{8, 6, 4, 2} {
		all = append(all, transposeRows(n))
	}
	return all
}

// Registers of row kernels.
const (
	rowsN r = iota
	rowsSrc
	rowsSS
	rowsDst
	rowsDS
	rowsW8
	rowFrom // within a row
	rowTo
	rowLeft
	rowNext // the row behind it, for pairs
)

// eachRow writes the frame of a kernel over n rows of w8 times 8 elements, strides in bytes. body
// works on 8 elements at rowFrom and rowTo and moves both on.
func eachRow(f *neon.Func, srcRows int, body func()) *neon.Func {
	for i, name := range []string{"n", "src", "ss", "dst", "ds", "w8"} {
		f.Arg(name, rowsN+r(i))
	}
	f.Loop("rows", rowsN, func() {
		f.Go("MOVD %v, %v\nMOVD %v, %v\nMOVD %v, %v", rowsSrc, rowFrom, rowsDst, rowTo, rowsW8, rowLeft)
		if srcRows == 2 {
			f.Go("ADD %v, %v, %v", rowsSS, rowsSrc, rowNext)
		}
		f.Loop("columns", rowLeft, body)
		for range srcRows {
			f.Go("ADD %v, %v", rowsSS, rowsSrc)
		}
		f.Go("ADD %v, %v", rowsDS, rowsDst)
	})
	return f
}

func copyRows() *neon.Func {
	f := neon.New("neonCopyRows", rowsParams, "", "neonCopyRows copies n rows of 8·w8 dwords.")
	return eachRow(f, 1, func() {
		f.LoadPairNext(0, 1, rowFrom)
		f.StorePairNext(0, 1, rowTo)
	})
}

func widenRows() *neon.Func {
	f := neon.New("neonWidenRows", rowsParams, "", "neonWidenRows copies n rows of 8·w8 elements from BF16 to F32.")
	return eachRow(f, 1, func() {
		f.LoadNext(16, 1, rowFrom)
		f.Widen(0, 1, 1)
		f.StorePairNext(0, 1, rowTo)
	})
}

func narrowRows() *neon.Func {
	f := neon.New("neonNarrowRows", rowsParams, "", "neonNarrowRows copies n rows of 8·w8 elements from F32 to BF16, rounded to nearest even, as\ncompute.BF16FromF32 does.")
	return eachRow(f, 1, func() {
		f.LoadPairNext(0, 1, rowFrom)
		roundBF16(f, pairAt(0), pairAt(2), 4)
		f.StoreNext(16, 2, rowTo)
	})
}

func pairRows() *neon.Func {
	f := neon.New("neonPairRows", rowsParams, "", "neonPairRows makes n rows of 8·w8 dwords from 2·n rows of BF16: element j of row 2i below, of row\n2i+1 above.")
	return eachRow(f, 2, func() {
		f.LoadNext(16, 0, rowFrom)
		f.LoadNext(16, 1, rowNext)
		f.Three("zip1", 2, 0, 1)
		f.Three("zip2", 3, 0, 1)
		f.StorePairNext(2, 3, rowTo)
	})
}

func axpyRows() *neon.Func {
	f := neon.New("neonAxpyRows", rowsParams+", alpha float32", "", "neonAxpyRows adds alpha·src to dst, n rows of 8·w8 F32: the product is rounded, then the sum.")
	f.Scalar("alpha", 4)
	return eachRow(f, 1, func() {
		f.LoadPairNext(0, 1, rowFrom)
		loadPair(f, pairAt(2), rowTo, 0)
		three(f, "fmul", pairAt(0), pairAt(0), both(4))
		three(f, "fadd", pairAt(2), pairAt(2), pairAt(0))
		f.StorePairNext(2, 3, rowTo)
	})
}

// transposeRows is the kernel that packs rows of dwords, 8 columns at a time.
func transposeRows(n int) *neon.Func {
	name := fmt.Sprintf("neonTranspose%d", n)
	f := neon.New(name, "n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds int", "",
		fmt.Sprintf("%s writes column k < 8·n of %d rows of dwords, row stride ss, to dst + k·ds, in the order\nof k.", name, n))
	for i, name := range []string{"n", "src", "ss", "dst", "ds"} {
		f.Arg(name, rowsN+r(i))
	}
	f.Loop("blocks", rowsN, func() {
		f.Go("MOVD %v, %v", rowsSrc, rowFrom)
		for i := range n {
			f.LoadPair(v(i), v(8+i), rowFrom, 0)
			if i < n-1 {
				f.Go("ADD %v, %v", rowsSS, rowFrom)
			}
		}
		for half := range v(2) {
			for four := v(0); four < 8 && int(four) < n; four += 4 {
				transpose4(f, 8*half+four, 16+four) // leaves row c of the result at 16+four+c
			}
			for c := range v(4) {
				switch n {
				case 8:
					f.StorePair(16+c, 20+c, rowsDst, 0)
				case 6:
					f.Store(16, 16+c, rowsDst, 0)
					f.Store(8, 20+c, rowsDst, 16)
				case 4:
					f.Store(16, 16+c, rowsDst, 0)
				case 2:
					f.Store(8, 16+c, rowsDst, 0)
				}
				f.Go("ADD %v, %v", rowsDS, rowsDst)
			}
		}
		f.Go("ADD $32, %v", rowsSrc)
	})
	return f
}

// transpose4 writes the columns of the four registers from x on, as four dwords each, to those from d
// on. It uses V24 to V27. Registers of rows that are not there may hold anything.
func transpose4(f *neon.Func, x, d v) {
	const t = v(24)
	f.Three("trn1s", t, x, x+1) // 00 10 02 12
	f.Three("trn2s", t+1, x, x+1)
	f.Three("trn1s", t+2, x+2, x+3)
	f.Three("trn2s", t+3, x+2, x+3)
	f.Three("trn1d", d, t, t+2)
	f.Three("trn1d", d+1, t+1, t+3)
	f.Three("trn2d", d+2, t, t+2)
	f.Three("trn2d", d+3, t+1, t+3)
}

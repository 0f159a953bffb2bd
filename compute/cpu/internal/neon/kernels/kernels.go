// Package kernels holds the programs of compute/cpu's arm64 assembly: what each kernel does,
// instruction by instruction. Command gen prints them.
//
// They have the shapes of the AVX2 kernels (internal/kernels, internal/vectorkernels), so that
// everything above them is the same: tiles of 6 by 16, eight elements a step in elementwise kernels,
// here in a pair of registers. A kernel's documentation says what it computes, and the order of every
// sum in it is part of that.
package kernels

import "github.com/seed-8780d58e/spin/compute/cpu/internal/neon"

// Short names for registers: integer code is written with them in Go's syntax, by %v.
type (
	v = neon.V
	r = neon.R
)

// GEMM is the kernels of matrix products.
func GEMM() []*neon.Func {
	var all []*neon.Func
	for _, k := range []Kind{F32, Wide} {
		for _, mr := range Heights {
			all = append(all, Tile(k, mr))
		}
		all = append(all, Twin(k))
	}
	all = append(all, rows()...)
	all = append(all, head()...)
	all = append(all, optimizers()...)
	return append(all, peak())
}

// Vector is the kernels of elementwise operations, norms, attention and sampling.
func Vector() []*neon.Func {
	var all []*neon.Func
	for _, k := range rowKernels {
		all = append(all, k.program(f32))
		if k.takesAct() {
			all = append(all, k.program(bf16))
		}
	}
	return append(all, maximum(), above(),
		product("neonMulNNF32", false, f32), product("neonMulNNBF16", false, bf16), product("neonMulTN", true, f32),
		transposeBlocks(f32), transposeBlocks(bf16), softmaxBlock(), gradBlock())
}

// pair is eight F32: the lower four, the upper four.
type pair [2]v

// pairAt is the pair of registers n and n+1.
func pairAt(n v) pair { return pair{n, n + 1} }

// three appends op d, n, m for both halves.
func three(f *neon.Func, op string, d, n, m pair) {
	for h := range d {
		f.Three(op, d[h], n[h], m[h])
	}
}

// both is the pair of a register that holds one value in all lanes.
func both(x v) pair { return pair{x, x} }

func loadPair(f *neon.Func, d pair, base r, off int)  { f.LoadPair(d[0], d[1], base, off) }
func storePair(f *neon.Func, d pair, base r, off int) { f.StorePair(d[0], d[1], base, off) }

// roundBF16 leaves eight BF16 in u[0], rounded to nearest even as compute.BF16FromF32 does: a NaN
// keeps its upper half and becomes a quiet one. It destroys x, u and t.
func roundBF16(f *neon.Func, x, u pair, t v) {
	for h := range x {
		f.LowOnes(u[h], 0x7f) // half of the last bit, less one, and one more where that bit is set
		f.Shift("shl", t, x[h], 15)
		f.Shift("usra", u[h], t, 31)
		f.Three("add", u[h], u[h], x[h])
		f.Three("fcmeq", t, x[h], x[h])
		f.OrHigh(x[h], 0x40)
		f.Three("bif", u[h], x[h], t)
	}
	f.Three("uzp2", u[0], u[0], u[1])
}

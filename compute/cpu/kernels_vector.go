package cpu

import "unsafe"

// vectorKernels are the kernels of elementwise operations, norms, attention and sampling. Fields
// that are pairs hold the kernel for F32 and for BF16 activations, in the order of compute.DType;
// x, w, cos, … of F32 whatever the activations are. Leading dimensions (ld) and strides are in
// bytes, n counts elements of a row and may be any number.
//
// A kernel's result for an element depends on the operands of that element alone; a sum over a row
// runs in an order that depends on n alone.
type vectorKernels struct {
	// addSumSquares sets x += delta and returns Σ x².
	addSumSquares [2]func(n int, x, delta unsafe.Pointer) float32
	// sumSquares returns Σ x².
	sumSquares func(n int, x unsafe.Pointer) float32

	// normApply sets y = (x·rstd)·w.
	normApply [2]func(n int, y, x, w unsafe.Pointer, rstd float32)
	// normDot returns Σ (dy·w)·x.
	normDot [2]func(n int, dy, w, x unsafe.Pointer) float32
	// normGrad sets dx += a·(dy·w) + b·x.
	normGrad [2]func(n int, dx, dy, w, x unsafe.Pointer, a, b float32)
	// normWeightGrad sets dw += (dy·x)·rstd.
	normWeightGrad [2]func(n int, dw, dy, x unsafe.Pointer, rstd float32)

	// rotate sets lo, hi = lo·cos − hi·sin, hi·cos + lo·sin, with sin·sign for sin.
	rotate [2]func(n int, lo, hi, cos, sin unsafe.Pointer, sign float32)
	// swiglu sets y = (gate·σ(gate))·up.
	swiglu [2]func(n int, y, gate, up unsafe.Pointer)
	// swigluGrad sets dup = dy·(g·σ) and dgate = dy·up·(σ + g·σ·(1−σ)), with σ = σ(gate).
	swigluGrad [2]func(n int, dgate, dup, dy, gate, up unsafe.Pointer)

	// add sets y += x, y being an activation.
	add [2]func(n int, y, x unsafe.Pointer)
	// accumulate sets y += x, x being an activation.
	accumulate [2]func(n int, y, x unsafe.Pointer)
	// scale sets x = x·a.
	scale func(n int, x unsafe.Pointer, a float32)
	// widenRows copies rows > 0 rows of activations to F32.
	widenRows [2]func(rows, n int, dst unsafe.Pointer, dstStride int, src unsafe.Pointer, srcStride int)
	// narrow stores src·scale + 0 as activations: −0 becomes +0.
	narrow [2]func(n int, dst, src unsafe.Pointer, scale float32)

	// maximum returns the largest x, or NaN where there is one.
	maximum func(n int, x unsafe.Pointer) float32
	// expSum sets e = exp((z − top)/temperature) and returns Σ e.
	expSum func(n int, e, z unsafe.Pointer, top, temperature float32) float32

	// sumAbove returns Σ w over the elements x ≥ cut.
	sumAbove func(n int, w, x unsafe.Pointer, cut float32) float32
	// above writes i + first of each x[i] ≥ cut to index, in order, and returns their number. n is a
	// multiple of 8.
	above func(n int, x unsafe.Pointer, cut float32, first int32, index unsafe.Pointer) int

	// mulNN and mulTN multiply tiles of F32; the pair is for B's dtype.
	mulNN [2]product
	mulTN product
	// transpose sets dst[c][r] = src[r][c], widened, for 8·rows8 rows and 8·cols8 columns, both > 0.
	transpose [2]func(rows8, cols8 int, dst unsafe.Pointer, ldd int, src unsafe.Pointer, lds int)
	// softmaxBlock turns a block of scores [rows, 8·vectors], row by row, into
	// exp(scale·score − top), 0 outside [from, to), and brings top, sum and alpha up to date; scale > 0.
	softmaxBlock func(rows, vectors int, s unsafe.Pointer, lds int, state *softmaxRow, scale float32)
	// gradBlock turns scores s into p = exp(scale·s − lse) and dp into p·(dp − d)·scale, both 0
	// outside [from, to).
	gradBlock func(rows, vectors int, s, dp unsafe.Pointer, lds int, state *softmaxRow, scale float32)
}

// product sets C [rows, 16·panels] = A·B, or adds to it where acc is 1. B is [k, 16·panels], A
// [rows, k], or [k, rows] for mulTN; k > 0. Each element of C is one chain of multiply-adds in the
// order of k, that begins at 0 or, with acc, at its old value: cutting rows, columns or k changes no
// bit.
type product func(rows, panels, k int, a unsafe.Pointer, lda int, b unsafe.Pointer, ldb int, c unsafe.Pointer, ldc, acc int)

// softmaxRow is one row of scores while blocks of keys go by. The assembly knows its layout.
type softmaxRow struct {
	from, to int32   // the keys of this block that the row sees
	top      float32 // the largest scaled score until now
	sum      float32 // Σ exp(score − top)
	alpha    float32 // exp(old top − top), for what was summed before this block
	lse, d   float32 // backward: log-sum-exp of the whole row, and dy·y
	_        float32
}

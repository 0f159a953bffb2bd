package cpu

import (
	"math"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// The portable vector kernels; see vectorKernels. Sums over a row are taken in float64.
func portableVector() vectorKernels {
	return vectorKernels{
		addSumSquares:  [2]func(int, unsafe.Pointer, unsafe.Pointer) float32{addSumSquares[float32], addSumSquares[uint16]},
		sumSquares:     sumSquares,
		normApply:      [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, float32){normApply[float32], normApply[uint16]},
		normDot:        [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer) float32{normDot[float32], normDot[uint16]},
		normGrad:       [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, float32, float32){normGrad[float32], normGrad[uint16]},
		normWeightGrad: [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, float32){normWeightGrad[float32], normWeightGrad[uint16]},
		rotate:         [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, float32){rotate[float32], rotate[uint16]},
		swiglu:         [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer){swiglu[float32], swiglu[uint16]},
		swigluGrad:     [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer){swigluGrad[float32], swigluGrad[uint16]},
		add:            [2]func(int, unsafe.Pointer, unsafe.Pointer){addTo[float32, float32], addTo[uint16, float32]},
		accumulate:     [2]func(int, unsafe.Pointer, unsafe.Pointer){addTo[float32, float32], addTo[float32, uint16]},
		scale:          scaleBy,
		widenRows:      [2]func(int, int, unsafe.Pointer, int, unsafe.Pointer, int){widenRows[float32], widenRows[uint16]},
		narrow:         [2]func(int, unsafe.Pointer, unsafe.Pointer, float32){narrow[float32], narrow[uint16]},
		maximum:        maximum,
		expSum:         expSum,
		sumAbove:       sumAbove,
		above:          above,
		mulNN:          [2]product{mulNN[float32], mulNN[uint16]},
		mulTN:          mulTN,
		transpose:      [2]func(int, int, unsafe.Pointer, int, unsafe.Pointer, int){transpose[float32], transpose[uint16]},
		softmaxBlock:   softmaxBlock,
		gradBlock:      gradBlock,
	}
}

// float is a stored element: F32, or BF16 as its bits.
type float interface{ float32 | uint16 }

func wide[T float](x T) float32 {
	if unsafe.Sizeof(x) == 2 {
		return compute.F32FromBF16(*(*uint16)(unsafe.Pointer(&x)))
	}
	return *(*float32)(unsafe.Pointer(&x))
}

func rounded[T float](f float32) (x T) {
	if unsafe.Sizeof(x) == 2 {
		*(*uint16)(unsafe.Pointer(&x)) = compute.BF16FromF32(f)
	} else {
		*(*float32)(unsafe.Pointer(&x)) = f
	}
	return x
}

func elements[T float | int32](p unsafe.Pointer, n int) []T { return unsafe.Slice((*T)(p), n) }

// exp is 0 below −87, as the assembly's is.
func exp(x float32) float32 {
	if x < -87 {
		return 0
	}
	return float32(math.Exp(float64(x)))
}

func addSumSquares[T float](n int, x, delta unsafe.Pointer) float32 {
	addTo[float32, T](n, x, delta)
	return sumSquares(n, x)
}

func sumSquares(n int, x unsafe.Pointer) float32 {
	var sum float64
	for _, x := range elements[float32](x, n) {
		sum += float64(x) * float64(x)
	}
	return float32(sum)
}

func normApply[T float](n int, y, x, w unsafe.Pointer, rstd float32) {
	ys, ws := elements[T](y, n), elements[float32](w, n)
	for i, x := range elements[float32](x, n) {
		ys[i] = rounded[T](x * rstd * ws[i])
	}
}

func normDot[T float](n int, dy, w, x unsafe.Pointer) float32 {
	var sum float64
	ws, xs := elements[float32](w, n), elements[float32](x, n)
	for i, dy := range elements[T](dy, n) {
		sum += float64(wide(dy)*ws[i]) * float64(xs[i])
	}
	return float32(sum)
}

func normGrad[T float](n int, dx, dy, w, x unsafe.Pointer, a, b float32) {
	dys, ws, xs := elements[T](dy, n), elements[float32](w, n), elements[float32](x, n)
	dxs := elements[float32](dx, n)
	for i := range dxs {
		dxs[i] += a*(wide(dys[i])*ws[i]) + b*xs[i]
	}
}

func normWeightGrad[T float](n int, dw, dy, x unsafe.Pointer, rstd float32) {
	dws, xs := elements[float32](dw, n), elements[float32](x, n)
	for i, dy := range elements[T](dy, n) {
		dws[i] += wide(dy) * xs[i] * rstd
	}
}

func rotate[T float](n int, lo, hi, cos, sin unsafe.Pointer, sign float32) {
	los, his, sins := elements[T](lo, n), elements[T](hi, n), elements[float32](sin, n)
	for i, c := range elements[float32](cos, n) {
		l, h, s := wide(los[i]), wide(his[i]), sins[i]*sign
		los[i], his[i] = rounded[T](l*c-h*s), rounded[T](h*c+l*s)
	}
}

func sigmoid(x float32) float32 { return 1 / (1 + exp(-x)) }

func swiglu[T float](n int, y, gate, up unsafe.Pointer) {
	ys, us := elements[T](y, n), elements[T](up, n)
	for i, g := range elements[T](gate, n) {
		g := wide(g)
		ys[i] = rounded[T](g * sigmoid(g) * wide(us[i]))
	}
}

func swigluGrad[T float](n int, dgate, dup, dy, gate, up unsafe.Pointer) {
	dgs, dus, gs, us := elements[T](dgate, n), elements[T](dup, n), elements[T](gate, n), elements[T](up, n)
	for i, dy := range elements[T](dy, n) {
		d, g, u := wide(dy), wide(gs[i]), wide(us[i])
		s := sigmoid(g)
		dgs[i], dus[i] = rounded[T](d*u*(s+g*s*(1-s))), rounded[T](d*(g*s))
	}
}

func addTo[Y, X float](n int, y, x unsafe.Pointer) {
	ys := elements[Y](y, n)
	for i, x := range elements[X](x, n) {
		ys[i] = rounded[Y](wide(ys[i]) + wide(x))
	}
}

func scaleBy(n int, x unsafe.Pointer, a float32) {
	xs := elements[float32](x, n)
	for i := range xs {
		xs[i] *= a
	}
}

func widenRows[T float](rows, n int, dst unsafe.Pointer, dstStride int, src unsafe.Pointer, srcStride int) {
	for r := range rows {
		to := elements[float32](unsafe.Add(dst, r*dstStride), n)
		for i, x := range elements[T](unsafe.Add(src, r*srcStride), n) {
			to[i] = wide(x)
		}
	}
}

func narrow[T float](n int, dst, src unsafe.Pointer, scale float32) {
	to := elements[T](dst, n)
	for i, x := range elements[float32](src, n) {
		to[i] = rounded[T](x*scale + 0)
	}
}

func maximum(n int, x unsafe.Pointer) float32 {
	top := float32(math.Inf(-1))
	for _, x := range elements[float32](x, n) {
		top = max(top, x)
	}
	return top
}

func expSum(n int, e, z unsafe.Pointer, top, temperature float32) float32 {
	var sum float64
	es := elements[float32](e, n)
	for i, z := range elements[float32](z, n) {
		es[i] = exp((z - top) / temperature)
		sum += float64(es[i])
	}
	return float32(sum)
}

func sumAbove(n int, w, x unsafe.Pointer, cut float32) float32 {
	var sum float64
	ws := elements[float32](w, n)
	for i, x := range elements[float32](x, n) {
		if x >= cut {
			sum += float64(ws[i])
		}
	}
	return float32(sum)
}

func above(n int, x unsafe.Pointer, cut float32, first int32, index unsafe.Pointer) int {
	found, to := 0, elements[int32](index, n)
	for i, x := range elements[float32](x, n) {
		if x >= cut {
			to[found] = first + int32(i)
			found++
		}
	}
	return found
}

func mulNN[T float](rows, panels, k int, a unsafe.Pointer, lda int, b unsafe.Pointer, ldb int, c unsafe.Pointer, ldc, acc int) {
	for r := range rows {
		mulRow[T](panels, k, unsafe.Add(a, r*lda), 4, b, ldb, unsafe.Add(c, r*ldc), acc)
	}
}

func mulTN(rows, panels, k int, a unsafe.Pointer, lda int, b unsafe.Pointer, ldb int, c unsafe.Pointer, ldc, acc int) {
	for r := range rows {
		mulRow[float32](panels, k, unsafe.Add(a, 4*r), lda, b, ldb, unsafe.Add(c, r*ldc), acc)
	}
}

// mulRow is one row of C; A's elements lie step bytes apart.
func mulRow[T float](panels, k int, a unsafe.Pointer, step int, b unsafe.Pointer, ldb int, c unsafe.Pointer, acc int) {
	cs := elements[float32](c, 16*panels)
	if acc == 0 {
		clear(cs)
	}
	for p := range k {
		x := *(*float32)(unsafe.Add(a, p*step))
		for j, y := range elements[T](unsafe.Add(b, p*ldb), len(cs)) {
			cs[j] += x * wide(y)
		}
	}
}

func transpose[T float](rows8, cols8 int, dst unsafe.Pointer, ldd int, src unsafe.Pointer, lds int) {
	for r := range 8 * rows8 {
		for c, x := range elements[T](unsafe.Add(src, r*lds), 8*cols8) {
			*(*float32)(unsafe.Add(dst, c*ldd+4*r)) = wide(x)
		}
	}
}

func softmaxBlock(rows, vectors int, s unsafe.Pointer, lds int, state *softmaxRow, scale float32) {
	states := unsafe.Slice(state, rows)
	for r := range states {
		st, row := &states[r], elements[float32](unsafe.Add(s, r*lds), 8*vectors)
		if st.from >= st.to {
			st.alpha = 1
			clear(row)
			continue
		}
		seen, top := row[st.from:st.to], st.top
		for _, x := range seen {
			top = max(top, x*scale)
		}
		var sum float64
		for i, x := range seen {
			seen[i] = exp(float32(float64(x)*float64(scale) - float64(top)))
			sum += float64(seen[i])
		}
		clear(row[:st.from])
		clear(row[st.to:])
		st.alpha, st.top = exp(st.top-top), top
		st.sum = st.sum*st.alpha + float32(sum)
	}
}

func gradBlock(rows, vectors int, s, dp unsafe.Pointer, lds int, state *softmaxRow, scale float32) {
	for r, st := range unsafe.Slice(state, rows) {
		ps, ds := elements[float32](unsafe.Add(s, r*lds), 8*vectors), elements[float32](unsafe.Add(dp, r*lds), 8*vectors)
		for i := range ps {
			if int32(i) < st.from || int32(i) >= st.to {
				ps[i], ds[i] = 0, 0
				continue
			}
			ps[i] = exp(float32(float64(ps[i])*float64(scale) - float64(st.lse)))
			ds[i] = (ds[i] - st.d) * ps[i] * scale
		}
	}
}

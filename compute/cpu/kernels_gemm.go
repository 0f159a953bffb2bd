package cpu

import (
	"math"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// maxMR is the tallest tile of any instruction set.
const maxMR = 14

// tileKernel computes C [mr, nr] = A·B, or adds A·B to C with acc ≠ 0, over kc groups: see
// internal/kernels for the order of the sum. A group is one k of F32 panels and a pair of k of BF16
// panels.
type tileKernel func(kc int, a, b, c unsafe.Pointer, acc int)

// twinKernel is a tileKernel of one row and two panels of B, the second bs bytes behind the first,
// its tile cs bytes.
type twinKernel func(kc int, a, b, c unsafe.Pointer, acc, bs, cs int)

// rowsKernel moves n rows of 8·w8 elements; strides ss and ds are bytes.
type rowsKernel func(n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds, w8 int)

// tiles is a family of tile kernels.
type tiles struct {
	of   [maxMR + 1]tileKernel // by mr
	twin twinKernel            // nil: a row takes one panel at a time
}

// gemmKernels are the kernels of matrix products, and the shape of their tiles.
type gemmKernels struct {
	nr       int   // columns of a tile, and of a panel of B: a multiple of 8
	heights  []int // the rows mr that tiles can have, the largest first, 1 the last
	itemRows int   // rows of an item, about: its A stays in the second cache while panels of B go by
	blockF   int   // groups of a K block of F32 products
	blockB   int   // and of those with BF16 panels
	pairs    bool  // products of BF16 by BF16 take A in pairs

	f32  tiles // A F32, B F32
	wide tiles // A F32, B pairs of BF16
	dot  tiles // A and B pairs of BF16; only with pairs

	streams [3]streamTiles // of few rows, for f32, wide and dot; none: nil

	copyRows   rowsKernel // dwords
	widenRows  rowsKernel // BF16 to F32
	narrowRows rowsKernel // F32 to BF16
	pairRows   rowsKernel // 2n rows of BF16 to n rows of pairs
	axpyRows   func(n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds, w8 int, alpha float32)
	transpose  [9]func(n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds int) // by rows: 2, 4, 6, 8

	table       unsafe.Pointer // constants of the exponential
	maxLanes    func(n int, x, out unsafe.Pointer)
	expSumLanes func(n int, x, out, table unsafe.Pointer, max float32)
	expScale    func(n int, x, y, table unsafe.Pointer, sub, scale float32)

	rmsProp func(n int, w, g, v, k unsafe.Pointer)
	adamW   func(n int, w, g, m, v, k unsafe.Pointer)
}

// portableGEMM is the kernels in Go: the twins of the assembly, with products and sums rounded one
// by one, so that no compiler may fuse them.
func portableGEMM() gemmKernels {
	k := gemmKernels{
		nr: portableNR, heights: []int{4, 2, 1}, itemRows: 192, blockF: 256, blockB: 128,
		copyRows: portableCopyRows, widenRows: portableWidenRows, narrowRows: portableNarrowRows,
		pairRows: portablePairRows, axpyRows: portableAxpyRows,
		maxLanes: portableMaxLanes, expSumLanes: portableExpSumLanes, expScale: portableExpScale,
		rmsProp: portableRMSProp, adamW: portableAdamW,
	}
	for _, mr := range k.heights {
		k.f32.of[mr] = func(kc int, a, b, c unsafe.Pointer, acc int) { portableTileF32(mr, kc, a, b, c, acc) }
		k.wide.of[mr] = func(kc int, a, b, c unsafe.Pointer, acc int) { portableTileWide(mr, kc, a, b, c, acc) }
	}
	for _, rows := range []int{2, 4, 6, 8} {
		k.transpose[rows] = func(n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds int) {
			portableTranspose(rows, n, src, ss, dst, ds)
		}
	}
	return k
}

const portableNR = 8

func portableTileF32(mr, kc int, a, b, c unsafe.Pointer, acc int) {
	as, bs := unsafe.Slice((*float32)(a), kc*mr), unsafe.Slice((*float32)(b), kc*portableNR)
	for i := range mr {
		var sum [portableNR]float32
		for k := range kc {
			x, y := as[k*mr+i], (*[portableNR]float32)(bs[k*portableNR:])
			for j := range sum {
				sum[j] += float32(x * y[j])
			}
		}
		portableStoreTile(&sum, (*[portableNR]float32)(unsafe.Add(c, i*portableNR*4)), acc)
	}
}

func portableTileWide(mr, kc int, a, b, c unsafe.Pointer, acc int) {
	as, bs := unsafe.Slice((*float32)(a), 2*kc*mr), unsafe.Slice((*uint32)(b), kc*portableNR)
	for i := range mr {
		var sum [portableNR]float32
		for k := range kc {
			x0, x1, y := as[2*k*mr+i], as[(2*k+1)*mr+i], (*[portableNR]uint32)(bs[k*portableNR:])
			for j := range sum {
				sum[j] += float32(x0 * math.Float32frombits(y[j]<<16))
				sum[j] += float32(x1 * math.Float32frombits(y[j]&0xffff0000))
			}
		}
		portableStoreTile(&sum, (*[portableNR]float32)(unsafe.Add(c, i*portableNR*4)), acc)
	}
}

func portableStoreTile(sum, c *[portableNR]float32, acc int) {
	for j := range sum {
		if acc != 0 {
			c[j] += sum[j]
		} else {
			c[j] = sum[j]
		}
	}
}

func portableCopyRows(n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds, w8 int) {
	for i := range n {
		copy(unsafe.Slice((*uint32)(unsafe.Add(dst, i*ds)), 8*w8), unsafe.Slice((*uint32)(unsafe.Add(src, i*ss)), 8*w8))
	}
}

func portableWidenRows(n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds, w8 int) {
	for i := range n {
		x, y := unsafe.Slice((*uint16)(unsafe.Add(src, i*ss)), 8*w8), unsafe.Slice((*float32)(unsafe.Add(dst, i*ds)), 8*w8)
		for j, v := range x {
			y[j] = compute.F32FromBF16(v)
		}
	}
}

func portableNarrowRows(n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds, w8 int) {
	for i := range n {
		x, y := unsafe.Slice((*float32)(unsafe.Add(src, i*ss)), 8*w8), unsafe.Slice((*uint16)(unsafe.Add(dst, i*ds)), 8*w8)
		for j, v := range x {
			y[j] = compute.BF16FromF32(v)
		}
	}
}

func portablePairRows(n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds, w8 int) {
	for i := range n {
		low := unsafe.Slice((*uint16)(unsafe.Add(src, 2*i*ss)), 8*w8)
		high := unsafe.Slice((*uint16)(unsafe.Add(src, (2*i+1)*ss)), 8*w8)
		y := unsafe.Slice((*uint32)(unsafe.Add(dst, i*ds)), 8*w8)
		for j := range y {
			y[j] = uint32(low[j]) | uint32(high[j])<<16
		}
	}
}

func portableAxpyRows(n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds, w8 int, alpha float32) {
	for i := range n {
		x, y := unsafe.Slice((*float32)(unsafe.Add(src, i*ss)), 8*w8), unsafe.Slice((*float32)(unsafe.Add(dst, i*ds)), 8*w8)
		for j, v := range x {
			y[j] += float32(alpha * v)
		}
	}
}

func portableTranspose(rows, n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds int) {
	for k := range 8 * n {
		y := (*[8]uint32)(unsafe.Add(dst, k*ds))
		for i := range 8 {
			if i < rows {
				y[i] = *(*uint32)(unsafe.Add(src, i*ss+4*k))
			} else {
				y[i] = 0
			}
		}
	}
}

func portableMaxLanes(n int, x, out unsafe.Pointer) {
	xs, o := unsafe.Slice((*float32)(x), 8*n), (*[8]float32)(out)
	copy(o[:], xs)
	for j, v := range xs {
		if v > o[j&7] {
			o[j&7] = v
		}
	}
}

func portableExpSumLanes(n int, x, out, _ unsafe.Pointer, max float32) {
	o := (*[16]float32)(out)
	*o = [16]float32{}
	for j, v := range unsafe.Slice((*float32)(x), 8*n) {
		e := portableExp(v - max)
		o[j&7] += e
		o[8+j&7] += float32(v * e)
	}
}

func portableExpScale(n int, x, y, _ unsafe.Pointer, sub, scale float32) {
	ys := unsafe.Slice((*float32)(y), 8*n)
	for j, v := range unsafe.Slice((*float32)(x), 8*n) {
		ys[j] = scale * portableExp(v-sub)
	}
}

// portableExp is e^x, 0 where the assembly's is.
func portableExp(x float32) float32 {
	if x < -87.3 {
		return 0
	}
	return float32(math.Exp(float64(x)))
}

//go:build amd64 && !noasm

package cpu

import "unsafe"

//go:generate sh -c "go run ./internal/vectorkernels > vector_amd64.s"

// newVectorKernels runs the AVX2 kernels on AVX-512 too, but for attention's products: what the others
// do is small, or bound by memory.
func newVectorKernels(isa string) vectorKernels {
	if isa == ISAPortable {
		return portableVector()
	}
	k := vectorKernels{
		addSumSquares:  [2]func(int, unsafe.Pointer, unsafe.Pointer) float32{avx2AddSumSquaresF32, avx2AddSumSquaresBF16},
		sumSquares:     avx2SumSquares,
		normApply:      [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, float32){avx2NormApplyF32, avx2NormApplyBF16},
		normDot:        [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer) float32{avx2NormDotF32, avx2NormDotBF16},
		normGrad:       [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, float32, float32){avx2NormGradF32, avx2NormGradBF16},
		normWeightGrad: [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, float32){avx2NormWeightGradF32, avx2NormWeightGradBF16},
		rotate:         [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, float32){avx2RotateF32, avx2RotateBF16},
		swiglu:         [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer){avx2SwigluF32, avx2SwigluBF16},
		swigluGrad:     [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer){avx2SwigluGradF32, avx2SwigluGradBF16},
		add:            [2]func(int, unsafe.Pointer, unsafe.Pointer){avx2AddF32, avx2AddBF16},
		accumulate:     [2]func(int, unsafe.Pointer, unsafe.Pointer){avx2AccumulateF32, avx2AccumulateBF16},
		scale:          avx2ScaleBy,
		widenRows:      [2]func(int, int, unsafe.Pointer, int, unsafe.Pointer, int){avx2WidenRowsF32, avx2WidenRowsBF16},
		narrow:         [2]func(int, unsafe.Pointer, unsafe.Pointer, float32){avx2NarrowF32, avx2NarrowBF16},
		expSum:         avx2ExpSum,
		maximum:        avx2Maximum,
		sumAbove:       avx2SumAbove,
		above:          avx2Above,
		mulNN:          [2]product{avx2MulNNF32, avx2MulNNBF16},
		mulTN:          avx2MulTN,
		transpose:      [2]func(int, int, unsafe.Pointer, int, unsafe.Pointer, int){avx2TransposeF32, avx2TransposeBF16},
		softmaxBlock:   avx2SoftmaxBlock,
		gradBlock:      avx2GradBlock,
	}
	if isa != ISAAVX2 {
		avx512Products(&k)
	}
	return k
}

//go:noescape
func avx2AddSumSquaresF32(n int, x unsafe.Pointer, delta unsafe.Pointer) float32

//go:noescape
func avx2AddSumSquaresBF16(n int, x unsafe.Pointer, delta unsafe.Pointer) float32

//go:noescape
func avx2SumSquares(n int, x unsafe.Pointer) float32

//go:noescape
func avx2NormApplyF32(n int, y unsafe.Pointer, x unsafe.Pointer, w unsafe.Pointer, rstd float32)

//go:noescape
func avx2NormApplyBF16(n int, y unsafe.Pointer, x unsafe.Pointer, w unsafe.Pointer, rstd float32)

//go:noescape
func avx2NormDotF32(n int, dy unsafe.Pointer, w unsafe.Pointer, x unsafe.Pointer) float32

//go:noescape
func avx2NormDotBF16(n int, dy unsafe.Pointer, w unsafe.Pointer, x unsafe.Pointer) float32

//go:noescape
func avx2NormGradF32(n int, dx unsafe.Pointer, dy unsafe.Pointer, w unsafe.Pointer, x unsafe.Pointer, a float32, b float32)

//go:noescape
func avx2NormGradBF16(n int, dx unsafe.Pointer, dy unsafe.Pointer, w unsafe.Pointer, x unsafe.Pointer, a float32, b float32)

//go:noescape
func avx2NormWeightGradF32(n int, dw unsafe.Pointer, dy unsafe.Pointer, x unsafe.Pointer, rstd float32)

//go:noescape
func avx2NormWeightGradBF16(n int, dw unsafe.Pointer, dy unsafe.Pointer, x unsafe.Pointer, rstd float32)

//go:noescape
func avx2RotateF32(n int, lo unsafe.Pointer, hi unsafe.Pointer, cos unsafe.Pointer, sin unsafe.Pointer, sign float32)

//go:noescape
func avx2RotateBF16(n int, lo unsafe.Pointer, hi unsafe.Pointer, cos unsafe.Pointer, sin unsafe.Pointer, sign float32)

//go:noescape
func avx2SwigluF32(n int, y unsafe.Pointer, gate unsafe.Pointer, up unsafe.Pointer)

//go:noescape
func avx2SwigluBF16(n int, y unsafe.Pointer, gate unsafe.Pointer, up unsafe.Pointer)

//go:noescape
func avx2SwigluGradF32(n int, dgate unsafe.Pointer, dup unsafe.Pointer, dy unsafe.Pointer, gate unsafe.Pointer, up unsafe.Pointer)

//go:noescape
func avx2SwigluGradBF16(n int, dgate unsafe.Pointer, dup unsafe.Pointer, dy unsafe.Pointer, gate unsafe.Pointer, up unsafe.Pointer)

//go:noescape
func avx2AddF32(n int, y unsafe.Pointer, x unsafe.Pointer)

//go:noescape
func avx2AddBF16(n int, y unsafe.Pointer, x unsafe.Pointer)

//go:noescape
func avx2AccumulateF32(n int, y unsafe.Pointer, x unsafe.Pointer)

//go:noescape
func avx2AccumulateBF16(n int, y unsafe.Pointer, x unsafe.Pointer)

//go:noescape
func avx2ScaleBy(n int, x unsafe.Pointer, a float32)

//go:noescape
func avx2WidenRowsF32(rows, n int, dst unsafe.Pointer, dstStride int, src unsafe.Pointer, srcStride int)

//go:noescape
func avx2WidenRowsBF16(rows, n int, dst unsafe.Pointer, dstStride int, src unsafe.Pointer, srcStride int)

//go:noescape
func avx2NarrowF32(n int, dst unsafe.Pointer, src unsafe.Pointer, scale float32)

//go:noescape
func avx2NarrowBF16(n int, dst unsafe.Pointer, src unsafe.Pointer, scale float32)

//go:noescape
func avx2ExpSum(n int, e unsafe.Pointer, z unsafe.Pointer, top float32, temperature float32) float32

//go:noescape
func avx2Maximum(n int, x unsafe.Pointer) float32

//go:noescape
func avx2SumAbove(n int, w, x unsafe.Pointer, cut float32) float32

//go:noescape
func avx2Above(n int, x unsafe.Pointer, cut float32, first int32, index unsafe.Pointer) int

//go:noescape
func avx2MulNNBF16(rows, panels, k int, a unsafe.Pointer, lda int, b unsafe.Pointer, ldb int, c unsafe.Pointer, ldc, acc int)

//go:noescape
func avx2MulNNF32(rows, panels, k int, a unsafe.Pointer, lda int, b unsafe.Pointer, ldb int, c unsafe.Pointer, ldc, acc int)

//go:noescape
func avx2MulTN(rows, panels, k int, a unsafe.Pointer, lda int, b unsafe.Pointer, ldb int, c unsafe.Pointer, ldc, acc int)

//go:noescape
func avx2TransposeBF16(rows8, cols8 int, dst unsafe.Pointer, ldd int, src unsafe.Pointer, lds int)

//go:noescape
func avx2TransposeF32(rows8, cols8 int, dst unsafe.Pointer, ldd int, src unsafe.Pointer, lds int)

//go:noescape
func avx2SoftmaxBlock(rows, vectors int, s unsafe.Pointer, lds int, state *softmaxRow, scale float32)

//go:noescape
func avx2GradBlock(rows, vectors int, s, dp unsafe.Pointer, lds int, state *softmaxRow, scale float32)

//go:build arm64 && !noasm

package cpu

import "unsafe"

// newGEMMKernels is the table of an instruction set: NEON's tiles have the shape of AVX2's, in
// registers half as wide of which there are twice as many.
func newGEMMKernels(isa string) gemmKernels {
	if isa == ISAPortable {
		return portableGEMM()
	}
	k := gemmKernels{
		nr: 16, heights: []int{6, 4, 2, 1}, itemRows: 192, blockF: 256, blockB: 192,
		copyRows: neonCopyRows, widenRows: neonWidenRows, narrowRows: neonNarrowRows,
		pairRows: neonPairRows, axpyRows: neonAxpyRows,
		maxLanes: neonMaxLanes, expSumLanes: neonExpSumLanes, expScale: neonExpScale,
		rmsProp: neonRMSProp, adamW: neonAdamW,
	}
	k.f32 = tiles{[maxMR + 1]tileKernel{1: neonTileF32x1, 2: neonTileF32x2, 4: neonTileF32x4, 6: neonTileF32x6}, neonTileF32x1Twin}
	k.wide = tiles{[maxMR + 1]tileKernel{1: neonTileWidex1, 2: neonTileWidex2, 4: neonTileWidex4, 6: neonTileWidex6}, neonTileWidex1Twin}
	k.transpose[2], k.transpose[4], k.transpose[6], k.transpose[8] = neonTranspose2, neonTranspose4, neonTranspose6, neonTranspose8
	return k
}

// newVectorKernels is the table of elementwise operations, norms, attention and sampling.
func newVectorKernels(isa string) vectorKernels {
	if isa == ISAPortable {
		return portableVector()
	}
	return vectorKernels{
		addSumSquares:  [2]func(int, unsafe.Pointer, unsafe.Pointer) float32{neonAddSumSquaresF32, neonAddSumSquaresBF16},
		sumSquares:     neonSumSquares,
		normApply:      [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, float32){neonNormApplyF32, neonNormApplyBF16},
		normDot:        [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer) float32{neonNormDotF32, neonNormDotBF16},
		normGrad:       [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, float32, float32){neonNormGradF32, neonNormGradBF16},
		normWeightGrad: [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, float32){neonNormWeightGradF32, neonNormWeightGradBF16},
		rotate:         [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, float32){neonRotateF32, neonRotateBF16},
		swiglu:         [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer){neonSwigluF32, neonSwigluBF16},
		swigluGrad:     [2]func(int, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer, unsafe.Pointer){neonSwigluGradF32, neonSwigluGradBF16},
		add:            [2]func(int, unsafe.Pointer, unsafe.Pointer){neonAddF32, neonAddBF16},
		accumulate:     [2]func(int, unsafe.Pointer, unsafe.Pointer){neonAccumulateF32, neonAccumulateBF16},
		scale:          neonScaleBy,
		widenRows:      [2]func(int, int, unsafe.Pointer, int, unsafe.Pointer, int){neonWidenRowsF32, neonWidenRowsBF16},
		narrow:         [2]func(int, unsafe.Pointer, unsafe.Pointer, float32){neonNarrowF32, neonNarrowBF16},
		expSum:         neonExpSum,
		maximum:        neonMaximum,
		sumAbove:       neonSumAbove,
		above:          neonAbove,
		mulNN:          [2]product{neonMulNNF32, neonMulNNBF16},
		mulTN:          neonMulTN,
		transpose:      [2]func(int, int, unsafe.Pointer, int, unsafe.Pointer, int){neonTransposeF32, neonTransposeBF16},
		softmaxBlock:   neonSoftmaxBlock,
		gradBlock:      neonGradBlock,
	}
}

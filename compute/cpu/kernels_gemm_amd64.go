//go:build amd64 && !noasm

package cpu

import "unsafe"

// newGEMMKernels is the table of an instruction set. AVX-512 has its own tiles; what only moves
// memory is AVX2's everywhere.
func newGEMMKernels(isa string) gemmKernels {
	if isa == ISAPortable {
		return portableGEMM()
	}
	k := gemmKernels{
		nr: 16, heights: []int{6, 4, 2, 1}, itemRows: 96, blockF: 576, blockB: 288,
		copyRows: avx2CopyRows, widenRows: avx2WidenRows, narrowRows: avx2NarrowRows,
		pairRows: avx2PairRows, axpyRows: avx2AxpyRows,
		table:    expTable(),
		maxLanes: avx2MaxLanes, expSumLanes: avx2ExpSumLanes, expScale: avx2ExpScale,
		rmsProp: avx2RMSProp, adamW: avx2AdamW,
	}
	k.f32 = tiles{[maxMR + 1]tileKernel{1: avx2TileF32x1, 2: avx2TileF32x2, 4: avx2TileF32x4, 6: avx2TileF32x6}, avx2TileF32x1Twin}
	k.wide = tiles{[maxMR + 1]tileKernel{1: avx2TileWidex1, 2: avx2TileWidex2, 4: avx2TileWidex4, 6: avx2TileWidex6}, avx2TileWidex1Twin}
	k.transpose[2], k.transpose[4], k.transpose[6], k.transpose[8] = avx2Transpose2, avx2Transpose4, avx2Transpose6, avx2Transpose8
	k.streams[0] = streamTiles{1: avx2StreamF32x1, 2: avx2StreamF32x2, 3: avx2StreamF32x3, 4: avx2StreamF32x4, 5: avx2StreamF32x5, 6: avx2StreamF32x6}
	k.streams[1] = streamTiles{1: avx2StreamWidex1, 2: avx2StreamWidex2, 3: avx2StreamWidex3, 4: avx2StreamWidex4, 5: avx2StreamWidex5, 6: avx2StreamWidex6}
	if isa == ISAAVX2 {
		return k
	}
	k.nr, k.heights = 32, []int{14, 8, 4, 2, 1}
	k.itemRows, k.blockF, k.blockB = 192, 192, 192
	k.f32 = tiles{[maxMR + 1]tileKernel{1: avx512TileF32x1, 2: avx512TileF32x2, 4: avx512TileF32x4, 8: avx512TileF32x8, 14: avx512TileF32x14}, avx512TileF32x1Twin}
	k.wide = tiles{[maxMR + 1]tileKernel{1: avx512TileWidex1, 2: avx512TileWidex2, 4: avx512TileWidex4, 8: avx512TileWidex8, 14: avx512TileWidex14}, avx512TileWidex1Twin}
	k.streams[0] = streamTiles{1: avx512StreamF32x1, 2: avx512StreamF32x2, 3: avx512StreamF32x3, 4: avx512StreamF32x4, 6: avx512StreamF32x6, 8: avx512StreamF32x8, 10: avx512StreamF32x10, 12: avx512StreamF32x12, 14: avx512StreamF32x14}
	k.streams[1] = streamTiles{1: avx512StreamWidex1, 2: avx512StreamWidex2, 3: avx512StreamWidex3, 4: avx512StreamWidex4, 6: avx512StreamWidex6, 8: avx512StreamWidex8, 10: avx512StreamWidex10, 12: avx512StreamWidex12, 14: avx512StreamWidex14}
	if isa == ISAAVX512BF16 {
		k.pairs = true
		k.streams[2] = streamTiles{1: avx512StreamDotx1, 2: avx512StreamDotx2, 3: avx512StreamDotx3, 4: avx512StreamDotx4, 6: avx512StreamDotx6, 8: avx512StreamDotx8, 10: avx512StreamDotx10, 12: avx512StreamDotx12, 14: avx512StreamDotx14}
		k.dot = tiles{[maxMR + 1]tileKernel{1: avx512TileDotx1, 2: avx512TileDotx2, 4: avx512TileDotx4, 8: avx512TileDotx8, 14: avx512TileDotx14}, avx512TileDotx1Twin}
	}
	return k
}

// expTable is the constants of internal/kernels.Exp, 8 times each.
func expTable() unsafe.Pointer {
	t := new([12][8]float32)
	for i, x := range [12]float32{
		-87.3, 88.3, 1.44269504088896341, 0.693359375, -2.12194440e-4,
		1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1,
	} {
		for j := range t[i] {
			t[i][j] = x
		}
	}
	return unsafe.Pointer(t)
}

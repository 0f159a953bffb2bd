//go:build amd64 && !noasm

package cpu

import "unsafe"

// productKernel is a product of so many rows and vectors of 16 columns; see internal/kernels.
type productKernel func(k int, a unsafe.Pointer, lda int, b unsafe.Pointer, ldb int, c unsafe.Pointer, ldc, acc int)

// productHeights are the rows that AVX-512's products take at a time, as internal/kernels has them.
var productHeights = [...]int{12, 4, 1}

// productTiles are the kernels of a product, by height and by vectors − 1.
type productTiles [len(productHeights)][2]productKernel

// product is the product that they make up. aRow is the bytes between rows of an A that is
// transposed, 0 for one that is not (there it is lda), panel those between panels of B.
func (t *productTiles) product(aRow, panel int) product {
	return func(rows, panels, k int, a unsafe.Pointer, lda int, b unsafe.Pointer, ldb int, c unsafe.Pointer, ldc, acc int) {
		step := lda
		if aRow > 0 {
			step = aRow
		}
		for i, mr := range productHeights {
			for ; rows >= mr; rows -= mr {
				for p := 0; p < panels; p += 2 {
					vectors := min(panels-p, 2)
					t[i][vectors-1](k, a, lda, unsafe.Add(b, p*panel), ldb, unsafe.Add(c, p*64), ldc, acc)
				}
				a, c = unsafe.Add(a, mr*step), unsafe.Add(c, mr*ldc)
			}
		}
	}
}

// avx512Products replaces the products of k.
func avx512Products(k *vectorKernels) {
	nn := productTiles{{avx512MulNNF32x12x1, avx512MulNNF32x12x2}, {avx512MulNNF32x4x1, avx512MulNNF32x4x2}, {avx512MulNNF32x1x1, avx512MulNNF32x1x2}}
	wide := productTiles{{avx512MulNNBF16x12x1, avx512MulNNBF16x12x2}, {avx512MulNNBF16x4x1, avx512MulNNBF16x4x2}, {avx512MulNNBF16x1x1, avx512MulNNBF16x1x2}}
	tn := productTiles{{avx512MulTNF32x12x1, avx512MulTNF32x12x2}, {avx512MulTNF32x4x1, avx512MulTNF32x4x2}, {avx512MulTNF32x1x1, avx512MulTNF32x1x2}}
	k.mulNN = [2]product{nn.product(0, 64), wide.product(0, 32)}
	k.mulTN = tn.product(4, 64)
}

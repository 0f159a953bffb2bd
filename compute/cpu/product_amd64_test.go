//go:build amd64 && !noasm

package cpu

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
	kern "github.com/seed-8780d58e/spin/compute/cpu/internal/kernels"
)

// emulatedProduct is a product of AVX-512, run by the emulator. It may touch memory alone.
func emulatedProduct(p kern.Product, memory [][]byte, aRow, panel int) product {
	var t productTiles
	for i, mr := range kern.ProductHeights() {
		for v := range t[i] {
			f := programs()[p.Name(mr, v+1)]
			t[i][v] = func(k int, a unsafe.Pointer, lda int, b unsafe.Pointer, ldb int, c unsafe.Pointer, ldc, acc int) {
				f.Run(memory, k, a, lda, b, ldb, c, ldc, acc)
			}
		}
	}
	return t.product(aRow, panel)
}

// TestProducts holds AVX-512's products, emulated and on this CPU where it has them, against AVX2's,
// to the bit: attention's bits do not depend on the width of a vector.
func TestProducts(t *testing.T) {
	if !slices.Contains(Instructions(), ISAAVX2) {
		t.Skip("needs AVX2")
	}
	if !slices.Equal(kern.ProductHeights(), productHeights[:]) {
		t.Fatalf("heights %v, internal/kernels has %v", productHeights, kern.ProductHeights())
	}
	want := newVectorKernels(ISAAVX2)
	rng := rand.New(rand.NewPCG(13, 14))
	for _, p := range kern.Products() {
		dt := compute.F32
		if p.BF16 {
			dt = compute.BF16
		}
		for rows := 1; rows < 40; rows++ {
			panels, k, acc := 1+rng.IntN(5), 1+rng.IntN(20), rows%2
			lda, ldb, ldc := k+rng.IntN(3), 16*panels+rng.IntN(3), 16*panels+rng.IntN(3)
			of := func(k *vectorKernels) product { return k.mulNN[dt] }
			aRow, a := 0, newBuffer(rng, compute.F32, rows*lda)
			if p.Transposed {
				lda = rows + rng.IntN(3)
				aRow, a = 4, newBuffer(rng, compute.F32, k*lda)
				of = func(k *vectorKernels) product { return k.mulTN }
			}
			b, c := newBuffer(rng, dt, k*ldb), newBuffer(rng, compute.F32, rows*ldc)
			what := fmt.Sprintf("%s: %d rows, %d panels, k %d, acc %d", p.Name(12, 2), rows, panels, k, acc)
			run := func(f product) []float32 {
				out := c.clone()
				f(rows, panels, k, a.p(), 4*lda, b.p(), dt.Size()*ldb, out.p(), 4*ldc, acc)
				return out.mem
			}
			expected := run(of(&want))
			out := c.clone()
			emulatedProduct(p, [][]byte{bytesOf(a.mem), bytesOf(b.mem), bytesOf(out.mem)}, aRow, 16*dt.Size())(rows, panels, k, a.p(), 4*lda, b.p(), dt.Size()*ldb, out.p(), 4*ldc, acc)
			if i := differ(out.mem, expected); i >= 0 {
				t.Fatalf("%s: element %d is %g, want %g", what, i, out.mem[i], expected[i])
			}
			if !slices.Contains(Instructions(), ISAAVX512) {
				continue
			}
			native := newVectorKernels(ISAAVX512)
			if got := run(of(&native)); differ(got, expected) >= 0 {
				t.Fatalf("%s: other bits on this CPU", what)
			}
		}
	}
}

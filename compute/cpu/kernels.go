//go:generate go run ./internal/gen
//go:generate go run ./internal/neon/gen

package cpu

// kernels is the table of what differs between instruction sets. A kernel gets pointers and counts
// that are right already; operations validate, kernels do not.
type kernels struct {
	gemm   gemmKernels
	vector vectorKernels
}

func newKernels(isa string) kernels {
	return kernels{gemm: newGEMMKernels(isa), vector: newVectorKernels(isa)}
}

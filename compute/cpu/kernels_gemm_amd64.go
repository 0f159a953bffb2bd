//go:build amd64 && !noasm

package cpu

func newGEMMKernels(isa string) gemmKernels { return gemmKernels{} }

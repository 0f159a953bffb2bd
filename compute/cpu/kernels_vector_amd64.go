//go:build amd64 && !noasm

package cpu

func newVectorKernels(isa string) vectorKernels { return portableVector() }

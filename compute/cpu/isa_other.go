//go:build !(amd64 || arm64) || noasm

package cpu

// detect lists what this CPU has, the best first.
func detect() []string { return []string{ISAPortable} }

func newGEMMKernels(string) gemmKernels     { return portableGEMM() }
func newVectorKernels(string) vectorKernels { return portableVector() }

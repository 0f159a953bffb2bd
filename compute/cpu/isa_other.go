//go:build !amd64 || noasm

package cpu

import "runtime"

// detect lists what this CPU has, the best first.
func detect() []string {
	if runtime.GOARCH == "arm64" {
		return []string{ISANEON, ISAPortable}
	}
	return []string{ISAPortable}
}

func newGEMMKernels(string) gemmKernels     { return portableGEMM() }
func newVectorKernels(string) vectorKernels { return portableVector() }

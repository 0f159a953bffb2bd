package cpu

import "github.com/seed-8780d58e/spin/compute"

// vectorKernels are the kernels of elementwise operations, norms, attention and sampling.
type vectorKernels struct{}

func portableVector() vectorKernels { return vectorKernels{} }

// vectorScratch is the scratch memory, in bytes, that the operations of this half need at most.
func (b *Backend) vectorScratch(l compute.Limits) int64 { return 0 }

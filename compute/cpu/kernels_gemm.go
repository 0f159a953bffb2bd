package cpu

// gemmKernels are the kernels of matrix products.
type gemmKernels struct{}

func portableGEMM() gemmKernels { return gemmKernels{} }

// Package cpu is the compute engine for processors: packed, cache-blocked matrix products and fused
// vector kernels, in assembly where there is some for the instruction set and in portable Go
// elsewhere (or with the build tag noasm).
//
// New picks the instruction set at run time and builds a Device: a pool of threads and a table of
// kernels. Every operation of a Backend is a short Go function that validates its tensors, cuts the
// work at absolute borders (rows, panels, tiles) into items, and hands the items to the pool; a
// kernel, looked up in the table, does the arithmetic of one item. Which thread takes which item is
// left to chance, what an item computes is not: so the number of threads changes no bit.
//
// Read on in this order: device.go, pool.go, backend.go; then panel.go (how matrices lie in
// memory), gemm.go (the one product that everything else is made of), weight.go, linear.go, head.go,
// optimize.go; kernels_gemm.go says what each kernel computes, and internal/kernels writes the
// assembly. The other half is vector.go, then one file an operation (norm.go, attention.go, sample.go,
// …); kernels_vector.go says what its kernels compute, and internal/vectorkernels writes them.
// arm64's kernels of both halves come from internal/neon.
package cpu

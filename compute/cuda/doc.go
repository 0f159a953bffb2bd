// Package cuda is the engine for NVIDIA GPUs: the compute contract through gorgonia.org/cu and
// kernels of its own, built with -tags cuda (deploy/cuda.sh says in what environment).
//
// # What it is today
//
// Every operation of the contract, in F32 and BF16 with F32 arithmetic, as computetest.RunAll wants
// it. The kernels are right, not yet fast: products are tiled without tensor cores (kernels/product.cuh,
// kernels/linear.cu), attention takes a block for each query's group of heads (attention.cu) and
// shares nothing between queries, and paged attention walks a sequence's whole context in one block.
//
// Nothing here has run on a real GPU. The tests run the host code and the kernels on an emulated
// driver (emulator/): the same .cu files compiled by g++.
//
// # How it works
//
// A Backend is a stream. Operations launch kernels on it and return at once; Upload, Download and
// Plan.Set go through pinned memory, so that they are queued like kernels and the caller's slices
// are free at once. Graph captures the stream on the first call for a key and replays the recording
// afterwards: a kernel's arguments, grid included, are fixed then, so whatever changes from step to
// step lies in device memory. A Plan's tables do, and its Set is an Upload, never to be called
// inside a Graph.
//
// The kernels are embedded as PTX, which the driver compiles for the GPU at hand. The PTX is made by
// NVRTC from kernels/*.cu, with the source's own arithmetic (no contraction, no fast math), so bits
// depend on it and on the GPU's generation alone: that is the Fingerprint.
//
// Reading order: backend.go, transfer.go, plan.go, graph.go, then the operations; driver/ is all
// that is known of NVIDIA's interface.
package cuda

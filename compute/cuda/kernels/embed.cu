// Embed: x[i] = W[ids[i]]. A block is a row.
#include "spin.cuh"

template <class T> __device__ void embed(float *x, stride_t xs, const T *w, const int *ids, stride_t is, int cols) {
	x += blockIdx.x * xs;
	w += (stride_t)ids[blockIdx.x * is] * cols;
	for (int c = threadIdx.x; c < cols; c += blockDim.x) x[c] = load(w + c);
}

#define EMBED(dt, T) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) embed_##dt(float *x, stride_t xs, const T *w, const int *ids, stride_t is, int cols) { embed(x, xs, w, ids, is, cols); } \
	KERNEL(embed_##dt)
EMBED(f32, float)
EMBED(bf16, bf16)

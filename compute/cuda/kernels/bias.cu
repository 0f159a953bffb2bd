// AddBias. A block is a row.
#include "spin.cuh"

template <class T> __device__ void add_bias(T *y, stride_t ys, const float *b, int cols) {
	y += blockIdx.x * ys;
	for (int c = threadIdx.x; c < cols; c += blockDim.x) store(y + c, load(y + c) + b[c]);
}

#define ADD_BIAS(dt, T) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) add_bias_##dt(T *y, stride_t ys, const float *b, int cols) { add_bias(y, ys, b, cols); } \
	KERNEL(add_bias_##dt)
ADD_BIAS(f32, float)
ADD_BIAS(bf16, bf16)

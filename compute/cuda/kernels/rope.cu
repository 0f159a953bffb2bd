// RoPE. A block is a token, a thread some pairs of its heads.
#include "spin.cuh"

template <class T> __device__ void rope(T *x, stride_t xs, const int *pos, stride_t ps, const float *cos, stride_t cs,
	const float *sin, stride_t ss, int heads, int half, int inverse) {
	x += blockIdx.x * xs;
	stride_t p = pos[blockIdx.x * ps];
	cos += p * cs;
	sin += p * ss;
	for (int i = threadIdx.x; i < heads * half; i += blockDim.x) {
		int j = i % half;
		T *a = x + i / half * 2 * half + j, *b = a + half;
		float c = cos[j], s = inverse ? -sin[j] : sin[j], u = load(a), v = load(b);
		store(a, u * c - v * s);
		store(b, v * c + u * s);
	}
}

#define ROPE(dt, T) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) rope_##dt(T *x, stride_t xs, const int *pos, stride_t ps, const float *cos, stride_t cs, \
		const float *sin, stride_t ss, int heads, int half, int inverse) { rope(x, xs, pos, ps, cos, cs, sin, ss, heads, half, inverse); } \
	KERNEL(rope_##dt)
ROPE(f32, float)
ROPE(bf16, bf16)

// Copy, Gather, Zero and Store. A block is a row.
#include "spin.cuh"

template <class D, class S> __device__ void copy(D *dst, stride_t ds, const S *src, stride_t ss, int cols) {
	dst += blockIdx.x * ds;
	src += blockIdx.x * ss;
	for (int c = threadIdx.x; c < cols; c += blockDim.x) store(dst + c, load(src + c));
}

// Bits that are not looked at: unsigned for F32 and I32, unsigned short for BF16.
template <class T> __device__ void gather(T *y, stride_t ys, const T *x, stride_t xs, const int *rows, stride_t rs, int cols) {
	y += blockIdx.x * ys;
	x += rows[blockIdx.x * rs] * xs;
	for (int c = threadIdx.x; c < cols; c += blockDim.x) y[c] = x[c];
}

template <class T> __device__ void zero(T *t, stride_t ts, int cols) {
	t += blockIdx.x * ts;
	for (int c = threadIdx.x; c < cols; c += blockDim.x) t[c] = 0;
}

#define COPY(name, D, S) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) name(D *dst, stride_t ds, const S *src, stride_t ss, int cols) { copy(dst, ds, src, ss, cols); } \
	KERNEL(name)
COPY(copy_f32_f32, float, float)
COPY(copy_f32_bf16, float, bf16)
COPY(copy_bf16_f32, bf16, float)
COPY(copy_bf16_bf16, bf16, bf16)

#define MOVES(width, T) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) gather_##width(T *y, stride_t ys, const T *x, stride_t xs, const int *rows, stride_t rs, int cols) { gather(y, ys, x, xs, rows, rs, cols); } \
	KERNEL(gather_##width) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) zero_##width(T *t, stride_t ts, int cols) { zero(t, ts, cols); } \
	KERNEL(zero_##width)
MOVES(b32, unsigned)
MOVES(b16, unsigned short)

// Copy of I32.
extern "C" __global__ void __launch_bounds__(ROW_THREADS) copy_i32(int *dst, stride_t ds, const int *src, stride_t ss, int cols) {
	dst += blockIdx.x * ds;
	src += blockIdx.x * ss;
	for (int c = threadIdx.x; c < cols; c += blockDim.x) dst[c] = src[c];
}
KERNEL(copy_i32)

// AddRMSNorm. A block is a row; thread i sums the squares of columns i, i + 256, …, and the threads'
// sums are added up in a tree.
#include "spin.cuh"

struct NormShared { float sums[ROW_THREADS / 32]; };

template <class T> __device__ void add_rms_norm(T *y, stride_t ys, float *rstd, stride_t rs, float *x, stride_t xs,
	const T *delta, stride_t ds, const float *w, int cols, float eps) {
	SHARED(NormShared, s);
	stride_t row = blockIdx.x;
	y += row * ys;
	x += row * xs;
	delta += delta ? row * ds : 0;
	float sum = 0;
	for (int c = threadIdx.x; c < cols; c += ROW_THREADS) {
		float v = x[c];
		if (delta) x[c] = v = v + load(delta + c);
		sum = fmaf(v, v, sum);
	}
	sum = warp_sum(sum);
	if (threadIdx.x % 32 == 0) s.sums[threadIdx.x / 32] = sum;
	__syncthreads();
	sum = 0;
	for (int i = 0; i < ROW_THREADS / 32; i++) sum += s.sums[i];
	float r = 1 / sqrtf(sum / cols + eps);
	if (threadIdx.x == 0) rstd[row * rs] = r;
	for (int c = threadIdx.x; c < cols; c += ROW_THREADS) store(y + c, x[c] * r * w[c]);
}

#define ADD_RMS_NORM(dt, T) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) add_rms_norm_##dt(T *y, stride_t ys, float *rstd, stride_t rs, float *x, stride_t xs, \
		const T *delta, stride_t ds, const float *w, int cols, float eps) { add_rms_norm(y, ys, rstd, rs, x, xs, delta, ds, w, cols, eps); } \
	KERNEL(add_rms_norm_##dt)
ADD_RMS_NORM(f32, float)
ADD_RMS_NORM(bf16, bf16)

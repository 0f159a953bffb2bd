// AddRMSNormBackward but for dw (column_sum.cu): with x̂ = x·rstd,
// dx += rstd·(dy·w − x̂·mean(dy·w·x̂)), and ddelta is the sum rounded. A block is a row.
#include "block.cuh"

template <class T> __device__ void add_rms_norm_backward(float *dx, stride_t dxs, T *ddelta, stride_t dds, const T *dy, stride_t dys,
	const float *x, stride_t xs, const float *w, const float *rstd, stride_t rs, int cols) {
	SHARED(BlockShared, s);
	stride_t row = blockIdx.x;
	dx += row * dxs;
	ddelta += ddelta ? row * dds : 0;
	dy += row * dys;
	x += row * xs;
	float r = rstd[row * rs], sum = 0;
	for (int c = threadIdx.x; c < cols; c += ROW_THREADS) sum = fmaf(load(dy + c) * w[c], x[c] * r, sum);
	float mean = block_sum(s, sum) / cols;
	for (int c = threadIdx.x; c < cols; c += ROW_THREADS) {
		float d = dx[c] + r * (load(dy + c) * w[c] - x[c] * r * mean);
		dx[c] = d;
		if (ddelta) store(ddelta + c, d);
	}
}

#define ADD_RMS_NORM_BACKWARD(dt, T) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) add_rms_norm_backward_##dt(float *dx, stride_t dxs, T *ddelta, stride_t dds, const T *dy, stride_t dys, \
		const float *x, stride_t xs, const float *w, const float *rstd, stride_t rs, int cols) { add_rms_norm_backward(dx, dxs, ddelta, dds, dy, dys, x, xs, w, rstd, rs, cols); } \
	KERNEL(add_rms_norm_backward_##dt)
ADD_RMS_NORM_BACKWARD(f32, float)
ADD_RMS_NORM_BACKWARD(bf16, bf16)

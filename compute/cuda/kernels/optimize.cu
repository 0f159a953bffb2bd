// SumSquares, ClipFactor and Optimize. Sums of squares are taken in two steps whose order depends on
// the shape alone: block b of SUM_BLOCKS takes rows b, b + SUM_BLOCKS, …, then one block adds theirs.
#include "block.cuh"

#define SUM_BLOCKS 1024

extern "C" __global__ void __launch_bounds__(ROW_THREADS) sum_squares(float *parts, const float *x, stride_t xs, int rows, int cols) {
	SHARED(BlockShared, s);
	float sum = 0;
	for (int r = blockIdx.x; r < rows; r += SUM_BLOCKS)
		for (int c = threadIdx.x; c < cols; c += ROW_THREADS) sum = fmaf(x[r * xs + c], x[r * xs + c], sum);
	sum = block_sum(s, sum);
	if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}
KERNEL(sum_squares)

extern "C" __global__ void __launch_bounds__(ROW_THREADS) sum_parts(float *y, const float *parts, int n) {
	SHARED(BlockShared, s);
	float sum = 0;
	for (int i = threadIdx.x; i < n; i += ROW_THREADS) sum += parts[i];
	sum = block_sum(s, sum);
	if (threadIdx.x == 0) *y += sum;
}
KERNEL(sum_parts)

// torch.nn.utils.clip_grad_norm_'s rule. One thread.
extern "C" __global__ void clip_factor(float *clip, const float *sumsq, float max_norm) {
	*clip = max_norm > 0 ? fminf(1, max_norm / (sqrtf(*sumsq) + 1e-6f)) : 1;
}
KERNEL(clip_factor)

// store_master also writes the weight w, row-major, where there is one.
template <class W> __device__ __forceinline__ void store_master(float *master, W *w, stride_t at, float v) {
	*master = v;
	if (w) store(w + at, v);
}

// torch.optim.RMSprop: v = keep·v + add·g², master −= rate·g/(√v + eps), g += decay·master first. A
// block is a row.
template <class W> __device__ void rms_prop(W *w, float *master, stride_t ms, const float *g, stride_t gs, float *v, stride_t vs, const float *clip,
	int cols, float decay, float keep, float add, float rate, float eps) {
	stride_t row = blockIdx.x;
	float factor = clip ? *clip : 1;
	for (int c = threadIdx.x; c < cols; c += blockDim.x) {
		float *p = master + row * ms + c, *q = v + row * vs + c, d = g[row * gs + c] * factor + *p * decay;
		float u = *q * keep + d * d * add;
		*q = u;
		store_master(p, w, row * cols + c, *p - d / (sqrtf(u) + eps) * rate);
	}
}

// torch.optim.AdamW (arXiv 1711.05101): decay is 1 − lr·decay, rate lr/(1 − β₁ᵗ), unbias 1/√(1 − β₂ᵗ).
template <class W> __device__ void adam_w(W *w, float *master, stride_t ms, const float *g, stride_t gs, float *m, stride_t m1, float *v, stride_t vs, const float *clip,
	int cols, float decay, float keep1, float add1, float keep2, float add2, float rate, float unbias, float eps) {
	stride_t row = blockIdx.x;
	float factor = clip ? *clip : 1;
	for (int c = threadIdx.x; c < cols; c += blockDim.x) {
		float *p = master + row * ms + c, *first = m + row * m1 + c, *second = v + row * vs + c, d = g[row * gs + c] * factor;
		float mean = *first * keep1 + d * add1, square = *second * keep2 + d * d * add2;
		*first = mean;
		*second = square;
		store_master(p, w, row * cols + c, *p * decay - mean / (sqrtf(square) * unbias + eps) * rate);
	}
}

#define OPTIMIZE(dt, W) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) rms_prop_##dt(W *w, float *master, stride_t ms, const float *g, stride_t gs, float *v, stride_t vs, const float *clip, \
		int cols, float decay, float keep, float add, float rate, float eps) { rms_prop(w, master, ms, g, gs, v, vs, clip, cols, decay, keep, add, rate, eps); } \
	KERNEL(rms_prop_##dt) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) adam_w_##dt(W *w, float *master, stride_t ms, const float *g, stride_t gs, float *m, stride_t m1, float *v, stride_t vs, const float *clip, \
		int cols, float decay, float keep1, float add1, float keep2, float add2, float rate, float unbias, float eps) { \
		adam_w(w, master, ms, g, gs, m, m1, v, vs, clip, cols, decay, keep1, add1, keep2, add2, rate, unbias, eps); \
	} \
	KERNEL(adam_w_##dt)
OPTIMIZE(f32, float)
OPTIMIZE(bf16, bf16)

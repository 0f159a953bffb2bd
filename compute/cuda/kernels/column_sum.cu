// ColumnSum, and AddRMSNormBackward's dw: sums over the rows of a matrix, added to a row. A block is 32
// columns; its warp w sums rows w, w + 8, … and the warps' sums are added up in order. So the order
// depends on a row's index alone.
#include "block.cuh"

struct ColumnShared { float sums[ROW_WARPS][32]; };

// add_columns adds Σ over rows of f(row, column) to out.
template <class F> __device__ __forceinline__ void add_columns(float *out, int rows, int cols, const F &f) {
	SHARED(ColumnShared, s);
	int lane = threadIdx.x % 32, warp = threadIdx.x / 32, c = blockIdx.x * 32 + lane;
	float sum = 0;
	if (c < cols)
		for (int r = warp; r < rows; r += ROW_WARPS) sum += f(r, c);
	s.sums[warp][lane] = sum;
	__syncthreads();
	if (warp != 0 || c >= cols) return;
	sum = 0;
	for (int w = 0; w < ROW_WARPS; w++) sum += s.sums[w][lane];
	out[c] += sum;
}

template <class T> struct Rows {
	const T *dy;
	stride_t ys;
	__device__ __forceinline__ float operator()(int r, int c) const { return load(dy + r * ys + c); }
};

template <class T> struct NormRows {
	const T *dy;
	stride_t ys;
	const float *x;
	stride_t xs;
	const float *rstd;
	stride_t rs;
	__device__ __forceinline__ float operator()(int r, int c) const { return load(dy + r * ys + c) * (x[r * xs + c] * rstd[r * rs]); }
};

#define COLUMN_SUM(dt, T) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) column_sum_##dt(float *db, const T *dy, stride_t ys, int rows, int cols) { add_columns(db, rows, cols, Rows<T>{dy, ys}); } \
	KERNEL(column_sum_##dt) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) rms_norm_dw_##dt(float *dw, const T *dy, stride_t ys, const float *x, stride_t xs, const float *rstd, stride_t rs, int rows, int cols) { \
		add_columns(dw, rows, cols, NormRows<T>{dy, ys, x, xs, rstd, rs}); \
	} \
	KERNEL(rms_norm_dw_##dt)
COLUMN_SUM(f32, float)
COLUMN_SUM(bf16, bf16)

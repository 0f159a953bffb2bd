// Linear: y = x·Wᵀ, or y += x·Wᵀ, W [out, in] row-major. A block makes a tile of y, a thread 4 × 4 of
// its elements. Each element is one chain of fused additions over the columns in order, so it has
// the same bits wherever its row lies, and a faster kernel must keep either this chain or another
// for all shapes.
#include "spin.cuh"

#define LINEAR_TILE 64 /* rows and columns of y */
#define LINEAR_DEPTH 16 /* columns of x at a time */
#define LINEAR_THREADS 256

struct LinearShared { float x[LINEAR_DEPTH][LINEAR_TILE + 1], w[LINEAR_DEPTH][LINEAR_TILE + 1]; };

// load_tile puts rows [row, row + 64) and columns [col, col + 16) of a [rows, cols] matrix into tile,
// transposed; what lies outside is 0.
template <class T> __device__ __forceinline__ void load_tile(float tile[LINEAR_DEPTH][LINEAR_TILE + 1], const T *m, stride_t ms, int row, int rows, int col, int cols) {
	for (int i = threadIdx.x; i < LINEAR_TILE * LINEAR_DEPTH; i += LINEAR_THREADS) {
		int r = i / LINEAR_DEPTH, c = i % LINEAR_DEPTH;
		bool inside = row + r < rows && col + c < cols;
		tile[c][r] = inside ? load(m + (row + r) * ms + col + c) : 0;
	}
}

template <class T, class Y> __device__ void linear(Y *y, stride_t ys, const T *x, stride_t xs, const T *w, int rows, int in, int out, int acc) {
	SHARED(LinearShared, s);
	int row = blockIdx.y * LINEAR_TILE, col = blockIdx.x * LINEAR_TILE;
	int r0 = threadIdx.x / 16, c0 = threadIdx.x % 16;
	float sum[4][4] = {};
	for (int k = 0; k < in; k += LINEAR_DEPTH) {
		load_tile(s.x, x, xs, row, rows, k, in);
		load_tile(s.w, w, in, col, out, k, in);
		__syncthreads(); // tiles are whole
		for (int d = 0; d < LINEAR_DEPTH; d++)
			for (int i = 0; i < 4; i++)
				for (int j = 0; j < 4; j++) sum[i][j] = fmaf(s.x[d][r0 + 16 * i], s.w[d][c0 + 16 * j], sum[i][j]);
		__syncthreads(); // tiles are read
	}
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < 4; j++) {
			int r = row + r0 + 16 * i, c = col + c0 + 16 * j;
			if (r >= rows || c >= out) continue;
			Y *p = y + r * ys + c;
			store(p, acc ? load(p) + sum[i][j] : sum[i][j]);
		}
}

#define LINEAR(dt, T, dy, Y) \
	extern "C" __global__ void __launch_bounds__(LINEAR_THREADS) linear_##dt##_##dy(Y *y, stride_t ys, const T *x, stride_t xs, const T *w, int rows, int in, int out, int acc) { linear(y, ys, x, xs, w, rows, in, out, acc); } \
	KERNEL(linear_##dt##_##dy)
LINEAR(f32, float, f32, float)
LINEAR(bf16, bf16, f32, float)
LINEAR(bf16, bf16, bf16, bf16)

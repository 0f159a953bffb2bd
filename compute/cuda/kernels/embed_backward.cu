// EmbedBackward: dw[ids[i]] += dx[i], in row order. A block is a row of dx; the first row of a token
// adds up all rows of it, and the other rows' blocks do nothing.
#include "block.cuh"

extern "C" __global__ void __launch_bounds__(ROW_THREADS) embed_backward(float *dw, stride_t ws, const float *dx, stride_t xs, const int *ids, stride_t is, int rows, int cols) {
	SHARED(BlockShared, s);
	int row = blockIdx.x, id = ids[row * is];
	for (int from = 0; from < row; from += ROW_THREADS) {
		int i = from + threadIdx.x;
		if (block_list(s, i, i < row && ids[min(i, row) * is] == id)) return;
	}
	dw += id * ws;
	for (int from = row / ROW_THREADS * ROW_THREADS; from < rows; from += ROW_THREADS) {
		int i = from + threadIdx.x, n = block_list(s, i, i < rows && ids[min(i, rows - 1) * is] == id);
		for (int c = threadIdx.x; c < cols; c += ROW_THREADS) {
			float sum = dw[c];
			for (int j = 0; j < n; j++) sum += dx[s.list[j] * xs + c];
			dw[c] = sum;
		}
	}
}
KERNEL(embed_backward)

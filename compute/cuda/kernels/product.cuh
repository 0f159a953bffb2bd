// The tiled product behind Linear's backward operations, MatMul and the head: y [m, n] = Σ over k of
// a(i, k)·b(j, k). A block makes a tile of 64 × 64, a thread 4 × 4 of its elements. Each element is
// one chain of fused additions over k in order, so it has the same bits wherever its row lies.
#pragma once
#include "spin.cuh"

#define PRODUCT_TILE 64
#define PRODUCT_DEPTH 16
#define PRODUCT_THREADS 256

struct ProductShared { float a[PRODUCT_DEPTH][PRODUCT_TILE + 1], b[PRODUCT_DEPTH][PRODUCT_TILE + 1]; };

// Operand is a matrix of elements (i, k), rows of them, at p[i·row + k·col].
template <class T> struct Operand {
	const T *p;
	stride_t row, col;
	int rows;

	// load puts rows [i0, i0 + 64) and columns [k0, k0 + 16) into tile; what lies outside is 0.
	// Neighbouring threads read neighbouring elements.
	__device__ __forceinline__ void load_tile(float tile[PRODUCT_DEPTH][PRODUCT_TILE + 1], int i0, int k0, int depth) const {
		for (int t = threadIdx.x; t < PRODUCT_TILE * PRODUCT_DEPTH; t += PRODUCT_THREADS) {
			int i = col == 1 ? t / PRODUCT_DEPTH : t % PRODUCT_TILE, k = col == 1 ? t % PRODUCT_DEPTH : t / PRODUCT_TILE;
			bool inside = i0 + i < rows && k0 + k < depth;
			tile[k][i] = inside ? load(p + (i0 + i) * row + (k0 + k) * col) : 0;
		}
	}
};

// Tile is a thread's part of a block's tile.
struct Tile {
	float sum[4][4] = {};
	int row, col; // the first of its elements; the others are 16, 32, 48 further

	__device__ __forceinline__ Tile() : row(blockIdx.y * PRODUCT_TILE + threadIdx.x / 16), col(blockIdx.x * PRODUCT_TILE + threadIdx.x % 16) {}

	// add continues the sums with a product over depth.
	template <class A, class B> __device__ __forceinline__ void add(ProductShared &s, const Operand<A> &a, const Operand<B> &b, int depth) {
		for (int k = 0; k < depth; k += PRODUCT_DEPTH) {
			a.load_tile(s.a, blockIdx.y * PRODUCT_TILE, k, depth);
			b.load_tile(s.b, blockIdx.x * PRODUCT_TILE, k, depth);
			__syncthreads(); // tiles are whole
			for (int d = 0; d < PRODUCT_DEPTH; d++)
				for (int i = 0; i < 4; i++)
					for (int j = 0; j < 4; j++) sum[i][j] = fmaf(s.a[d][threadIdx.x / 16 + 16 * i], s.b[d][threadIdx.x % 16 + 16 * j], sum[i][j]);
			__syncthreads(); // tiles are read
		}
	}

	// put writes y = alpha·sum, or adds to it with acc.
	template <class Y> __device__ __forceinline__ void put(Y *y, stride_t ys, int m, int n, float alpha, int acc) const {
		for (int i = 0; i < 4; i++)
			for (int j = 0; j < 4; j++) {
				int r = row + 16 * i, c = col + 16 * j;
				if (r >= m || c >= n) continue;
				Y *p = y + r * ys + c;
				float v = sum[i][j] * alpha;
				store(p, acc ? load(p) + v : v);
			}
	}
};

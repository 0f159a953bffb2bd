// What the attention kernels share.
#pragma once
#include "spin.cuh"

#define ATTENTION_KEYS 32     /* keys at a time: one a lane */
#define ATTENTION_THREADS 512 /* at most: 16 query heads to a key head */
#define ATTENTION_DIMS 8      /* elements of a head a lane holds at most: heads of up to 256 */

// A query's softmax, taken on the way (arXiv 2205.14135, section 3.1). A warp has one: a lane scores one
// key of a block, and sums the elements lane, lane + 32, … of the values.
struct Softmax {
	float top, sum, acc[ATTENTION_DIMS];
	// add takes in a block of keys k [32, dim + 1] and values v [32, value_row]; seen is about this lane's
	// key, and p [32] is the warp's own.
	__device__ __forceinline__ void add(const float *q, const float *k, const float *v, int value_row, float *p, bool seen, int dim, float scale) {
		int lane = threadIdx.x % 32;
		float score = 0;
		for (int d = 0; d < dim; d++) score = fmaf(q[d], k[lane * (dim + 1) + d], score);
		score = seen ? score * scale : minus_infinity();
		float higher = fmaxf(top, warp_max(score)), shrink = expf(top - higher), e = expf(score - higher);
		p[lane] = e;
		sum = fmaf(sum, shrink, warp_sum(e));
		top = higher;
		__syncwarp(); // p is whole
#pragma unroll
		for (int j = 0; j < ATTENTION_DIMS; j++) {
			int d = lane + 32 * j;
			if (d >= dim) break;
			float a = acc[j] * shrink;
			for (int key = 0; key < ATTENTION_KEYS; key++) a = fmaf(p[key], v[key * value_row + d], a);
			acc[j] = a;
		}
		__syncwarp(); // p is read
	}
	// write stores the sum of values [dim].
	template <class T> __device__ __forceinline__ void write(T *y, int dim) const {
#pragma unroll
		for (int j = 0; j < ATTENTION_DIMS; j++) {
			int d = threadIdx.x % 32 + 32 * j;
			if (d < dim) store(y + d, acc[j] / sum);
		}
	}
};

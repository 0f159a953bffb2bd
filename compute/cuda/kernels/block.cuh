// What the threads of a block of ROW_THREADS do together, in an order that is always the same.
#pragma once
#include "spin.cuh"

#define ROW_WARPS (ROW_THREADS / 32)

struct BlockShared {
	float sums[ROW_WARPS];
	int counts[ROW_WARPS];
	int list[ROW_THREADS];
};

// block_sum adds up v over the block: lanes in a tree, then warps in order. The same bits in every
// thread.
__device__ __forceinline__ float block_sum(BlockShared &s, float v) {
	v = warp_sum(v);
	__syncthreads(); // the last sums are read
	if (threadIdx.x % 32 == 0) s.sums[threadIdx.x / 32] = v;
	__syncthreads(); // sums are whole
	v = 0;
	for (int i = 0; i < ROW_WARPS; i++) v += s.sums[i];
	return v;
}

// block_list puts the values of the threads that keep theirs into s.list, in the order of threads, and
// returns how many they are.
__device__ __forceinline__ int block_list(BlockShared &s, int value, bool keep) {
	int lane = threadIdx.x % 32, warp = threadIdx.x / 32, before = keep;
	for (int o = 1; o < 32; o <<= 1) {
		int below = __shfl_up_sync(~0u, before, o);
		if (lane >= o) before += below;
	}
	__syncthreads(); // the last list is read
	if (lane == 31) s.counts[warp] = before;
	__syncthreads(); // counts are whole
	int first = 0, n = 0;
	for (int i = 0; i < ROW_WARPS; i++) {
		if (i == warp) first = n;
		n += s.counts[i];
	}
	if (keep) s.list[first + before - 1] = value;
	__syncthreads(); // the list is whole
	return n;
}

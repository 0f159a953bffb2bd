// Kernels with a bug each, beside the one they are bent from: what the emulated driver must catch
// (emulator_test.go).
#include "../../emulator/simt.h"

// Each block reverses its 64 elements by way of shared memory.
template <bool BARRIER> static void reverse(int *x) {
	struct Tile { int v[64]; };
	SHARED(Tile, tile);
	int t = threadIdx.x, i = blockIdx.x * 64 + t;
	tile.v[t] = x[i];
	if (BARRIER) __syncthreads();
	x[i] = tile.v[63 - t];
}
void reverse_right(int *x) { reverse<true>(x); }
void reverse_missing(int *x) { reverse<false>(x); }

// Some threads wait where the others never come.
void barrier_divergent(int *x) {
	if (threadIdx.x < 40) __syncthreads();
	else __syncthreads();
	x[blockIdx.x * 64 + threadIdx.x] = 1;
}

// Half of a warp takes part in a shuffle of the whole.
void shuffle_divergent(int *x) {
	if (threadIdx.x % 32 < 16) x[threadIdx.x] = __shfl_xor_sync(0xffffffff, 1, 1);
	else __syncthreads();
}

// n elements are named and n + by touched.
template <int BY> static void increment(int *x, int n) {
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i < n + BY) x[i]++;
}
void increment_right(int *x, int n) { increment<0>(x, n); }
void increment_past(int *x, int n) { increment<1>(x, n); }
void increment_before(int *x, int n) {
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i < n) x[i - 1] = 0;
}

// One element more than the array has is written.
void shared_past(int *x) {
	struct Sums { int v[61]; };
	SHARED(Sums, sums);
	int t = threadIdx.x;
	if (t < 62) sums.v[t] = t;
	__syncthreads();
	x[t] = sums.v[0];
}

// Nobody has written what is read: it must not look like zero.
void shared_fresh(int *x) {
	struct Tile { int v[64]; };
	SHARED(Tile, tile);
	x[blockIdx.x * 64 + threadIdx.x] = tile.v[threadIdx.x];
}

// Right only if blocks run by number: each reads what the one before wrote.
void blocks_in_order(int *x) {
	if (threadIdx.x == 0) x[blockIdx.x] = blockIdx.x == 0 ? 1 : x[blockIdx.x - 1] + 1;
}

KERNEL(reverse_right) KERNEL(reverse_missing) KERNEL(barrier_divergent) KERNEL(shuffle_divergent)
KERNEL(increment_right) KERNEL(increment_past) KERNEL(increment_before)
KERNEL(shared_past) KERNEL(shared_fresh) KERNEL(blocks_in_order)

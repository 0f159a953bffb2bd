// What every kernel includes. Three compilers read the kernels: NVRTC for PTX, without a single
// header of the toolkit; nvcc; and g++ with SIMT defined, for tests.
//
// The source decides the bits: PTX is made with -fmad=false, so a product and a sum are fused where
// fmaf stands and nowhere else, and there is no fast math. No kernel adds floats atomically; integer
// atomics give the same sum in any order.
//
// Tensors come as a pointer to their first element and a stride in elements.
#pragma once
#ifdef SIMT
#include "../emulator/simt.h"
#else
#define SHARED(T, name) __shared__ T name
#define DYNAMIC_SHARED(T, name) extern __shared__ __align__(16) unsigned char dynamic_shared[]; T *name = (T *)dynamic_shared
#define KERNEL(k)
#endif

typedef unsigned long long u64;
typedef long long stride_t;

struct bf16 { unsigned short bits; };

__device__ __forceinline__ float load(const float *p) { return *p; }
__device__ __forceinline__ float load(const bf16 *p) { return __uint_as_float((unsigned)p->bits << 16); }
__device__ __forceinline__ void store(float *p, float x) { *p = x; }
// As compute.BF16FromF32: to nearest even, NaN stays NaN.
__device__ __forceinline__ void store(bf16 *p, float x) {
	unsigned b = __float_as_uint(x);
	p->bits = (b & 0x7fffffff) > 0x7f800000 ? (b >> 16) | 0x40 : (b + 0x7fff + (b >> 16 & 1)) >> 16;
}

__device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xff800000); }
__device__ __forceinline__ float nan_value() { return __uint_as_float(0x7fc00000); }

// Sums and maxima over the 32 lanes of a warp, the same bits in every lane.
__device__ __forceinline__ float warp_sum(float v) {
	for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
	return v;
}
__device__ __forceinline__ float warp_max(float v) {
	for (int o = 16; o; o >>= 1) v = fmaxf(v, __shfl_xor_sync(~0u, v, o));
	return v;
}

// ROW_THREADS is the size of the blocks that work on one row; it is part of the order of sums.
#define ROW_THREADS 256

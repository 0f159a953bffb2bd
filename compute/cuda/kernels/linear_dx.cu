// LinearDX: dx = dy0·W0 + dy1·W1 + dy2·W2, or dx += …, W [out, in] row-major; the sum is rounded once.
// A W that is not there has out 0. Grid: ⌈in/64⌉ × ⌈rows/64⌉ blocks of 256 threads. Each element is one
// chain over the outputs of W0, then W1, then W2 (product.cuh).
#include "product.cuh"

#define LINEAR_DX(dt, T, dd, D) \
	extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS) linear_dx_##dt##_##dd(D *dx, stride_t ds, int rows, int in, int acc, \
		const T *dy0, stride_t s0, const T *w0, int out0, const T *dy1, stride_t s1, const T *w1, int out1, const T *dy2, stride_t s2, const T *w2, int out2) { \
		SHARED(ProductShared, s); \
		Tile t; \
		t.add(s, Operand<T>{dy0, s0, 1, rows}, Operand<T>{w0, 1, in, in}, out0); \
		t.add(s, Operand<T>{dy1, s1, 1, rows}, Operand<T>{w1, 1, in, in}, out1); \
		t.add(s, Operand<T>{dy2, s2, 1, rows}, Operand<T>{w2, 1, in, in}, out2); \
		t.put(dx, ds, rows, in, 1, acc); \
	} \
	KERNEL(linear_dx_##dt##_##dd)
LINEAR_DX(f32, float, f32, float)
LINEAR_DX(bf16, bf16, f32, float)
LINEAR_DX(bf16, bf16, bf16, bf16)

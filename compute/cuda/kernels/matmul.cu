// MatMul and LinearDW, and the head's products: y [m, n] = alpha·Σ a(i, k)·b(j, k), or y += …, where
// either operand may lie transposed. Grid: ⌈n/64⌉ × ⌈m/64⌉ blocks of 256 threads. Order: product.cuh.
#include "product.cuh"

#define MATMUL(da, A, db, B, dy, Y) \
	extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS) matmul_##da##_##db##_##dy(Y *y, stride_t ys, const A *a, stride_t ar, stride_t ac, \
		const B *b, stride_t br, stride_t bc, int m, int n, int k, float alpha, int acc) { \
		SHARED(ProductShared, s); \
		Tile t; \
		t.add(s, Operand<A>{a, ar, ac, m}, Operand<B>{b, br, bc, n}, k); \
		t.put(y, ys, m, n, alpha, acc); \
	} \
	KERNEL(matmul_##da##_##db##_##dy)
MATMUL(f32, float, f32, float, f32, float)
MATMUL(f32, float, f32, float, bf16, bf16)
MATMUL(bf16, bf16, bf16, bf16, f32, float)
MATMUL(bf16, bf16, bf16, bf16, bf16, bf16)
MATMUL(f32, float, bf16, bf16, f32, float)

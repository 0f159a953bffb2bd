// SwiGLUBackward: dup = dy·silu(gate), dgate = dy·up·σ·(1 + gate·(1 − σ)), σ = σ(gate). A block is a row.
#include "spin.cuh"

template <class T> __device__ void swiglu_backward(T *dgate, stride_t dgs, T *dup, stride_t dus, const T *dy, stride_t dys, const T *gate, stride_t gs, const T *up, stride_t us, int cols) {
	stride_t row = blockIdx.x;
	for (int c = threadIdx.x; c < cols; c += blockDim.x) {
		float d = load(dy + row * dys + c), g = load(gate + row * gs + c), u = load(up + row * us + c), sigmoid = 1 / (1 + expf(-g));
		store(dgate + row * dgs + c, d * u * sigmoid * (1 + g * (1 - sigmoid)));
		store(dup + row * dus + c, d * g * sigmoid);
	}
}

#define SWIGLU_BACKWARD(dt, T) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) swiglu_backward_##dt(T *dgate, stride_t dgs, T *dup, stride_t dus, const T *dy, stride_t dys, \
		const T *gate, stride_t gs, const T *up, stride_t us, int cols) { swiglu_backward(dgate, dgs, dup, dus, dy, dys, gate, gs, up, us, cols); } \
	KERNEL(swiglu_backward_##dt)
SWIGLU_BACKWARD(f32, float)
SWIGLU_BACKWARD(bf16, bf16)

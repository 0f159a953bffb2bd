// SwiGLU. A block is a row.
#include "spin.cuh"

template <class T> __device__ void swiglu(T *y, stride_t ys, const T *gate, stride_t gs, const T *up, stride_t us, int cols) {
	y += blockIdx.x * ys;
	gate += blockIdx.x * gs;
	up += blockIdx.x * us;
	for (int c = threadIdx.x; c < cols; c += blockDim.x) {
		float g = load(gate + c);
		store(y + c, g / (1 + expf(-g)) * load(up + c));
	}
}

#define SWIGLU(dt, T) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) swiglu_##dt(T *y, stride_t ys, const T *gate, stride_t gs, const T *up, stride_t us, int cols) { swiglu(y, ys, gate, gs, up, us, cols); } \
	KERNEL(swiglu_##dt)
SWIGLU(f32, float)
SWIGLU(bf16, bf16)

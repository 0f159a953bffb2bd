// The kernels, as the emulated driver's only code.
#include "../kernels/attention_paged.cu"
#include "../kernels/embed.cu"
#include "../kernels/linear.cu"
#include "../kernels/move.cu"
#include "../kernels/norm.cu"
#include "../kernels/rope.cu"
#include "../kernels/sample.cu"
#include "../kernels/swiglu.cu"

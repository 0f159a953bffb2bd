// HeadLogProb and its backward operation, apart from their products (matmul.cu): logits come in chunks
// of rows as z [n, vocab] F32 in scratch memory. A block is a row.
#include "block.cuh"

// statistics of one row of logits: lse, logp of the target, and where they are asked for entropy =
// lse − Σ p·z and argmax, the lowest index of the largest.
extern "C" __global__ void __launch_bounds__(ROW_THREADS) head_log_prob(float *logp, stride_t ps, float *lse, stride_t ls, float *entropy, stride_t es, int *argmax, stride_t as,
	const float *z, const int *target, stride_t ts, int vocab) {
	SHARED(BlockShared, s);
	stride_t row = blockIdx.x;
	z += row * vocab;
	float top = minus_infinity();
	int at = vocab;
	for (int v = threadIdx.x; v < vocab; v += ROW_THREADS)
		if (z[v] > top || at == vocab) {
			top = z[v];
			at = v;
		}
	for (int o = 16; o; o >>= 1) {
		float other = __shfl_xor_sync(~0u, top, o);
		int where = __shfl_xor_sync(~0u, at, o);
		if (where < vocab && (at == vocab || other > top || (other == top && where < at))) {
			top = other;
			at = where;
		}
	}
	if (threadIdx.x % 32 == 0) {
		s.sums[threadIdx.x / 32] = top;
		s.counts[threadIdx.x / 32] = at;
	}
	__syncthreads(); // each warp's largest is there
	top = s.sums[0];
	at = s.counts[0];
	for (int i = 1; i < ROW_WARPS; i++)
		if (s.counts[i] < vocab && (s.sums[i] > top || (s.sums[i] == top && s.counts[i] < at))) {
			top = s.sums[i];
			at = s.counts[i];
		}
	float sum = 0, weighted = 0;
	for (int v = threadIdx.x; v < vocab; v += ROW_THREADS) {
		float below = z[v] - top, e = expf(below);
		sum += e;
		weighted = fmaf(e, below == minus_infinity() ? 0 : below, weighted);
	}
	sum = block_sum(s, sum);
	if (entropy) weighted = block_sum(s, weighted);
	if (threadIdx.x != 0) return;
	float log_sum = logf(sum);
	lse[row * ls] = top + log_sum;
	logp[row * ps] = z[target[row * ts]] - top - log_sum;
	if (entropy) entropy[row * es] = log_sum - weighted / sum;
	if (argmax) argmax[row * as] = at;
}
KERNEL(head_log_prob)

// z becomes the gradient of the logits: coef·(onehot(target) − e^(z − lse)).
extern "C" __global__ void __launch_bounds__(ROW_THREADS) head_dz(float *z, const float *coef, stride_t cs, const float *lse, stride_t ls, const int *target, stride_t ts, int vocab) {
	stride_t row = blockIdx.x;
	z += row * vocab;
	float c = coef[row * cs], whole = lse[row * ls];
	int hit = target[row * ts];
	for (int v = threadIdx.x; v < vocab; v += blockDim.x) z[v] = c * ((v == hit ? 1.0f : 0.0f) - expf(z[v] - whole));
}
KERNEL(head_dz)

// dx[t] is the sum of those parts [n, cols] whose row asked for is t, in their order. A block is a row
// of dx.
template <class T> __device__ void head_dx(T *dx, stride_t xs, const float *parts, const int *rows, stride_t rs, int n, int cols) {
	SHARED(BlockShared, s);
	int t = blockIdx.x;
	// Column by column of 256, so that a sum stays in a register.
	for (int first = 0; first < cols; first += ROW_THREADS) {
		int c = first + threadIdx.x;
		float sum = 0;
		for (int from = 0; from < n; from += ROW_THREADS) {
			int i = from + threadIdx.x, found = block_list(s, i, i < n && rows[min(i, n - 1) * rs] == t);
			if (c < cols)
				for (int j = 0; j < found; j++) sum += parts[(stride_t)s.list[j] * cols + c];
		}
		if (c < cols) store(dx + t * xs + c, sum);
	}
}

#define HEAD_DX(dt, T) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) head_dx_##dt(T *dx, stride_t xs, const float *parts, const int *rows, stride_t rs, int n, int cols) { head_dx(dx, xs, parts, rows, rs, n, cols); } \
	KERNEL(head_dx_##dt)
HEAD_DX(f32, float)
HEAD_DX(bf16, bf16)

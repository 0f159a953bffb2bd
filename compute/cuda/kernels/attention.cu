// Attention and AttentionBackward over a forest. Keys come in blocks of 32 whose borders are absolute
// positions, and softmax is taken on the way (arXiv 2205.14135, section 3.1), so a row has the same
// bits whatever lies beside it; nothing is shared yet between the queries of a segment.
#include "attention.cuh"
#include "block.cuh"

// Forest is the device's side of a layout: token t is at position pos[t] of segment[t], which starts
// at token start[segment] and continues parent[segment], −1: none.
struct Forest {
	const int *segment, *pos, *start, *parent;

	// row of the token that segment s sees at position p.
	__device__ __forceinline__ int row(int s, int p) const {
		while (p < pos[start[s]]) s = parent[s];
		return start[s] + p - pos[start[s]];
	}
	// sees reports whether token t sees the token at row r ≤ t, windows aside.
	__device__ __forceinline__ bool sees(int t, int r) const {
		int s = segment[t], of = segment[r];
		while (s > of) s = parent[s];
		return s == of;
	}
};

struct KeyRows { int rows[ATTENTION_KEYS]; }; // −1 where a key is not seen

// load_keys puts block `start` of the keys and values that token t sees into k [32, dim + 1] and v
// [32, dim + 1].
template <class T> __device__ __forceinline__ void load_keys(KeyRows &s, float *k, float *v, const T *keys, stride_t ks, const T *values, stride_t vs,
	const Forest &f, int segment, int start, int from, int pos, int dim) {
	__syncthreads(); // the last block of keys is used up
	if (threadIdx.x < ATTENTION_KEYS) {
		int p = start + threadIdx.x;
		s.rows[threadIdx.x] = p >= from && p <= pos ? f.row(segment, p) : -1;
	}
	__syncthreads(); // rows are known
	for (int i = threadIdx.x; i < ATTENTION_KEYS * dim; i += blockDim.x) {
		int key = i / dim, d = i % dim, row = s.rows[key];
		k[key * (dim + 1) + d] = row < 0 ? 0 : load(keys + row * ks + blockIdx.y * dim + d);
		v[key * (dim + 1) + d] = row < 0 ? 0 : load(values + row * vs + blockIdx.y * dim + d);
	}
	__syncthreads(); // keys and values are there
}

// Attention. A block is a token and a key head, a warp one query head of its group. Dynamic shared
// memory: k, v, then q [dim] and p [32] of each warp.
template <class T> __device__ void attention(T *y, stride_t ys, float *lse, stride_t ls, const T *q, stride_t qs, const T *keys, stride_t ks, const T *values, stride_t vs,
	const Forest &f, int dim, int window, float scale) {
	DYNAMIC_SHARED(float, shared);
	SHARED(KeyRows, s);
	int group = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	float *k = shared, *v = k + ATTENTION_KEYS * (dim + 1), *mine = v + ATTENTION_KEYS * (dim + 1) + warp * (dim + ATTENTION_KEYS), *p = mine + dim;
	int t = blockIdx.x, head = blockIdx.y * group + warp, segment = f.segment[t], pos = f.pos[t];
	int from = window > 0 && pos + 1 > window ? pos + 1 - window : 0;
	for (int d = lane; d < dim; d += 32) mine[d] = load(q + t * qs + head * dim + d);
	Softmax softmax = {minus_infinity(), 0, {}};
	for (int start = from / ATTENTION_KEYS * ATTENTION_KEYS; start <= pos; start += ATTENTION_KEYS) {
		load_keys(s, k, v, keys, ks, values, vs, f, segment, start, from, pos, dim);
		softmax.add(mine, k, v, dim + 1, p, s.rows[lane] >= 0, dim, scale);
	}
	if (lane == 0) lse[t * ls + head] = softmax.top + logf(softmax.sum);
	softmax.write(y + t * ys + head * dim, dim);
}

// AttentionBackward's dq (arXiv 2307.08691, algorithm 2): with p = e^(score − lse) and ds =
// p·(dy·v − dy·y), dq = scale·Σ ds·k. Shaped as Attention, with dy [dim] of each warp too.
template <class T> __device__ void attention_dq(T *dq, stride_t dqs, const T *dy, stride_t dys, const T *y, stride_t ys, const float *lse, stride_t ls,
	const T *q, stride_t qs, const T *keys, stride_t ks, const T *values, stride_t vs, const Forest &f, int dim, int window, float scale) {
	DYNAMIC_SHARED(float, shared);
	SHARED(KeyRows, s);
	int group = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	float *k = shared, *v = k + ATTENTION_KEYS * (dim + 1), *mine = v + ATTENTION_KEYS * (dim + 1) + warp * (2 * dim + ATTENTION_KEYS), *grad = mine + dim, *p = grad + dim;
	int t = blockIdx.x, head = blockIdx.y * group + warp, segment = f.segment[t], pos = f.pos[t];
	int from = window > 0 && pos + 1 > window ? pos + 1 - window : 0;
	float delta = 0;
	for (int d = lane; d < dim; d += 32) {
		mine[d] = load(q + t * qs + head * dim + d);
		grad[d] = load(dy + t * dys + head * dim + d);
		delta = fmaf(grad[d], load(y + t * ys + head * dim + d), delta);
	}
	delta = warp_sum(delta);
	float whole = lse[t * ls + head], acc[ATTENTION_DIMS] = {};
	for (int start = from / ATTENTION_KEYS * ATTENTION_KEYS; start <= pos; start += ATTENTION_KEYS) {
		load_keys(s, k, v, keys, ks, values, vs, f, segment, start, from, pos, dim);
		float score = 0, dp = 0;
		for (int d = 0; d < dim; d++) {
			score = fmaf(mine[d], k[lane * (dim + 1) + d], score);
			dp = fmaf(grad[d], v[lane * (dim + 1) + d], dp);
		}
		p[lane] = s.rows[lane] < 0 ? 0 : expf(score * scale - whole) * (dp - delta);
		__syncwarp(); // p is whole
#pragma unroll
		for (int j = 0; j < ATTENTION_DIMS; j++) {
			int d = lane + 32 * j;
			if (d >= dim) break;
			float a = acc[j];
			for (int key = 0; key < ATTENTION_KEYS; key++) a = fmaf(p[key], k[key * (dim + 1) + d], a);
			acc[j] = a;
		}
		__syncwarp(); // p is read
	}
#pragma unroll
	for (int j = 0; j < ATTENTION_DIMS; j++) {
		int d = lane + 32 * j;
		if (d < dim) store(dq + t * dqs + head * dim + d, acc[j] * scale);
	}
}

#define PAIRS 32 /* of query token and head, at a time */

struct PairShared {
	BlockShared block;
	float p[PAIRS], ds[PAIRS];
	float k[ROW_THREADS], v[ROW_THREADS];
};

// AttentionBackward's dk and dv: dk = scale·Σ ds·q, dv = Σ p·dy, over the tokens that see the key, in
// the order of the layout, and each token's query heads in theirs: one chain, so that tokens that do
// not see it change nothing. A block is a key's token and a key head.
template <class T> __device__ void attention_dkv(T *dk, stride_t dks, T *dv, stride_t dvs, const T *dy, stride_t dys, const T *y, stride_t ys, const float *lse, stride_t ls,
	const T *q, stride_t qs, const T *keys, stride_t ks, const T *values, stride_t vs, const Forest &f, int tokens, int group, int dim, int window, float scale) {
	SHARED(PairShared, s);
	int r = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32, d0 = threadIdx.x;
	if (d0 < dim) {
		s.k[d0] = load(keys + r * ks + blockIdx.y * dim + d0);
		s.v[d0] = load(values + r * vs + blockIdx.y * dim + d0);
	}
	float sum_k = 0, sum_v = 0;
	for (int from = r; from < tokens; from += ROW_THREADS) {
		int t = from + threadIdx.x, n = block_list(s.block, t, t < tokens && f.sees(t, r) && (window == 0 || f.pos[t] - f.pos[r] < window));
		for (int first = 0; first < n * group; first += PAIRS) {
			for (int i = warp; i < PAIRS; i += ROW_WARPS) {
				if (first + i >= n * group) break;
				stride_t token = s.block.list[(first + i) / group];
				int at = (blockIdx.y * group + (first + i) % group) * dim;
				float score = 0, dp = 0, delta = 0;
				for (int d = lane; d < dim; d += 32) {
					float grad = load(dy + token * dys + at + d);
					score = fmaf(load(q + token * qs + at + d), s.k[d], score);
					dp = fmaf(grad, s.v[d], dp);
					delta = fmaf(grad, load(y + token * ys + at + d), delta);
				}
				score = warp_sum(score);
				dp = warp_sum(dp);
				delta = warp_sum(delta);
				float p = expf(score * scale - lse[token * ls + at / dim]);
				if (lane == 0) {
					s.p[i] = p;
					s.ds[i] = p * (dp - delta);
				}
			}
			__syncthreads(); // p and ds are whole
			if (d0 < dim)
				for (int i = 0; i < PAIRS && first + i < n * group; i++) {
					stride_t token = s.block.list[(first + i) / group];
					int at = (blockIdx.y * group + (first + i) % group) * dim + d0;
					sum_k = fmaf(s.ds[i], load(q + token * qs + at), sum_k);
					sum_v = fmaf(s.p[i], load(dy + token * dys + at), sum_v);
				}
			__syncthreads(); // p and ds are read
		}
	}
	if (d0 >= dim) return;
	store(dk + r * dks + blockIdx.y * dim + d0, sum_k * scale);
	store(dv + r * dvs + blockIdx.y * dim + d0, sum_v);
}

#define ATTENTION(dt, T) \
	extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attention_##dt(T *y, stride_t ys, float *lse, stride_t ls, const T *q, stride_t qs, const T *keys, stride_t ks, const T *values, stride_t vs, \
		const int *segment, const int *pos, const int *start, const int *parent, int dim, int window, float scale) { \
		attention(y, ys, lse, ls, q, qs, keys, ks, values, vs, Forest{segment, pos, start, parent}, dim, window, scale); \
	} \
	KERNEL(attention_##dt) \
	extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attention_dq_##dt(T *dq, stride_t dqs, const T *dy, stride_t dys, const T *y, stride_t ys, const float *lse, stride_t ls, \
		const T *q, stride_t qs, const T *keys, stride_t ks, const T *values, stride_t vs, const int *segment, const int *pos, const int *start, const int *parent, int dim, int window, float scale) { \
		attention_dq(dq, dqs, dy, dys, y, ys, lse, ls, q, qs, keys, ks, values, vs, Forest{segment, pos, start, parent}, dim, window, scale); \
	} \
	KERNEL(attention_dq_##dt) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) attention_dkv_##dt(T *dk, stride_t dks, T *dv, stride_t dvs, const T *dy, stride_t dys, const T *y, stride_t ys, const float *lse, stride_t ls, \
		const T *q, stride_t qs, const T *keys, stride_t ks, const T *values, stride_t vs, const int *segment, const int *pos, const int *start, const int *parent, int tokens, int group, int dim, int window, float scale) { \
		attention_dkv(dk, dks, dv, dvs, dy, dys, y, ys, lse, ls, q, qs, keys, ks, values, vs, Forest{segment, pos, start, parent}, tokens, group, dim, window, scale); \
	} \
	KERNEL(attention_dkv_##dt)
ATTENTION(f32, float)
ATTENTION(bf16, bf16)

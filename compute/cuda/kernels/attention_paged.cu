// WriteKV, CopyPages and AttentionPaged: the cache's pages, found by a plan's tables.
#include "attention.cuh"

// Pages is the device's side of a layout: token t is at position pos[t] of segment[t], whose pages
// are pages[first[segment]], ….
struct Pages {
	const int *segment, *pos, *first, *pages;
	int tokens; // that a page holds

	// row of the cache where position p of segment s lies.
	__device__ __forceinline__ stride_t row(int s, int p) const { return (stride_t)pages[first[s] + p / tokens] * tokens + p % tokens; }
};

// WriteKV. A block is a token. Bits are moved, not looked at.
template <class T> __device__ void write_kv(T *cache_k, stride_t cks, T *cache_v, stride_t cvs, const T *k, stride_t ks, const T *v, stride_t vs, const Pages &at, int cols) {
	int t = blockIdx.x;
	stride_t row = at.row(at.segment[t], at.pos[t]);
	for (int c = threadIdx.x; c < cols; c += blockDim.x) {
		cache_k[row * cks + c] = k[t * ks + c];
		cache_v[row * cvs + c] = v[t * vs + c];
	}
}

#define WRITE_KV(width, T) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) write_kv_##width(T *cache_k, stride_t cks, T *cache_v, stride_t cvs, const T *k, stride_t ks, const T *v, stride_t vs, \
		const int *segment, const int *pos, const int *first, const int *pages, int page_tokens, int cols) { \
		write_kv(cache_k, cks, cache_v, cvs, k, ks, v, vs, Pages{segment, pos, first, pages, page_tokens}, cols); \
	} \
	KERNEL(write_kv_##width)
WRITE_KV(b32, unsigned)
WRITE_KV(b16, unsigned short)

// CopyPages. A block is a row of a page, of K or of V.
template <class T> __device__ void copy_pages(T *cache, stride_t cs, const int *dst, stride_t ds, const int *src, stride_t ss, int page_tokens, int cols) {
	T *to = cache + ((stride_t)dst[blockIdx.y * ds] * page_tokens + blockIdx.x) * cs;
	const T *from = cache + ((stride_t)src[blockIdx.y * ss] * page_tokens + blockIdx.x) * cs;
	for (int c = threadIdx.x; c < cols; c += blockDim.x) to[c] = from[c];
}

#define COPY_PAGES(width, T) \
	extern "C" __global__ void __launch_bounds__(ROW_THREADS) copy_pages_##width(T *cache, stride_t cs, const int *dst, stride_t ds, const int *src, stride_t ss, int page_tokens, int cols) { copy_pages(cache, cs, dst, ds, src, ss, page_tokens, cols); } \
	KERNEL(copy_pages_##width)
COPY_PAGES(b32, unsigned)
COPY_PAGES(b16, unsigned short)

struct AttentionRows { stride_t rows[ATTENTION_KEYS]; }; // of the cache, −1 where a key is not seen

// AttentionPaged. A block is a token and a key head, a warp one query head of its group. Keys come in
// blocks of 32 whose borders are absolute positions; softmax is taken on the way (arXiv 2205.14135,
// section 3.1). So a row has the same bits whatever the pages, the chunk and the other sequences.
template <class T> __device__ void attention_paged(T *y, stride_t ys, const T *q, stride_t qs, const T *cache_k, stride_t ks, const T *cache_v, stride_t vs,
	const Pages &at, int dim, int window, float scale) {
	DYNAMIC_SHARED(float, shared);
	int group = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	SHARED(AttentionRows, s);
	// k [32, dim + 1], v [32, dim], then q [dim] and p [32] of each warp.
	float *k = shared, *v = k + ATTENTION_KEYS * (dim + 1);
	float *mine = v + ATTENTION_KEYS * dim + warp * (dim + ATTENTION_KEYS), *p = mine + dim;
	int t = blockIdx.x, head = blockIdx.y * group + warp, segment = at.segment[t], pos = at.pos[t];
	int from = window > 0 && pos + 1 > window ? pos + 1 - window : 0;
	for (int d = lane; d < dim; d += 32) mine[d] = load(q + t * qs + head * dim + d);
	Softmax softmax = {minus_infinity(), 0, {}};
	for (int start = from / ATTENTION_KEYS * ATTENTION_KEYS; start <= pos; start += ATTENTION_KEYS) {
		__syncthreads(); // the last block of keys is used up
		if (threadIdx.x < ATTENTION_KEYS) {
			int at_pos = start + threadIdx.x;
			s.rows[threadIdx.x] = at_pos >= from && at_pos <= pos ? at.row(segment, at_pos) : -1;
		}
		__syncthreads(); // rows are known
		for (int i = threadIdx.x; i < ATTENTION_KEYS * dim; i += blockDim.x) {
			int key = i / dim, d = i % dim;
			stride_t row = s.rows[key];
			k[key * (dim + 1) + d] = row < 0 ? 0 : load(cache_k + row * ks + blockIdx.y * dim + d);
			v[i] = row < 0 ? 0 : load(cache_v + row * vs + blockIdx.y * dim + d);
		}
		__syncthreads(); // keys and values are there
		softmax.add(mine, k, v, dim, p, s.rows[lane] >= 0, dim, scale);
	}
	softmax.write(y + t * ys + head * dim, dim);
}

#define ATTENTION_PAGED(dt, T) \
	extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attention_paged_##dt(T *y, stride_t ys, const T *q, stride_t qs, const T *cache_k, stride_t ks, const T *cache_v, stride_t vs, \
		const int *segment, const int *pos, const int *first, const int *pages, int page_tokens, int dim, int window, float scale) { \
		attention_paged(y, ys, q, qs, cache_k, ks, cache_v, vs, Pages{segment, pos, first, pages, page_tokens}, dim, window, scale); \
	} \
	KERNEL(attention_paged_##dt)
ATTENTION_PAGED(f32, float)
ATTENTION_PAGED(bf16, bf16)

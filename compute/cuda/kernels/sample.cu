// Sample: one token id a row, as compute.Sampling defines it. A block is a row.
//
// Probabilities are integers, e^((z − largest)/temperature) in units of 2⁻⁴⁰: sums of them are exact,
// so they are the same in any order, cuts are found by counting digits (radix select) with atomic
// additions, and the draw is a comparison of integers. 2¹⁷ tokens add up to less than 2⁵⁸.
#include "spin.cuh"

struct SampleShared {
	u64 counts[256];        // of one digit
	u64 sums[ROW_THREADS];  // of each thread's ids
	u64 total, need;
	unsigned top, first, prefix;
};

// rank is an integer that orders floats: NaN above +∞, −0 equal to 0.
__device__ __forceinline__ unsigned rank(float z) {
	if (z != z) return 0xffffffff;
	unsigned b = __float_as_uint(z + 0.0f);
	return b >> 31 ? ~b : b | 0x80000000;
}
#define RANK_INFINITY 0xff800000u
#define RANK_MINUS_INFINITY 0x007fffffu

struct Weigher {
	const float *z;
	float top, temperature;
	unsigned least; // rank of the smallest logit kept

	__device__ __forceinline__ bool kept(int v) const { return rank(z[v]) >= least; }
	__device__ __forceinline__ u64 weight(int v) const { return __float2ull_rn(expf((z[v] - top) / temperature) * 0x1p40f); }
};

// total is the sum of the kept weights.
__device__ u64 total(SampleShared &s, const Weigher &w, int vocab) {
	__syncthreads();
	if (threadIdx.x == 0) s.total = 0;
	__syncthreads();
	u64 sum = 0;
	for (int v = threadIdx.x; v < vocab; v += ROW_THREADS)
		if (w.kept(v)) sum += w.weight(v);
	atomicAdd(&s.total, sum);
	__syncthreads();
	return s.total;
}

// select is the largest rank r such that the kept ids of rank ≥ r weigh `need` or more: each 1, or
// its weight. need is at least 1 and at most what all of them weigh.
__device__ unsigned select(SampleShared &s, const Weigher &w, int vocab, u64 need, bool weighted) {
	__syncthreads();
	if (threadIdx.x == 0) {
		s.prefix = 0;
		s.need = need;
	}
	unsigned known = 0; // the digits of prefix that are found
	for (int shift = 24; shift >= 0; shift -= 8) {
		s.counts[threadIdx.x] = 0;
		__syncthreads();
		unsigned prefix = s.prefix;
		for (int v = threadIdx.x; v < vocab; v += ROW_THREADS) {
			unsigned r = rank(w.z[v]);
			if (r >= w.least && (r & known) == prefix) atomicAdd(&s.counts[r >> shift & 255], weighted ? w.weight(v) : (u64)1);
		}
		__syncthreads();
		if (threadIdx.x == 0) {
			int digit = 255;
			for (; digit > 0 && s.counts[digit] < s.need; digit--) s.need -= s.counts[digit];
			s.prefix |= (unsigned)digit << shift;
		}
		known |= 255u << shift;
		__syncthreads();
	}
	return s.prefix;
}

// uniform is 2⁵³·u of compute.Uniform, an odd integer below 2⁵³: Philox4x32-10.
__device__ u64 uniform(const int *counter, const int *key) {
	unsigned c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
	for (int i = 0; i < 10; i++) {
		unsigned h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0, h1 = __umulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
		c0 = h1 ^ c1 ^ k0;
		c1 = l1;
		c2 = h0 ^ c3 ^ k1;
		c3 = l0;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	return (((u64)c0 << 32 | c1) >> 12) << 1 | 1;
}

// draw is the first kept id, in id order, at which the cumulative weight exceeds u·total. Thread i
// adds up the i-th share of the ids.
__device__ int draw(SampleShared &s, const Weigher &w, int vocab, u64 u) {
	int share = (vocab + ROW_THREADS - 1) / ROW_THREADS, from = threadIdx.x * share, to = min(from + share, vocab);
	u64 sum = 0;
	for (int v = from; v < to; v++)
		if (w.kept(v)) sum += w.weight(v);
	__syncthreads();
	s.sums[threadIdx.x] = sum;
	__syncthreads();
	if (threadIdx.x != 0) return 0;
	u64 all = 0;
	for (int i = 0; i < ROW_THREADS; i++) all += s.sums[i];
	u64 target = __umul64hi(u, all) << 11 | u * all >> 53; // ⌊u·all⌋ < all, as u < 2⁵³
	int thread = 0;
	u64 below = 0;
	for (; below + s.sums[thread] <= target; thread++) below += s.sums[thread];
	int v = thread * share;
	for (;; v++)
		if (w.kept(v) && (below += w.weight(v)) > target) return v;
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS) sample(int *ids, stride_t is, float *logp, stride_t ls, const float *logits, stride_t zs,
	const int *key, stride_t ks, const int *counter, stride_t cs, const float *temperature, stride_t ts, const float *top_p, stride_t ps,
	const int *top_k, stride_t tks, int vocab) {
	SHARED(SampleShared, s);
	stride_t row = blockIdx.x;
	const float *z = logits + row * zs;
	if (threadIdx.x == 0) {
		s.top = 0;
		s.first = vocab;
	}
	__syncthreads();
	unsigned highest = 0;
	for (int v = threadIdx.x; v < vocab; v += ROW_THREADS) highest = max(highest, rank(z[v]));
	atomicMax(&s.top, highest);
	__syncthreads();
	highest = s.top;
	if (highest >= RANK_INFINITY || highest == RANK_MINUS_INFINITY) {
		if (threadIdx.x == 0) {
			ids[row * is] = -1;
			logp[row * ls] = nan_value();
		}
		return;
	}
	float top = __uint_as_float(highest >> 31 ? highest & 0x7fffffff : ~highest), t = temperature[row * ts];
	u64 whole = total(s, Weigher{z, top, 1, 0}, vocab);
	int id = 0;
	if (t == 0) {
		for (int v = threadIdx.x; v < vocab; v += ROW_THREADS)
			if (rank(z[v]) == highest) {
				atomicMin(&s.first, (unsigned)v);
				break;
			}
		__syncthreads();
		id = s.first;
	} else {
		Weigher w = {z, top, t, 0};
		int k = top_k[row * tks];
		if (k > 0 && k < vocab) w.least = select(s, w, vocab, k, false);
		double share = top_p[row * ps];
		if (share < 1) {
			u64 all = total(s, w, vocab), need = (u64)ceil(share * (double)all);
			w.least = select(s, w, vocab, min(max(need, (u64)1), all), true);
		}
		id = draw(s, w, vocab, uniform(counter + row * cs, key + row * ks));
	}
	if (threadIdx.x == 0) {
		ids[row * is] = id;
		logp[row * ls] = (float)((double)z[id] - top - (log((double)whole) - 40 * 0.693147180559945309417));
	}
}
KERNEL(sample)

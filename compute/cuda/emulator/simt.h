// simt.h runs CUDA C++ kernels on the processor, for tests. Every CUDA thread is a fiber with a stack
// of its own; the fibers of a block share one thread of the machine and switch at barriers and warp
// operations only; blocks are spread over threads. Shared memory starts as NaN in each block and
// ends at a page that cannot be touched.
//
// SIMT_SEED orders blocks, and the warps and threads in a block: 0 or unset by number, and threads
// take turns; 1 backwards, others at random, otherwise in each launch, and each runs as far ahead as
// it can. A failure names the seed. SIMT_THREADS is the number of machine threads.
//
// It knows full warps only, and no memory model: what one thread of a block writes, another sees at
// once. A missing barrier shows only where some order of threads makes it wrong.
#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <sys/mman.h>
#include <thread>
#include <type_traits>
#include <unistd.h>
#include <utility>
#include <vector>

namespace simt {

struct Dim { unsigned x, y, z; };

// Guarded is memory between two pages that cannot be touched. It ends at the second one, up to
// `grain` bytes; the slack before and behind it reads as NaN, and `slackTouched` says whether it has
// been written.
class Guarded {
public:
	static constexpr size_t grain = 16; // the widest aligned access of the kernels
	static constexpr unsigned char POISON = 0xff;
	char *data = nullptr;
	size_t size = 0;

	explicit Guarded(size_t n) : size(n), page(sysconf(_SC_PAGESIZE)) {
		size_t used = (n + grain - 1) / grain * grain;
		mapped = (used + page - 1) / page * page + 2 * page;
		base = (char *)mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (base == MAP_FAILED) { base = nullptr; return; }
		mprotect(base, page, PROT_NONE);
		mprotect(end(), page, PROT_NONE);
		data = end() - used;
		memset(base + page, POISON, mapped - 2 * page);
	}
	~Guarded() { if (base) munmap(base, mapped); }
	Guarded(const Guarded &) = delete;
	void operator=(const Guarded &) = delete;
	void poison() { memset(data, POISON, size); }
	bool slackTouched() const { return touched(base + page, data) || touched(data + size, end()); }

private:
	size_t page;
	char *base = nullptr;
	size_t mapped = 0;

	char *end() const { return base + mapped - page; }
	static bool touched(const char *from, const char *to) {
		return std::any_of(from, to, [](char c) { return (unsigned char)c != POISON; });
	}
};

enum State : uint8_t { RUNNING, AT_BARRIER, AT_WARP, DONE };

struct Warp {
	unsigned alive, arrived, generation;
	alignas(16) unsigned char slots[2][32][16]; // what lanes show each other, in two generations
};

struct Fiber {
	void *sp;
	Dim thread;
	unsigned number, generation;
	Warp *warp;
	State state;
};

struct Shared { const void *key; std::unique_ptr<Guarded> memory; };

struct Block {
	Dim index, size, grid;
	unsigned threads, alive, arrived;
	const char *barrier; // where threads wait
	std::vector<Fiber> fibers;
	std::vector<Warp> warps;
	std::vector<unsigned> order; // of threads: the first that can run does
	bool released;               // some of those that waited, since the scheduler looked
	bool ahead;                  // as far as it can, before the next; else they take turns
	std::vector<Shared> shared;
	std::unique_ptr<Guarded> dynamic;
	const char *kernel;
	char *stacks = nullptr;
	size_t stackBytes = 0;
	void *scheduler;
	void (*body)(void *);
	void *arg;
};

extern thread_local Block *block;
extern thread_local Fiber *current;

inline unsigned setting(const char *name, unsigned otherwise) {
	const char *s = getenv(name);
	return s && *s ? (unsigned)strtoul(s, nullptr, 10) : otherwise;
}

constexpr size_t STACK = 64 << 10;

// simt_switch saves the callee-saved registers on the stack, the stack in *save, and goes on at `to`.
extern "C" void simt_switch(void **save, void *to);

[[noreturn]] inline void fail(const char *what) {
	fprintf(stderr, "emulator: %s: block (%u, %u, %u): %s (SIMT_SEED=%u)\n", block->kernel, block->index.x, block->index.y, block->index.z, what, setting("SIMT_SEED", 0));
	fflush(stderr);
	_exit(3);
}

inline void yield() { simt_switch(&current->sp, block->scheduler); }

inline void release(Block *b) {
	b->arrived = 0;
	b->released = true;
	for (auto &f : b->fibers) if (f.state == AT_BARRIER) f.state = RUNNING;
}
inline void release(Block *b, Warp *w) { b->released = true; w->arrived = 0; w->generation++; }

inline void barrier(const char *where) {
	Block *b = block;
	if (b->arrived && b->barrier != where) fail("threads wait at different barriers");
	b->barrier = where;
	if (++b->arrived == b->alive) { release(b); return; }
	current->state = AT_BARRIER;
	yield();
}

inline void warpBarrier(unsigned mask = ~0u) {
	Warp *w = current->warp;
	if ((mask & w->alive) != w->alive) fail("a warp operation without some of the warp's threads");
	current->generation = w->generation;
	if (++w->arrived == (unsigned)__builtin_popcount(w->alive)) { release(block, w); return; }
	current->state = AT_WARP;
	yield();
}

inline unsigned lane() { return current->number & 31; }

// show gives v to all lanes, which then see it with `seen` in the returned generation.
template <class T> inline unsigned show(const T &v, unsigned mask) {
	static_assert(sizeof(T) <= 16, "too wide");
	unsigned g = current->warp->generation & 1;
	memcpy(current->warp->slots[g][lane()], &v, sizeof v);
	warpBarrier(mask);
	return g;
}
template <class T> inline T seen(unsigned g, unsigned l) {
	if (!(current->warp->alive >> l & 1)) fail("a warp operation reads a thread that is not there");
	T v;
	memcpy(&v, current->warp->slots[g][l], sizeof v);
	return v;
}

// shared is one array of the block's shared memory, made when a thread first names it.
inline void *shared(const void *key, size_t size) {
	for (auto &s : block->shared) if (s.key == key) return s.memory->data;
	block->shared.push_back({key, std::make_unique<Guarded>(size)});
	return block->shared.back().memory->data;
}

void launch(const char *kernel, Dim grid, Dim size, size_t dynamicBytes, void (*body)(void *), void *arg);

// Entry is a kernel by name: its parameters' sizes, and how to call it with pointers to them.
struct Entry {
	const char *name;
	void (*run)(void **);
	std::vector<size_t> params;
	Entry *next;
};
extern Entry *entries;

template <class... A> inline std::vector<size_t> sizes(void (*)(A...)) { return {sizeof(A)...}; }
template <class... A, size_t... I> inline void unpack(void (*k)(A...), void **p, std::index_sequence<I...>) { k(*(std::remove_reference_t<A> *)p[I]...); }
template <class... A> inline void call(void (*k)(A...), void **p) { unpack(k, p, std::index_sequence_for<A...>{}); }

} // namespace simt

#define KERNEL(k) \
	static simt::Entry entry_##k = {#k, [](void **p) { simt::call(k, p); }, simt::sizes(k), nullptr}; \
	__attribute__((constructor)) static void register_##k() { entry_##k.next = simt::entries; simt::entries = &entry_##k; }

#define SIMT_STRING_(x) #x
#define SIMT_STRING(x) SIMT_STRING_(x)

// The part of CUDA C++ that the kernels use.
#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define SHARED(T, name) static char name##_key; T &name = *(T *)simt::shared(&name##_key, sizeof(T))
#define DYNAMIC_SHARED(T, name) T *name = (T *)simt::block->dynamic->data
#define threadIdx (simt::current->thread)
#define blockIdx (simt::block->index)
#define blockDim (simt::block->size)
#define gridDim (simt::block->grid)
#define __syncthreads() simt::barrier(__FILE__ ":" SIMT_STRING(__LINE__))
#define __syncwarp() simt::warpBarrier()

template <class T> inline T __shfl_xor_sync(unsigned m, T v, int x) { unsigned g = simt::show(v, m); return simt::seen<T>(g, simt::lane() ^ x); }
template <class T> inline T __shfl_sync(unsigned m, T v, int l) { unsigned g = simt::show(v, m); return simt::seen<T>(g, l & 31); }
template <class T> inline T __shfl_up_sync(unsigned m, T v, unsigned d) { unsigned g = simt::show(v, m), l = simt::lane(); return simt::seen<T>(g, l >= d ? l - d : l); }
template <class T> inline T atomicAdd(T *p, T v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
inline unsigned atomicMax(unsigned *p, unsigned v) {
	unsigned old = __atomic_load_n(p, __ATOMIC_RELAXED);
	while (old < v && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
	return old;
}
inline unsigned atomicMin(unsigned *p, unsigned v) {
	unsigned old = __atomic_load_n(p, __ATOMIC_RELAXED);
	while (old > v && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
	return old;
}
inline unsigned __float_as_uint(float f) { unsigned u; memcpy(&u, &f, 4); return u; }
inline float __uint_as_float(unsigned u) { float f; memcpy(&f, &u, 4); return f; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)((unsigned __int128)a * b >> 64); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
inline unsigned long long __float2ull_rn(float f) { return (unsigned long long)std::nearbyint((double)f); }
using std::max;
using std::min;

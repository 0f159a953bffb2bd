// The scheduler of simt.h.
#include "simt.h"

namespace simt {

thread_local Block *block;
thread_local Fiber *current;
Entry *entries;

#if defined(__x86_64__)
__asm__(".text\n.globl simt_switch\n.hidden simt_switch\n.type simt_switch,@function\nsimt_switch:\n"
	" push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
	" mov %rsp,(%rdi)\n mov %rsi,%rsp\n"
	" pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n");
constexpr int SAVED = 6; // registers
#else
#error "the emulator has no stack switch for this processor"
#endif

// begin is where a fiber starts.
static void begin() {
	Block *b = block;
	b->body(b->arg);
	Fiber *f = current;
	f->state = DONE;
	b->alive--;
	f->warp->alive &= ~(1u << (f->number & 31));
	if (b->alive && b->arrived == b->alive) release(b); // an exited thread counts as arrived
	if (f->warp->alive && f->warp->arrived == (unsigned)__builtin_popcount(f->warp->alive)) release(b, f->warp);
	for (;;) yield();
}

static void runBlock(Block &b) {
	block = &b;
	b.alive = b.threads;
	b.arrived = 0;
	for (auto &w : b.warps) w.alive = w.arrived = w.generation = 0;
	for (auto &s : b.shared) s.memory->poison();
	b.dynamic->poison();
	for (unsigned i = 0; i < b.threads; i++) {
		Fiber &f = b.fibers[i];
		f.number = i;
		f.thread = {i % b.size.x, i / b.size.x % b.size.y, i / (b.size.x * b.size.y)};
		f.warp = &b.warps[i / 32];
		f.warp->alive |= 1u << (i & 31);
		f.state = RUNNING;
		// Staggered: else the tops of all stacks share the sets of the cache.
		void **sp = (void **)(b.stacks + (i + 1) * STACK - i % 64 * 192);
		*--sp = nullptr; // aligns the stack to 16 bytes at entry
		*--sp = (void *)begin;
		sp -= SAVED;
		memset(sp, 0, SAVED * sizeof *sp);
		f.sp = sp;
	}
	b.released = false;
	bool ran = false;
	for (size_t at = 0; b.alive;) {
		if (b.ahead && b.released) { b.released = false; at = 0; } // the first that can run does
		if (at == b.order.size()) {
			if (!ran) fail("not all threads reach the barrier that others wait at");
			ran = false;
			at = 0;
		}
		Fiber &f = b.fibers[b.order[at++]];
		if (f.state == AT_WARP && f.generation != f.warp->generation) f.state = RUNNING;
		if (f.state != RUNNING) continue;
		current = &f;
		ran = true;
		simt_switch(&b.scheduler, f.sp);
	}
	current = nullptr;
	block = nullptr;
}

// shuffled orders blocks, or the warps of a block.
static std::vector<unsigned> shuffled(unsigned n, unsigned seed) {
	std::vector<unsigned> v(n);
	for (unsigned i = 0; i < n; i++) v[i] = i;
	if (seed == 1) {
		std::reverse(v.begin(), v.end());
	} else if (seed) {
		for (unsigned i = n, r = seed; i > 1; i--) {
			r = r * 1664525 + 1013904223;
			std::swap(v[i - 1], v[(r >> 8) % i]);
		}
	}
	return v;
}

// ordered are the threads of a block, warp by warp.
static std::vector<unsigned> ordered(unsigned n, unsigned seed) {
	std::vector<unsigned> v;
	for (unsigned w : shuffled((n + 31) / 32, seed))
		for (unsigned lane : shuffled(std::min(32u, n - 32 * w), seed)) v.push_back(32 * w + lane);
	return v;
}

// The driver runs one launch at a time, so the stacks may stay mapped from one to the next.
void launch(const char *kernel, Dim grid, Dim size, size_t dynamicBytes, void (*body)(void *), void *arg) {
	static std::vector<std::pair<char *, size_t>> stacks;
	static unsigned launches;
	unsigned n = size.x * size.y * size.z, total = grid.x * grid.y * grid.z, seed = setting("SIMT_SEED", 0);
	if (seed > 1) seed = std::max(2u, seed + 2654435761u * launches++);
	unsigned workers = std::max(1u, std::min(setting("SIMT_THREADS", std::thread::hardware_concurrency()), total));
	if (stacks.size() < workers) stacks.resize(workers);
	for (unsigned i = 0; i < workers; i++) {
		if (stacks[i].second >= n * STACK) continue;
		if (stacks[i].first) munmap(stacks[i].first, stacks[i].second);
		stacks[i] = {(char *)mmap(nullptr, n * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), n * STACK};
	}
	std::vector<unsigned> blocks = shuffled(total, seed), threads = ordered(n, seed);
	std::atomic<unsigned> next{0};
	auto work = [&](unsigned worker) {
		Block b;
		b.size = size;
		b.grid = grid;
		b.threads = n;
		b.body = body;
		b.arg = arg;
		b.kernel = kernel;
		b.fibers.resize(n);
		b.warps.resize((n + 31) / 32);
		b.order = threads;
		b.ahead = seed != 0;
		b.stacks = stacks[worker].first;
		b.dynamic = std::make_unique<Guarded>(dynamicBytes);
		for (unsigned i; (i = next++) < total;) {
			unsigned at = blocks[i];
			b.index = {at % grid.x, at / grid.x % grid.y, at / (grid.x * grid.y)};
			runBlock(b);
			for (auto &s : b.shared) if (s.memory->slackTouched()) { block = &b; fail("writes outside its shared memory"); }
		}
	};
	std::vector<std::thread> others;
	for (unsigned i = 0; i < workers; i++) others.emplace_back(work, i);
	for (auto &t : others) t.join();
}

} // namespace simt

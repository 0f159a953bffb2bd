// A stand-in for libcuda.so.1: device memory is the host's, a module is the kernels compiled into
// this library, and a launch runs them by simt.h.
//
// It is as lazy and as strict as the interface allows. Work queued on a stream runs only when
// something waits for it (or, with a random SIMT_SEED, at once now and then), so a missing wait shows. Streams do not wait for the default stream.
// Memory starts as NaN between guard pages, and what a kernel writes just outside of it is found after
// the launch. What is still alive when the last context goes is a leak, and ends the process. Asynchronous copies want pinned memory. While a
// stream captures, what the driver forbids fails. A module has the kernels that its PTX names, with
// the parameters that it lists: a stale PTX is refused.
#include "simt.h"
#include <csignal>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>

#define API extern "C" __attribute__((visibility("default"))) int

using Address = unsigned long long;
using Work = std::function<void()>;

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_CONTEXT = 201,
	INVALID_PTX = 218, NOT_FOUND = 500, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, CAPTURE_WRONG_THREAD = 908 };

struct Graph { std::vector<Work> nodes; };

struct Stream {
	std::deque<Work> queue;
	std::unique_ptr<Graph> recording;
	std::thread::id recorder;
	bool spoiled = false;

	void step() { Work w = std::move(queue.front()); queue.pop_front(); w(); }
	void finish() { while (!queue.empty()) step(); }
	void put(Work w) {
		if (recording) { recording->nodes.push_back(std::move(w)); return; }
		queue.push_back(std::move(w));
		if (early()) finish();
	}
	// Now and then a stream is ahead of the others, as often as not far behind.
	static bool early() {
		static unsigned r = simt::setting("SIMT_SEED", 0);
		static const bool random = r > 1;
		r = r * 1664525 + 1013904223;
		return random && r >> 30 == 0;
	}
};

struct Event { Stream *stream = nullptr; unsigned long recorded = 0, done = 0; };

struct Parameters { std::vector<size_t> sizes; };
struct Module { std::map<std::string, Parameters> kernels; };

static const size_t TOTAL_MEMORY = 1ull << 33, MOST_DYNAMIC = 232448, DYNAMIC_BY_DEFAULT = 49152;

static std::mutex lock; // of all that follows
#define GUARD std::lock_guard<std::mutex> guard(lock)
static std::map<Address, std::unique_ptr<simt::Guarded>> device, pinned;
static size_t used;
static std::set<Stream *> streams;
static Stream defaultStream;
static std::map<void *, int> dynamicOf; // kernels that were allowed more
static int context, retained;
static long modules, graphs, events;
static thread_local void *currentContext;

static Stream *of(void *s) { return s ? (Stream *)s : &defaultStream; }

static void finishAll() {
	defaultStream.finish();
	for (auto *s : streams) s->finish();
}

// forbidden spoils the capture that this thread makes, if any.
static bool forbidden() {
	for (auto *s : streams)
		if (s->recording && s->recorder == std::this_thread::get_id()) return s->spoiled = true;
	return false;
}

static bool within(const std::map<Address, std::unique_ptr<simt::Guarded>> &in, Address p, size_t n) {
	auto i = in.upper_bound(p);
	if (i == in.begin()) return false;
	--i;
	return p + n <= i->first + i->second->size;
}

// A fault in a kernel names it, and the memory that it ran out of.
static struct sigaction before;
static void fault(int number, siginfo_t *info, void *at) {
	if (simt::current) {
		auto p = (Address)info->si_addr;
		auto i = device.upper_bound(p);
		char text[200];
		const Address near = 65536;
		bool next = i != device.end() && i->first - p < near;
		if (!next && i != device.begin()) next = (--i, p - i->first < i->second->size + near);
		if (next)
			snprintf(text, sizeof text, "thread %u: touches byte %lld of a block of %zu bytes", simt::current->number, (long long)(p - i->first), i->second->size);
		else
			snprintf(text, sizeof text, "thread %u: touches address %p", simt::current->number, info->si_addr);
		simt::fail(text);
	}
	if (before.sa_flags & SA_SIGINFO) before.sa_sigaction(number, info, at);
	else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) before.sa_handler(number);
	else { signal(number, SIG_DFL); raise(number); }
}

API cuInit(unsigned) {
	struct sigaction a = {};
	a.sa_sigaction = fault;
	a.sa_flags = SA_SIGINFO | SA_ONSTACK;
	sigaction(SIGSEGV, &a, &before);
	return OK;
}
API cuDriverGetVersion(int *v) { *v = 12040; return OK; }
API cuGetErrorString(int code, const char **text) {
	switch (code) {
	case CAPTURE_UNSUPPORTED: *text = "operation not permitted when stream is capturing"; break;
	case CAPTURE_INVALIDATED: *text = "operation failed due to a previous error during capture"; break;
	case CAPTURE_WRONG_THREAD: *text = "attempt to terminate a thread-local capture sequence from another thread"; break;
	case OUT_OF_MEMORY: *text = "out of memory"; break;
	default: *text = "emulated error"; return OK;
	}
	return OK;
}

API cuDeviceGetCount(int *n) { *n = 1; return OK; }
API cuDeviceGet(int *d, int ordinal) { if (ordinal) return INVALID_DEVICE; *d = 0; return OK; }
API cuDeviceGetName(char *s, int n, int) { snprintf(s, n, "SIMT emulator"); return OK; }
API cuDeviceTotalMem_v2(size_t *n, int) { *n = TOTAL_MEMORY; return OK; }
API cuDeviceGetAttribute(int *v, int attribute, int) {
	switch (attribute) {
	case 75: *v = 99; break;                  // compute capability: no such GPU
	case 76: *v = 0; break;                   // minor
	case 16: *v = 2; break;                   // multiprocessors
	case 10: *v = 32; break;                  // warp size
	case 1: *v = 1024; break;                 // threads of a block
	case 8: *v = DYNAMIC_BY_DEFAULT; break;   // shared memory of a block
	case 97: *v = MOST_DYNAMIC; break;        // and where it asks
	default: *v = 0;
	}
	return OK;
}
API cuDevicePrimaryCtxRetain(void **c, int) { GUARD; retained++; *c = &context; return OK; }
API cuDevicePrimaryCtxRelease_v2(int) {
	GUARD;
	if (!retained) return INVALID_CONTEXT;
	if (--retained) return OK;
	if (device.size() + pinned.size() + streams.size() + modules + graphs + events == 0) return OK;
	fprintf(stderr, "emulator: leak: the last context goes with %zu blocks of device memory, %zu of pinned memory, %zu streams, %ld events, %ld graphs, %ld modules\n",
		device.size(), pinned.size(), streams.size(), events, graphs, modules);
	fflush(stderr);
	_exit(3);
}
API cuCtxSetCurrent(void *c) { currentContext = c; return OK; }
API cuCtxGetCurrent(void **c) { *c = currentContext; return OK; }
API cuCtxSynchronize() {
	GUARD;
	if (!currentContext) return INVALID_CONTEXT;
	if (forbidden()) return CAPTURE_UNSUPPORTED;
	finishAll();
	return OK;
}

API cuMemGetInfo_v2(size_t *free, size_t *total) { GUARD; *free = TOTAL_MEMORY - used; *total = TOTAL_MEMORY; return OK; }
API cuMemAlloc_v2(Address *p, size_t n) {
	GUARD;
	if (!currentContext) return INVALID_CONTEXT;
	if (forbidden()) return CAPTURE_UNSUPPORTED;
	if (!n) return INVALID_VALUE;
	if (n > TOTAL_MEMORY - used) return OUT_OF_MEMORY;
	auto m = std::make_unique<simt::Guarded>(n);
	if (!m->data) return OUT_OF_MEMORY;
	used += n;
	*p = (Address)m->data;
	device[*p] = std::move(m);
	return OK;
}
API cuMemFree_v2(Address p) {
	GUARD;
	if (forbidden()) return CAPTURE_UNSUPPORTED;
	auto i = device.find(p);
	if (i == device.end()) return INVALID_VALUE;
	used -= i->second->size;
	device.erase(i);
	return OK;
}
API cuMemHostAlloc(void **p, size_t n, unsigned) {
	GUARD;
	if (!currentContext) return INVALID_CONTEXT;
	auto m = std::make_unique<simt::Guarded>(n);
	if (!n || !m->data) return n ? OUT_OF_MEMORY : INVALID_VALUE;
	*p = m->data;
	pinned[(Address)*p] = std::move(m);
	return OK;
}
API cuMemFreeHost(void *p) { GUARD; return pinned.erase((Address)p) ? OK : INVALID_VALUE; }

API cuMemcpyHtoDAsync_v2(Address d, const void *s, size_t n, void *stream) {
	GUARD;
	if (!within(device, d, n) || !within(pinned, (Address)s, n)) return INVALID_VALUE;
	of(stream)->put([=] { memcpy((void *)d, s, n); });
	return OK;
}
API cuMemcpyDtoHAsync_v2(void *d, Address s, size_t n, void *stream) {
	GUARD;
	if (!within(pinned, (Address)d, n) || !within(device, s, n)) return INVALID_VALUE;
	of(stream)->put([=] { memcpy(d, (void *)s, n); });
	return OK;
}
API cuMemcpyDtoDAsync_v2(Address d, Address s, size_t n, void *stream) {
	GUARD;
	if (!within(device, d, n) || !within(device, s, n)) return INVALID_VALUE;
	of(stream)->put([=] { memcpy((void *)d, (void *)s, n); });
	return OK;
}
API cuMemsetD8_v2(Address d, unsigned char v, size_t n) {
	GUARD;
	if (forbidden()) return CAPTURE_UNSUPPORTED;
	if (!within(device, d, n)) return INVALID_VALUE;
	defaultStream.put([=] { memset((void *)d, v, n); });
	return OK;
}

API cuStreamCreate(void **s, unsigned) { GUARD; auto *n = new Stream; streams.insert(n); *s = n; return OK; }
API cuStreamDestroy_v2(void *s) { GUARD; of(s)->finish(); streams.erase((Stream *)s); delete (Stream *)s; return OK; }
API cuStreamSynchronize(void *s) {
	GUARD;
	if (of(s)->recording) { of(s)->spoiled = true; return CAPTURE_UNSUPPORTED; }
	of(s)->finish();
	return OK;
}
API cuEventCreate(void **e, unsigned) { GUARD; events++; *e = new Event; return OK; }
API cuEventDestroy_v2(void *e) { GUARD; finishAll(); events--; delete (Event *)e; return OK; }
API cuEventRecord(void *event, void *s) {
	GUARD;
	auto *e = (Event *)event;
	if (of(s)->recording) { of(s)->spoiled = true; return CAPTURE_UNSUPPORTED; } // more than the driver forbids
	e->stream = of(s);
	auto turn = ++e->recorded;
	e->stream->put([=] { e->done = std::max(e->done, turn); });
	return OK;
}
API cuStreamWaitEvent(void *s, void *event, unsigned) {
	GUARD;
	auto *e = (Event *)event;
	if (of(s)->recording) { of(s)->spoiled = true; return CAPTURE_UNSUPPORTED; } // more than the driver forbids
	auto turn = e->recorded; // of now: what is recorded later does not matter
	auto *from = e->stream;
	if (from != of(s)) of(s)->put([=] { while (e->done < turn) from->step(); });
	return OK;
}
API cuEventSynchronize(void *event) {
	GUARD;
	auto *e = (Event *)event;
	while (e->done < e->recorded) e->stream->step();
	return OK;
}

API cuStreamBeginCapture_v2(void *s, int) {
	GUARD;
	if (!s || of(s)->recording) return INVALID_VALUE;
	of(s)->recording = std::make_unique<Graph>();
	of(s)->recorder = std::this_thread::get_id();
	of(s)->spoiled = false;
	return OK;
}
API cuStreamEndCapture(void *s, void **graph) {
	GUARD;
	*graph = nullptr;
	if (!of(s)->recording) return INVALID_VALUE;
	if (of(s)->recorder != std::this_thread::get_id()) return CAPTURE_WRONG_THREAD;
	auto g = std::move(of(s)->recording);
	if (of(s)->spoiled) return CAPTURE_INVALIDATED;
	graphs++;
	*graph = g.release();
	return OK;
}
API cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long) { GUARD; graphs++; *exec = new Graph(*(Graph *)graph); return OK; }
API cuGraphDestroy(void *graph) { GUARD; graphs--; delete (Graph *)graph; return OK; }
API cuGraphExecDestroy(void *exec) { GUARD; finishAll(); graphs--; delete (Graph *)exec; return OK; }
API cuGraphLaunch(void *exec, void *s) {
	GUARD;
	auto *g = (Graph *)exec;
	of(s)->put([=] { for (auto &n : g->nodes) n(); });
	return OK;
}

// parse finds the kernels of a PTX text and the sizes of their parameters.
static Module *parse(const std::string &ptx) {
	auto m = std::make_unique<Module>();
	for (size_t at = 0; (at = ptx.find(".entry ", at)) != std::string::npos;) {
		at += 7;
		size_t open = ptx.find('(', at), close = ptx.find(')', at);
		if (open == std::string::npos || close == std::string::npos) return nullptr;
		Parameters p;
		for (size_t i = open; (i = ptx.find(".param .", i)) < close;) {
			i += 9; // past the type's letter
			p.sizes.push_back(atoi(ptx.c_str() + i) / 8);
		}
		m->kernels[ptx.substr(at, open - at)] = p;
		at = close;
	}
	return m.release();
}
API cuModuleLoadData(void **m, const void *image) { GUARD; *m = parse((const char *)image); modules += *m != nullptr; return *m ? OK : INVALID_PTX; }
API cuModuleUnload(void *m) { GUARD; modules--; delete (Module *)m; return OK; }
API cuModuleGetFunction(void **f, void *m, const char *name) {
	auto i = ((Module *)m)->kernels.find(name);
	if (i == ((Module *)m)->kernels.end()) return NOT_FOUND;
	for (auto *e = simt::entries; e; e = e->next) {
		if (strcmp(e->name, name)) continue;
		if (e->params != i->second.sizes) {
			fprintf(stderr, "emulator: %s: the PTX has other parameters than the source\n", name);
			return INVALID_PTX;
		}
		*f = e;
		return OK;
	}
	return NOT_FOUND;
}
API cuFuncSetAttribute(void *f, int attribute, int v) {
	GUARD;
	if (attribute != 8 || v < 0 || v > (int)MOST_DYNAMIC) return INVALID_VALUE; // 8: dynamic shared memory
	dynamicOf[f] = v;
	return OK;
}
API cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *s, void **params, void **) {
	GUARD;
	if (!currentContext) return INVALID_CONTEXT;
	auto most = dynamicOf.count(f) ? (unsigned)dynamicOf[f] : (unsigned)DYNAMIC_BY_DEFAULT;
	if (!gx || !gy || !gz || gx > 0x7fffffff || gy > 65535 || gz > 65535 || !bx || !by || !bz || bx * by * bz > 1024 || shared > most) return INVALID_VALUE;
	auto *e = (simt::Entry *)f;
	std::vector<Address> cells(e->params.size());
	for (size_t i = 0; i < cells.size(); i++) memcpy(&cells[i], params[i], e->params[i]);
	of(s)->put([=] {
		struct Call { simt::Entry *entry; std::vector<void *> args; } call{e, {}};
		for (auto &c : cells) call.args.push_back((void *)&c);
		simt::launch(e->name, {gx, gy, gz}, {bx, by, bz}, shared, [](void *v) { auto *c = (Call *)v; c->entry->run(c->args.data()); }, &call);
		for (auto &m : device) {
			if (!m.second->slackTouched()) continue;
			fprintf(stderr, "emulator: %s: writes just outside a block of %zu bytes (SIMT_SEED=%u)\n", e->name, m.second->size, simt::setting("SIMT_SEED", 0));
			fflush(stderr);
			_exit(3);
		}
	});
	return OK;
}

//go:build cuda

// Each driver function is a jump through a slot. Until the library is loaded every slot leads to a
// function that returns CUDA_ERROR_NOT_INITIALIZED; afterwards, to the library's own, or to one that
// returns CUDA_ERROR_NOT_FOUND where an old driver lacks it.
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "trampoline.h"

#define HIDDEN __attribute__((visibility("hidden")))

enum { NOT_INITIALIZED = 3, NOT_FOUND = 500 };
static int not_initialized(void) { return NOT_INITIALIZED; }
static int not_found(void) { return NOT_FOUND; }

#define SYMBOL(name) HIDDEN void *spin_slot_##name = (void *)not_initialized;
#include "symbols.h"
#undef SYMBOL

static const struct { const char *name; void **slot; } slots[] = {
#define SYMBOL(name) { #name, &spin_slot_##name },
#include "symbols.h"
#undef SYMBOL
};

#if defined(__x86_64__)
#define SYMBOL(name) __asm__(".text\n.globl " #name "\n.hidden " #name "\n.type " #name ",@function\n" \
	#name ":\n jmp *spin_slot_" #name "(%rip)\n");
#elif defined(__aarch64__)
#define SYMBOL(name) __asm__(".text\n.globl " #name "\n.hidden " #name "\n.type " #name ",@function\n" \
	#name ":\n adrp x16, spin_slot_" #name "\n ldr x16, [x16, :lo12:spin_slot_" #name "]\n br x16\n");
#else
#error "add a trampoline for this processor"
#endif
#include "symbols.h"
#undef SYMBOL

// What cu's init calls.
HIDDEN int cuInit(unsigned flags) { (void)flags; return 0; }

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char opened[4096], why[4096];
static int result;

const char *spin_driver_load(const char *library, int *initialised) {
	const char *failed = NULL;
	pthread_mutex_lock(&lock);
	if (opened[0]) {
		if (strcmp(opened, library)) {
			snprintf(why, sizeof why, "this process has opened %s already", opened);
			failed = why;
		}
	} else if (strlen(library) >= sizeof opened) {
		failed = "its name is too long";
	} else {
		void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
		int (*init)(unsigned) = handle ? (int (*)(unsigned))dlsym(handle, "cuInit") : NULL;
		if (init) {
			for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
				void *f = dlsym(handle, slots[i].name);
				*slots[i].slot = f ? f : (void *)not_found;
			}
			strcpy(opened, library);
			result = init(0);
		} else {
			const char *error = dlerror();
			snprintf(why, sizeof why, "%s", error ? error : "it has no cuInit");
			failed = why;
		}
	}
	*initialised = result;
	pthread_mutex_unlock(&lock);
	return failed;
}

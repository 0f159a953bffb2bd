//go:build cuda

// Package driver is all that the engine knows of NVIDIA's driver: gorgonia.org/cu behind one small
// wrapper, with what cu lacks (stream capture, graphs, pinned memory, large shared memory) beside it.
//
// Nothing links libcuda. Every driver function that cu or this package names is a trampoline of
// this executable (trampoline.c), so a binary needs libc only and starts anywhere; Open loads
// libcuda.so.1, or the library it is told, and says why there is none. To link so, cu must be built
// with -L pointing to lib/, where an empty libcuda.a satisfies its -lcuda, and with cuda.h in
// reach: deploy/cuda.sh prints both.
//
// cu's own init calls cuInit and ends the process where that fails; here it meets a trampoline that
// does nothing and succeeds.
//
// Contexts are per thread in the driver's interface. Every call here makes its context current on
// a locked thread first, so callers may be on any goroutine.
package driver

//go:generate sh symbols.sh

/*
#cgo LDFLAGS: -L${SRCDIR}/lib -ldl
#include <stdlib.h>
#include "trampoline.h"
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// load opens the driver library ("": libcuda.so.1) and initialises it. A process has one: a second
// call returns the first one's outcome, and an error where it names another library.
func load(library string) error {
	if library == "" {
		library = "libcuda.so.1"
	}
	name := C.CString(library)
	defer C.free(unsafe.Pointer(name))
	var initialised C.int
	why := C.spin_driver_load(name, &initialised)
	if why != nil {
		return fmt.Errorf("CUDA driver %s: %s", library, C.GoString(why))
	}
	if initialised != 0 {
		return fmt.Errorf("CUDA driver %s: cuInit gives error %d", library, int(initialised))
	}
	return nil
}

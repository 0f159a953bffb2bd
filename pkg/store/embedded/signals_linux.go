package embedded

import (
	"syscall"
	"unsafe"
)

// sigaction is the kernel's struct of one signal's handler. It is kept as it is, never read.
type sigaction [4]uint64

// faults are the signals that libchdb sets back to the system's default even where it is told to
// leave signals alone: a nil pointer in Go would then end the process without a word, and a fault in
// a mapped file could not be turned into an error.
var faults = [...]syscall.Signal{syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGSEGV, syscall.SIGTRAP}

// keepFaults remembers the Go runtime's handlers and returns how to put them back.
func keepFaults() (restore func()) {
	var old [len(faults)]sigaction
	for i, s := range faults {
		old[i] = act(s, nil)
	}
	return func() {
		for i, s := range faults {
			act(s, &old[i])
		}
	}
}

// act asks for a signal's handler, and sets it where set is not nil. It cannot fail: signals and
// memory are valid.
func act(s syscall.Signal, set *sigaction) (was sigaction) {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(&was)), 8, 0, 0)
	return was
}

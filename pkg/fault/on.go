//go:build fault

package fault

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// passed counts how often the process came by the point that $SPIN_FAULT names. It is the process's, as
// the environment is: a counter that were handed down would be an argument of every constructor.
var passed atomic.Int64

// Point kills the process where $SPIN_FAULT names it.
func Point(name string) {
	at, count, several := strings.Cut(os.Getenv("SPIN_FAULT"), ":")
	if at != name {
		return
	}
	want := 1
	if several {
		var err error
		if want, err = strconv.Atoi(count); err != nil {
			panic("SPIN_FAULT: want point or point:count")
		}
	}
	if passed.Add(1) != int64(want) {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // cannot fail, and nothing is left to do where it does
	select {}                                      // until the signal has arrived
}

// PointOf is Point for name/what.
func PointOf(name, what string) { Point(name + "/" + what) }

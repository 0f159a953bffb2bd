//go:build cuda

package driver

/*
#include <cuda.h>
*/
import "C"

import (
	"unsafe"

	"gorgonia.org/cu"
)

// Stream is an ordered queue of copies and kernels. It belongs to one goroutine at a time.
type Stream struct {
	c      *Context
	s      cu.Stream
	params []unsafe.Pointer // of the launch being made
}

// NewStream makes a stream that does not wait for the default one.
func (c *Context) NewStream() (*Stream, error) {
	s := &Stream{c: c}
	err := c.do(func() (err error) { s.s, err = cu.MakeStream(cu.NonBlocking); return err })
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Destroy lets go of the stream, once its work is done.
func (s *Stream) Destroy() error { return s.c.do(s.s.Destroy) }

// Grid is the size of a launch: blocks in each of three dimensions, threads of a block in a row.
type Grid struct{ X, Y, Z, Threads, Shared int }

// Launch queues a kernel. Each argument is a cell of 8 bytes that holds it in its low bytes.
func (s *Stream) Launch(k Kernel, g Grid, args []uint64) error {
	s.params = s.params[:0]
	for i := range args {
		s.params = append(s.params, unsafe.Pointer(&args[i]))
	}
	return s.c.do(func() error {
		return k.fn.Launch(g.X, g.Y, g.Z, g.Threads, 1, 1, g.Shared, s.s, s.params)
	})
}

// CopyIn queues a copy from pinned memory, which must stay as it is until the copy is done.
func (s *Stream) CopyIn(dst Ptr, src []byte) error {
	if len(src) == 0 {
		return nil
	}
	return s.c.do(func() error {
		return cu.MemcpyHtoDAsync(dst, unsafe.Pointer(&src[0]), int64(len(src)), s.s)
	})
}

// CopyOut queues a copy to pinned memory.
func (s *Stream) CopyOut(dst []byte, src Ptr) error {
	if len(dst) == 0 {
		return nil
	}
	return s.c.do(func() error {
		return cu.MemcpyDtoHAsync(unsafe.Pointer(&dst[0]), src, int64(len(dst)), s.s)
	})
}

// Synchronize waits until all that was queued is done, and returns the first failure of it.
func (s *Stream) Synchronize() error { return s.c.do(s.s.Synchronize) }

// Event marks a point in a stream.
type Event struct {
	c *Context
	e cu.Event
}

// NewEvent makes an event for waiting, without a clock.
func (c *Context) NewEvent() (e Event, err error) {
	e.c = c
	err = c.do(func() error { e.e, err = cu.MakeEvent(cu.DisableTiming); return err })
	return e, err
}

// Record queues the event.
func (s *Stream) Record(e Event) error { return s.c.do(func() error { return e.e.Record(s.s) }) }

// After makes what s queues from now on wait for an event that has been recorded on another stream.
func (s *Stream) After(e Event) error { return s.c.do(func() error { return s.s.Wait(e.e, 0) }) }

// CopyOn queues a copy from device memory to device memory.
func (s *Stream) CopyOn(dst, src Ptr, bytes int64) error {
	if bytes == 0 {
		return nil
	}
	return s.c.do(func() error { return cu.MemcpyDtoDAsync(dst, src, bytes, s.s) })
}

// Wait returns once the work before the event is done.
func (e Event) Wait() error { return e.c.do(e.e.Synchronize) }

// Destroy lets go of the event.
func (e Event) Destroy() error { return e.c.do(func() error { return cu.DestroyEvent(&e.e) }) }

// Graph is recorded work, ready to run.
type Graph struct {
	s    *Stream
	exec C.CUgraphExec
}

func (s *Stream) handle() C.CUstream { return C.CUstream(unsafe.Pointer(s.s.C())) }

// Capture records what body queues on s, and queues nothing of it. While it runs, the driver
// refuses to wait for s, and to allocate memory on this thread. Where body panics nothing is kept.
func (s *Stream) Capture(body func()) (*Graph, error) {
	g := &Graph{s: s}
	err := s.c.do(func() error {
		// A capture must end on the thread where it began: do holds it.
		if err := check(C.cuStreamBeginCapture(s.handle(), C.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)); err != nil {
			return err
		}
		var recorded C.CUgraph
		ended := false
		end := func() error {
			ended = true
			return check(C.cuStreamEndCapture(s.handle(), &recorded))
		}
		defer func() {
			if !ended {
				_ = end() // body panics: that is what its caller shall see
			}
			if recorded != nil {
				C.cuGraphDestroy(recorded)
			}
		}()
		body()
		if err := end(); err != nil {
			return err
		}
		return check(C.cuGraphInstantiateWithFlags(&g.exec, recorded, 0))
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// Launch queues the recorded work on its stream.
func (g *Graph) Launch() error {
	return g.s.c.do(func() error { return check(C.cuGraphLaunch(g.exec, g.s.handle())) })
}

// Destroy lets go of the recording.
func (g *Graph) Destroy() error {
	return g.s.c.do(func() error { return check(C.cuGraphExecDestroy(g.exec)) })
}

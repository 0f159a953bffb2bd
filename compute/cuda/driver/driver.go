//go:build cuda

package driver

/*
#include <cuda.h>
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"gorgonia.org/cu"
)

// Ptr is an address in device memory.
type Ptr = cu.DevicePtr

// IsMemory reports whether err says that memory ran out.
func IsMemory(err error) bool { return err == error(cu.OutOfMemory) }

// Context is one GPU, made ready.
type Context struct {
	dev     cu.Device
	ctx     cu.CUContext
	modules []*Module

	Name         string
	Major, Minor int // compute capability
	Version      int // of the driver's interface: 12040 is 12.4
}

// Open makes GPU number ordinal ready. library is the driver's file; "" is the installed one.
func Open(library string, ordinal int) (*Context, error) {
	if err := load(library); err != nil {
		return nil, err
	}
	n, err := cu.NumDevices()
	if err != nil {
		return nil, fmt.Errorf("count GPUs: %w", err)
	}
	if ordinal < 0 || ordinal >= n {
		return nil, fmt.Errorf("no GPU %d: this machine has %d", ordinal, n)
	}
	c := &Context{Version: cu.Version()}
	for _, step := range []func() error{
		func() (err error) { c.dev, err = cu.GetDevice(ordinal); return err },
		func() (err error) { c.Name, err = c.dev.Name(); return err },
		func() (err error) { c.Major, c.Minor, err = c.dev.ComputeCapability(); return err },
		func() (err error) { c.ctx, err = c.dev.RetainPrimaryCtx(); return err },
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("open GPU %d: %w", ordinal, err)
		}
	}
	return c, nil
}

// Close waits for the GPU and lets go of it and of the modules. What was made from c must not be used
// afterwards; streams, events, graphs and memory are to be given back before.
func (c *Context) Close() error {
	err := c.Synchronize()
	for _, m := range c.modules {
		err = errors.Join(err, c.do(m.mod.Unload))
	}
	c.modules = nil
	return errors.Join(err, c.dev.ReleasePrimaryCtx())
}

// do runs f on a thread where c is current. It nests.
func (c *Context) do(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cu.SetCurrentContext(c.ctx); err != nil {
		return err
	}
	return f()
}

// Synchronize waits for all streams.
func (c *Context) Synchronize() error { return c.do(cu.Synchronize) }

// Alloc takes device memory, its contents undefined.
func (c *Context) Alloc(bytes int64) (p Ptr, err error) {
	err = c.do(func() error { p, err = cu.MemAlloc(bytes); return err })
	return p, err
}

// Free gives device memory back, once all streams are done with it.
func (c *Context) Free(p Ptr) error {
	return c.do(func() error {
		if err := cu.Synchronize(); err != nil {
			return err
		}
		return cu.MemFree(p)
	})
}

// Clear sets device memory to zero and waits for it: it is no stream's work, so no stream that
// comes later would wait for it.
func (c *Context) Clear(p Ptr, bytes int64) error {
	return c.do(func() error {
		if err := cu.MemsetD8(p, 0, bytes); err != nil {
			return err
		}
		return cu.Synchronize()
	})
}

// Pinned takes page-locked host memory, from and to which copies run beside kernels.
func (c *Context) Pinned(bytes int) ([]byte, error) {
	var p unsafe.Pointer
	err := c.do(func() error { return check(C.cuMemHostAlloc(&p, C.size_t(bytes), 0)) })
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), bytes), nil
}

// FreePinned gives it back.
func (c *Context) FreePinned(b []byte) error {
	return c.do(func() error { return check(C.cuMemFreeHost(unsafe.Pointer(unsafe.SliceData(b)))) })
}

// Module is loaded device code.
type Module struct {
	c   *Context
	mod cu.Module
}

// Load takes PTX, which the driver compiles for the GPU, or a cubin. The module lives until Close.
func (c *Context) Load(image []byte) (*Module, error) {
	m := &Module{c: c}
	err := c.do(func() (err error) { m.mod, err = cu.LoadData(string(image) + "\x00"); return err })
	if err != nil {
		return nil, err
	}
	c.modules = append(c.modules, m)
	return m, nil
}

// Kernel is a function of a module.
type Kernel struct{ fn cu.Function }

// Kernel finds one by name. shared is the dynamic shared memory that its launches may ask for, in
// bytes: above 48 KiB a kernel must be told so.
func (m *Module) Kernel(name string, shared int) (k Kernel, err error) {
	err = m.c.do(func() error {
		if k.fn, err = m.mod.Function(name); err != nil {
			return err
		}
		if shared > 48<<10 {
			fn := *(*C.CUfunction)(unsafe.Pointer(&k.fn)) // its only field
			return check(C.cuFuncSetAttribute(fn, C.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, C.int(shared)))
		}
		return nil
	})
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel %s: %w", name, err)
	}
	return k, nil
}

// status is a result of the functions that cu lacks.
type status C.CUresult

func (s status) Error() string {
	var text *C.char
	if C.cuGetErrorString(C.CUresult(s), &text) != 0 || text == nil {
		return fmt.Sprintf("CUDA error %d", int(s))
	}
	return C.GoString(text)
}

func check(r C.CUresult) error {
	if r == C.CUDA_SUCCESS {
		return nil
	}
	return status(r)
}

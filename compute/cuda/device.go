//go:build cuda

package cuda

import (
	"fmt"
	"sync"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cuda/driver"
)

// Options say which GPU.
type Options struct {
	Ordinal int    // the driver's number of it
	Driver  string // the driver library's file; "": libcuda.so.1 as installed
}

// Device is one GPU.
type Device struct {
	ctx     *driver.Context
	kernels kernels
	name    string

	mu     sync.Mutex
	memory map[driver.Ptr]bool // that has not been freed
	queues []*Backend
}

// New makes a GPU ready. The error says why there is none.
func New(o Options) (*Device, error) {
	ctx, err := driver.Open(o.Driver, o.Ordinal)
	if err != nil {
		return nil, err
	}
	if ctx.Major < 8 {
		ctx.Close()
		return nil, fmt.Errorf("GPU %d, %s, has compute capability %d.%d; the kernels need 8.0 (Ampere) or newer", o.Ordinal, ctx.Name, ctx.Major, ctx.Minor)
	}
	d := &Device{ctx: ctx, memory: map[driver.Ptr]bool{}}
	if d.kernels, err = loadKernels(ctx); err != nil {
		ctx.Close()
		return nil, fmt.Errorf("load kernels on GPU %d, %s, driver for CUDA %d.%d: %w", o.Ordinal, ctx.Name, ctx.Version/1000, ctx.Version%1000/10, err)
	}
	d.name = fmt.Sprintf("cuda sm_%d%d kernels %s", ctx.Major, ctx.Minor, kernelVersion())
	return d, nil
}

// Fingerprint names the GPU's generation and the kernels; see compute.Device.
func (d *Device) Fingerprint() string { return d.name }

// Close waits for the GPU and frees everything.
func (d *Device) Close() error {
	for _, b := range d.queues {
		b.close()
	}
	for p := range d.memory {
		_ = d.ctx.Free(p) // what failed before fails here again, and comes out of Close below
	}
	d.queues, d.memory = nil, nil
	return d.ctx.Close()
}

// memory is a block of the device's memory: what compute.Mem holds here.
type memory struct {
	dev   *Device
	ptr   driver.Ptr
	bytes int64
}

// alloc takes device memory or panics; an empty block has no address.
func (d *Device) alloc(what string, bytes int64) *memory {
	if bytes == 0 {
		return &memory{dev: d}
	}
	p, err := d.ctx.Alloc(bytes)
	if driver.IsMemory(err) {
		err = compute.ErrMemory
	}
	if err != nil {
		panic(fmt.Errorf("compute/cuda: %s: %d bytes: %w", what, bytes, err))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.memory[p] = true
	return &memory{d, p, bytes}
}

// free gives m back once the GPU is done with it. A failure of the GPU sticks in the queues.
func (m *memory) free() {
	if m.ptr == 0 {
		return
	}
	m.dev.mu.Lock()
	delete(m.dev.memory, m.ptr)
	m.dev.mu.Unlock()
	_ = m.dev.ctx.Free(m.ptr)
	m.ptr, m.bytes = 0, 0
}

// arena is a stack in one block.
type arena struct {
	mem              *memory
	size, used, peak int64
}

const alignment = 64 // bytes: the contract's

// NewArena reserves memory; see compute.Device.
func (d *Device) NewArena(bytes int64) compute.Arena {
	return &arena{mem: d.alloc("NewArena", bytes), size: bytes}
}

func (a *arena) Alloc(dt compute.DType, rows, cols int) compute.Tensor {
	if rows < 0 || cols < 0 {
		panic(fmt.Sprintf("compute: Alloc: [%d, %d]", rows, cols))
	}
	width := int64(width("Alloc", dt))
	end := a.used + int64(rows)*int64(cols)*width
	if end > a.size {
		panic(fmt.Sprintf("compute: Alloc: arena of %d bytes is full: [%d, %d] %v ends at %d", a.size, rows, cols, dt, end))
	}
	t := compute.Tensor{Mem: a.mem, Off: int(a.used / width), Rows: rows, Cols: cols, Stride: cols, DType: dt}
	a.used = min((end+alignment-1)/alignment*alignment, a.size)
	a.peak = max(a.peak, a.used)
	return t
}

func (a *arena) Mark() int64 { return a.used }

func (a *arena) Release(mark int64) {
	if mark < 0 || mark > a.used {
		panic(fmt.Sprintf("compute: Release: mark %d of %d bytes in use", mark, a.used))
	}
	a.used = mark
}

func (a *arena) Peak() int64 { return a.peak }

func (a *arena) Free() {
	a.mem.free()
	a.used, a.size = 0, 0
}

// weight is row-major [out, in].
type weight struct {
	mem     *memory
	out, in int
	dt      compute.DType
	train   bool
}

// NewWeight makes a matrix of zeros; see compute.Device. Every operation works on the one form.
func (d *Device) NewWeight(out, in int, dt compute.DType, train bool) compute.Weight {
	if out < 0 || in < 0 || dt == compute.I32 {
		panic(fmt.Sprintf("compute: NewWeight: [%d, %d] %v", out, in, dt))
	}
	w := &weight{d.alloc("NewWeight", int64(out)*int64(in)*int64(width("NewWeight", dt))), out, in, dt, train}
	if w.mem.bytes > 0 {
		if err := d.ctx.Clear(w.mem.ptr, w.mem.bytes); err != nil {
			panic(fmt.Errorf("compute/cuda: NewWeight: %w", err))
		}
	}
	return w
}

func (w *weight) Dims() (out, in int)  { return w.out, w.in }
func (w *weight) DType() compute.DType { return w.dt }
func (w *weight) Bytes() int64         { return w.mem.bytes }
func (w *weight) Free()                { w.mem.free() }

// width is the bytes of an element.
func width(op string, dt compute.DType) int {
	if dt > compute.I32 {
		panic(fmt.Sprintf("compute: %s: no %v on a GPU", op, dt))
	}
	return dt.Size()
}

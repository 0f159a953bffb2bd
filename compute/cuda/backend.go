//go:build cuda

package cuda

import (
	"fmt"
	"math"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cuda/driver"
)

// Backend is one stream of a GPU. It implements compute.Backend as far as package cuda says.
type Backend struct {
	dev    *Device
	k      *kernels
	stream *driver.Stream
	in     lane // for large uploads
	out    lane // for large downloads
	limits compute.Limits
	err    error // the first failure; nothing is queued after it

	scratch scratch

	args [28]uint64 // of the launch being made: a cell each

	up        staging
	down      staging
	pending   []landing // downloads that the caller's memory does not hold yet
	outUsed   bool      // since all downloads had landed
	issued    compute.Ticket
	events    [16]driver.Event // of the last tickets, by number
	graphs    map[uint64]*graph
	recording *graph // being captured
}

// rowThreads is kernels/spin.cuh's ROW_THREADS.
const rowThreads = 256

// NewBackend makes a stream. It panics where the device fails.
func (d *Device) NewBackend() compute.Backend {
	b := &Backend{dev: d, k: &d.kernels, graphs: map[uint64]*graph{}}
	must := func(err error) {
		if err != nil {
			panic(fmt.Errorf("compute/cuda: NewBackend: %w", err))
		}
	}
	var err error
	b.stream, err = d.ctx.NewStream()
	must(err)
	b.up.mem, err = d.ctx.Pinned(stagingBytes)
	must(err)
	b.down.mem, err = d.ctx.Pinned(stagingBytes)
	must(err)
	for i := range b.events {
		b.events[i], err = d.ctx.NewEvent()
		must(err)
	}
	for _, l := range []*lane{&b.in, &b.out} {
		l.mem = d.alloc("NewBackend", stagingBytes)
		l.stream, err = d.ctx.NewStream()
		must(err)
		l.event, err = d.ctx.NewEvent()
		must(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queues = append(d.queues, b)
	return b
}

// close lets go of everything but the memory, after a failure as well as it can.
func (b *Backend) close() {
	_ = b.stream.Synchronize()
	_ = b.out.stream.Synchronize()
	for _, g := range b.graphs {
		_ = g.exec.Destroy()
	}
	for _, e := range b.events {
		_ = e.Destroy()
	}
	_ = b.dev.ctx.FreePinned(b.up.mem)
	_ = b.dev.ctx.FreePinned(b.down.mem)
	for _, l := range []*lane{&b.in, &b.out} { // its memory is the device's to free
		_ = l.event.Destroy()
		_ = l.stream.Destroy()
	}
	_ = b.stream.Destroy()
}

// fail keeps the first failure, for Wait.
func (b *Backend) fail(err error) {
	if b.err == nil && err != nil {
		b.err = fmt.Errorf("%s: %w", b.dev.ctx.Name, err)
	}
}

// launch queues a kernel; see pointer, integer and float for the arguments.
func (b *Backend) launch(k driver.Kernel, g driver.Grid, args ...uint64) {
	if b.err != nil || g.X == 0 || g.Y == 0 {
		return
	}
	n := copy(b.args[:], args)
	g.Z = 1
	b.fail(b.stream.Launch(k, g, b.args[:n]))
}

// rows is a grid of a block for each row.
func rows(n int) driver.Grid { return driver.Grid{X: n, Y: 1, Threads: rowThreads} }

// address is where t starts, or 0 where it is absent. It panics on another device's memory, and
// on a view that leaves its block.
func (b *Backend) address(t compute.Tensor) uint64 {
	if t.Absent() {
		return 0
	}
	m, ok := t.Mem.(*memory)
	if !ok || m.dev != b.dev {
		panic("compute: tensor of another device")
	}
	width := int64(t.DType.Size())
	if t.Rows > 0 && t.Cols > 0 && (int64(t.Off)+int64(t.Rows-1)*int64(t.Stride)+int64(t.Cols))*width > m.bytes {
		panic("compute: tensor beyond its memory, or freed")
	}
	return uint64(m.ptr) + uint64(int64(t.Off)*width)
}

// weight is w as this device's own.
func (b *Backend) weight(w compute.Weight) *weight {
	r, ok := w.(*weight)
	if !ok || r.mem.dev != b.dev {
		panic("compute: weight of another device")
	}
	return r
}

// stride of t in elements.
func stride(t compute.Tensor) uint64 { return uint64(int64(t.Stride)) }

// integer is an int argument.
func integer(n int) uint64 {
	if int(int32(n)) != n {
		panic(fmt.Sprintf("compute/cuda: size %d does not fit 32 bits", n))
	}
	return uint64(uint32(int32(n)))
}

// flag is a bool as an int argument.
func flag(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

// float is a float argument.
func float(x float32) uint64 { return uint64(math.Float32bits(x)) }

// within panics where an operation is asked for more than was reserved.
func (b *Backend) within(op, what string, n, limit int) {
	if n > limit {
		panic(fmt.Sprintf("compute/cuda: %s: %d %s, reserved %d", op, n, what, limit))
	}
}

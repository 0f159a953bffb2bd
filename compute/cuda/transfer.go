//go:build cuda

package cuda

import (
	"cmp"
	"fmt"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cuda/driver"
)

// staging is pinned memory that copies pass through, filled from its start and emptied when all
// that uses it is done.
type staging struct {
	mem  []byte
	used int
}

// stagingBytes holds some hundred decode steps' inputs; larger transfers go in pieces.
const stagingBytes = 4 << 20

// take is the next n bytes, or fewer where the staging is nearly full; none where it is full.
func (s *staging) take(n int) []byte {
	n = min(n, len(s.mem)-s.used)
	piece := s.mem[s.used : s.used+n]
	s.used += n
	return piece
}

// lane takes large copies past the kernels: between pinned memory and device memory of its own on a
// stream of its own, while the queue computes. Its memory is the staging's twin: a piece lies in both
// at the same place. Between there and the tensor the piece moves in the queue's order, at the speed of
// the device's memory, so that no tensor is read or written before its turn.
type lane struct {
	stream *driver.Stream
	mem    *memory
	event  driver.Event
}

// laneBytes is the least that is worth two more calls of the driver.
const laneBytes = 64 << 10

func (l *lane) at(s *staging, piece []byte) driver.Ptr {
	return l.mem.ptr + driver.Ptr(uintptr(unsafe.Pointer(&piece[0]))-uintptr(unsafe.Pointer(&s.mem[0])))
}

// upload queues a piece of staging for dst.
func (b *Backend) upload(dst driver.Ptr, piece []byte) error {
	if len(piece) < laneBytes {
		return b.stream.CopyIn(dst, piece)
	}
	at := b.in.at(&b.up, piece)
	return cmp.Or(b.in.stream.CopyIn(at, piece), b.in.stream.Record(b.in.event), b.stream.After(b.in.event),
		b.stream.CopyOn(dst, at, int64(len(piece))))
}

// download queues src for a piece of staging.
func (b *Backend) download(piece []byte, src driver.Ptr) error {
	if len(piece) < laneBytes {
		return b.stream.CopyOut(piece, src)
	}
	at := b.out.at(&b.down, piece)
	b.outUsed = true
	return cmp.Or(b.stream.CopyOn(at, src, int64(len(piece))), b.stream.Record(b.out.event), b.out.stream.After(b.out.event),
		b.out.stream.CopyOut(piece, at))
}

// mark queues an event behind all that was queued before, on the lane too where that may be at work.
func (b *Backend) mark(e driver.Event) error {
	if !b.outUsed {
		return b.stream.Record(e)
	}
	return cmp.Or(b.stream.Record(b.out.event), b.out.stream.After(b.out.event), b.out.stream.Record(e))
}

// landing is a piece of a download: from staging to the caller's memory.
type landing struct {
	dst, src []byte
	ticket   compute.Ticket
}

func (b *Backend) notRecording(op string) {
	if b.recording != nil {
		panic("compute/cuda: " + op + " inside Graph")
	}
}

// Upload copies src to the device in the order of the queue; src is free on return.
func (b *Backend) Upload(dst compute.Tensor, src []byte) {
	compute.CheckUpload(dst, len(src))
	b.notRecording("Upload")
	b.eachRun(dst, func(p driver.Ptr, from, to int) { b.send(p, src[from:to]) })
}

// eachRun calls f for each contiguous run of t's bytes: its address, and its place in a packed copy.
func (b *Backend) eachRun(t compute.Tensor, f func(p driver.Ptr, from, to int)) {
	at, width := b.address(t), t.DType.Size()
	if t.Contiguous() {
		f(driver.Ptr(at), 0, t.Len()*width)
		return
	}
	for r := range t.Rows {
		f(driver.Ptr(at)+driver.Ptr(r*t.Stride*width), r*t.Cols*width, (r+1)*t.Cols*width)
	}
}

// send queues a copy to the device through staging.
func (b *Backend) send(dst driver.Ptr, src []byte) {
	for len(src) > 0 && b.err == nil {
		piece := b.up.take(len(src))
		if len(piece) == 0 {
			b.fail(b.stream.Synchronize())
			b.up.used = 0
			continue
		}
		n := copy(piece, src)
		b.fail(b.upload(dst, piece))
		dst, src = dst+driver.Ptr(n), src[n:]
	}
}

// Download queues a copy to the host; dst holds it after Wait.
func (b *Backend) Download(dst []byte, src compute.Tensor) compute.Ticket {
	compute.CheckUpload(src, len(dst))
	b.notRecording("Download")
	b.issued++
	b.eachRun(src, func(p driver.Ptr, from, to int) { b.receive(dst[from:to], p) })
	if b.err == nil {
		b.fail(b.mark(b.events[b.issued%compute.Ticket(len(b.events))]))
	}
	return b.issued
}

// receive queues a copy from the device to staging, and notes where it shall land.
func (b *Backend) receive(dst []byte, src driver.Ptr) {
	for len(dst) > 0 && b.err == nil {
		piece := b.down.take(len(dst))
		if len(piece) == 0 {
			b.fail(b.stream.Synchronize())
			b.fail(b.out.stream.Synchronize())
			b.land(b.issued)
			continue
		}
		b.fail(b.download(piece, src))
		b.pending = append(b.pending, landing{dst[:len(piece)], piece, b.issued})
		dst, src = dst[len(piece):], src+driver.Ptr(len(piece))
	}
}

// land copies what has arrived, up to a ticket, to where the caller wants it.
func (b *Backend) land(upTo compute.Ticket) {
	n := 0
	for ; n < len(b.pending) && b.pending[n].ticket <= upTo && b.err == nil; n++ {
		copy(b.pending[n].dst, b.pending[n].src)
	}
	rest := copy(b.pending, b.pending[n:])
	clear(b.pending[rest:])
	b.pending = b.pending[:rest]
	if rest == 0 {
		b.down.used, b.outUsed = 0, false
	}
}

// Wait blocks until a download, and all that was queued before it, is done.
func (b *Backend) Wait(t compute.Ticket) error {
	if t > b.issued {
		panic(fmt.Sprintf("compute: Wait: ticket %d of %d", t, b.issued))
	}
	if t == 0 || b.err != nil {
		return b.err
	}
	// An old ticket's event may mark a later one by now, which is no less done.
	b.fail(b.events[t%compute.Ticket(len(b.events))].Wait())
	b.land(t)
	return b.err
}

// widths gives a kernel's form for dt's elements, whose bits alone matter.
func (p *pair) width(dt compute.DType) driver.Kernel {
	if dt.Size() == 2 {
		return p[1]
	}
	return p[0]
}

// Zero sets every element to 0; see compute.Backend.
func (b *Backend) Zero(t compute.Tensor) {
	at := b.address(t)
	if t.Absent() {
		panic("compute: Zero: tensor is absent")
	}
	b.launch(b.k.zero.width(t.DType), rows(t.Rows), at, stride(t), integer(t.Cols))
}

// Copy converts between F32 and BF16, or copies; see compute.Backend.
func (b *Backend) Copy(dst, src compute.Tensor) {
	compute.CheckCopy(dst, src)
	k := b.k.copyI32
	if src.DType != compute.I32 {
		k = b.k.copy[form(dst.DType)][form(src.DType)]
	}
	b.launch(k, rows(dst.Rows), b.address(dst), stride(dst), b.address(src), stride(src), integer(dst.Cols))
}

func form(dt compute.DType) int {
	if dt == compute.BF16 {
		return 1
	}
	return 0
}

// Gather picks rows; see compute.Backend.
func (b *Backend) Gather(y, x, from compute.Tensor) {
	compute.CheckGather(y, x, from)
	b.launch(b.k.gather.width(x.DType), rows(y.Rows), b.address(y), stride(y), b.address(x), stride(x), b.address(from), stride(from), integer(y.Cols))
}

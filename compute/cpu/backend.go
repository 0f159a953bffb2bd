package cpu

import (
	"fmt"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// Backend runs operations on a Device. An operation is done when its call returns. It implements
// compute.Backend.
type Backend struct {
	device  *Device
	k       *kernels
	pool    *pool
	scratch scratch
	vector  vectorJobs

	gemm    gemmJobs
	storing storing
	moving  moving
	head    headJobs
}

func newBackend(d *Device) *Backend {
	b := &Backend{device: d, k: &d.kernels, pool: d.pool}
	b.gemm.few.ranges = make([]fewRange, d.pool.threads)
	b.gemm.fewPacking.x = &b.gemm.few
	return b
}

// Reserve takes scratch memory: the operations run one after the other, so that the largest need
// is enough.
func (b *Backend) Reserve(l compute.Limits) int64 {
	b.scratch.grow(max(b.gemmScratch(l), b.vectorScratch(l)))
	return b.scratch.size()
}

// own panics unless the tensors that are present lie in this device's memory.
func (b *Backend) own(ts ...compute.Tensor) {
	for _, t := range ts {
		if t.Absent() {
			continue
		}
		if m := memoryOf(t); m.owner != b.device {
			panic("compute/cpu: tensor of another device, or of an arena that was freed")
		}
		pointer(t)
	}
}

// Upload copies src to dst.
func (b *Backend) Upload(dst compute.Tensor, src []byte) {
	compute.CheckUpload(dst, len(src))
	b.own(dst)
	line := dst.Cols * dst.DType.Size()
	p, stride := pointer(dst), dst.Stride*dst.DType.Size()
	for r := range dst.Rows {
		copy(unsafe.Slice((*byte)(unsafe.Add(p, r*stride)), line), src[r*line:])
	}
}

// Download copies src to dst at once; there is nothing to wait for.
func (b *Backend) Download(dst []byte, src compute.Tensor) compute.Ticket {
	compute.CheckUpload(src, len(dst))
	b.own(src)
	line := src.Cols * src.DType.Size()
	p, stride := pointer(src), src.Stride*src.DType.Size()
	for r := range src.Rows {
		copy(dst[r*line:], unsafe.Slice((*byte)(unsafe.Add(p, r*stride)), line))
	}
	return 0
}

// Wait returns nil: a CPU's operations are done, and do not fail.
func (b *Backend) Wait(compute.Ticket) error { return nil }

// Graph runs body.
func (b *Backend) Graph(_ uint64, body func()) { body() }

// scratch is memory for the length of one operation. An operation begins with reset, then takes
// what Reserve counted for it.
type scratch struct {
	mem  *memory
	used int64
}

func (s *scratch) size() int64 {
	if s.mem == nil {
		return 0
	}
	return s.mem.bytes
}

func (s *scratch) grow(bytes int64) {
	if bytes = roundUp(bytes, lineBytes); bytes > s.size() {
		if s.mem != nil {
			s.mem.free()
		}
		s.mem = newMemory(bytes)
	}
}

func (s *scratch) reset() { s.used = 0 }

// left is the bytes that take still has.
func (s *scratch) left() int64 { return s.size() - s.used }

// take returns n elements with undefined contents, aligned to lineBytes. Each takes
// scratchBytes(n, size) of the reserve.
func take[T compute.Element](s *scratch, n int) []T {
	var x T
	bytes := scratchBytes(n, int(unsafe.Sizeof(x)))
	if bytes > s.left() {
		panic(fmt.Sprintf("compute/cpu: %d bytes of scratch asked for, %d reserved: the operation is larger than the Limits given to Reserve", s.used+bytes, s.size()))
	}
	p := unsafe.Add(s.mem.base, s.used)
	s.used += bytes
	return unsafe.Slice((*T)(p), n)
}

// scratchBytes is what take counts for n elements of a size.
func scratchBytes(n, size int) int64 { return roundUp(int64(n)*int64(size), lineBytes) }

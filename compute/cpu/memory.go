package cpu

import (
	"fmt"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// hugePage is the size from which memory is mapped on its own, with the advice to use huge pages.
const hugePage = 2 << 20

// lineBytes is the alignment of everything: a cache line, and the widest vector.
const lineBytes = 64

// memory is a block: the Mem of this device's tensors. Go's collector never moves or scans it.
type memory struct {
	owner  *Device        // of an arena's
	base   unsafe.Pointer // aligned to lineBytes
	bytes  int64
	kept   []byte // what base points into, where the collector owns it
	mapped []byte // where the operating system does
	slab   *slab  // where it is one of several blocks of slabs
	slabs  *slabs
}

// newMemory returns a block of zeros. It panics with compute.ErrMemory wrapped.
func newMemory(bytes int64) *memory {
	if bytes < 0 || int64(int(bytes)) != bytes {
		panic(fmt.Errorf("compute/cpu: %d bytes: %w", bytes, compute.ErrMemory))
	}
	m := &memory{bytes: bytes}
	if bytes >= hugePage {
		mapped, err := mapPages(int(bytes) + hugePage)
		if err != nil {
			panic(fmt.Errorf("compute/cpu: %d bytes: %w (%w)", bytes, compute.ErrMemory, err))
		}
		if mapped != nil {
			m.mapped, m.base = mapped, align(mapped, hugePage)
			return m
		}
	}
	m.kept = make([]byte, bytes+lineBytes)
	m.base = align(m.kept, lineBytes)
	return m
}

func align(b []byte, to uintptr) unsafe.Pointer {
	p := unsafe.Pointer(&b[0])
	return unsafe.Add(p, (to-uintptr(p)%to)%to)
}

func (m *memory) free() {
	if m.mapped != nil {
		unmapPages(m.mapped)
	}
	if m.slab != nil {
		m.slabs.give(m.slab)
	}
	*m = memory{}
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// memoryOf is t's block; t must be this device's.
func memoryOf(t compute.Tensor) *memory {
	m, ok := t.Mem.(*memory)
	if !ok {
		panic(fmt.Sprintf("compute/cpu: tensor of a %T, want this device's", t.Mem))
	}
	return m
}

// pointer is the address of t's first element, after checking that t lies within its block.
func pointer(t compute.Tensor) unsafe.Pointer {
	m := memoryOf(t)
	size := t.DType.Size()
	if t.Rows < 0 || t.Cols < 0 || t.Off < 0 || t.Stride < t.Cols && t.Rows > 1 {
		panic(fmt.Sprintf("compute/cpu: tensor [%d, %d] with stride %d at %d", t.Rows, t.Cols, t.Stride, t.Off))
	}
	if t.Rows > 0 && int64(t.Off+(t.Rows-1)*t.Stride+t.Cols)*int64(size) > m.bytes {
		panic(fmt.Sprintf("compute/cpu: tensor [%d, %d] at %d ends behind its memory (freed?)", t.Rows, t.Cols, t.Off))
	}
	return unsafe.Add(m.base, t.Off*size)
}

// row is row r of t as a slice. T is t.DType's Go type.
func row[T compute.Element](t compute.Tensor, r int) []T {
	return unsafe.Slice((*T)(unsafe.Add(memoryOf(t).base, (t.Off+r*t.Stride)*t.DType.Size())), t.Cols)
}

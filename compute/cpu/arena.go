package cpu

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute"
)

// arena is a stack of tensors in one block; see compute.Arena.
type arena struct {
	mem        *memory
	size       int64
	used, peak int64
}

func newArena(d *Device, bytes int64) *arena {
	size := roundUp(bytes, lineBytes)
	a := &arena{mem: newMemory(size), size: size}
	a.mem.owner = d
	return a
}

func (a *arena) Alloc(dt compute.DType, rows, cols int) compute.Tensor {
	if dt != compute.F32 && dt != compute.BF16 && dt != compute.I32 {
		panic(fmt.Sprintf("compute/cpu: no %v on this device", dt))
	}
	if rows < 0 || cols < 0 {
		panic(fmt.Sprintf("compute/cpu: Alloc of [%d, %d]", rows, cols))
	}
	size := int64(dt.Size())
	start := a.used
	end := start + roundUp(int64(rows)*int64(cols)*size, lineBytes)
	if end > a.size {
		panic(fmt.Sprintf("compute/cpu: arena of %d bytes is full: %d in use, %v [%d, %d] asked for", a.size, start, dt, rows, cols))
	}
	a.used, a.peak = end, max(a.peak, end)
	return compute.Tensor{Mem: a.mem, Off: int(start / size), Rows: rows, Cols: cols, Stride: cols, DType: dt}
}

func (a *arena) Mark() int64 { return a.used }

func (a *arena) Release(mark int64) {
	if mark < 0 || mark > a.used {
		panic(fmt.Sprintf("compute/cpu: Release to %d of %d bytes in use", mark, a.used))
	}
	a.used = mark
}

func (a *arena) Peak() int64 { return a.peak }

func (a *arena) Free() {
	a.mem.free()
	a.size, a.used = 0, 0
}

package ref

import (
	"fmt"
	"math"

	"github.com/seed-8780d58e/spin/compute"
)

// mem is one tensor's memory: f for float dtypes, i for I32, neither once it is released.
type mem struct {
	dev *device
	f   []float64
	i   []int32
}

// arena counts bytes as a device would that stores each dtype in its own size.
type arena struct {
	dev              *device
	size, used, peak int64
	live             []*mem
	ends             []int64 // used, after each of live
}

const alignment = 64

func (a *arena) Alloc(dt compute.DType, rows, cols int) compute.Tensor {
	if rows < 0 || cols < 0 {
		panic(fmt.Sprintf("compute: Alloc: [%d, %d]", rows, cols))
	}
	n := rows * cols
	a.used += (int64(n)*int64(dt.Size()) + alignment - 1) / alignment * alignment
	if a.used > a.size {
		panic(fmt.Sprintf("compute: Alloc: arena of %d bytes is full: [%d, %d] %v ends at %d", a.size, rows, cols, dt, a.used))
	}
	a.peak = max(a.peak, a.used)
	m := &mem{dev: a.dev}
	if dt == compute.I32 {
		m.i = make([]int32, n)
		for i := range m.i {
			m.i[i] = math.MinInt32
		}
	} else {
		m.f = make([]float64, n)
		for i := range m.f {
			m.f[i] = math.NaN()
		}
	}
	a.live, a.ends = append(a.live, m), append(a.ends, a.used)
	return compute.Tensor{Mem: m, Rows: rows, Cols: cols, Stride: cols, DType: dt}
}

func (a *arena) Mark() int64 { return a.used }

func (a *arena) Release(mark int64) {
	if mark < 0 || mark > a.used {
		panic(fmt.Sprintf("compute: Release: mark %d of %d bytes in use", mark, a.used))
	}
	n := len(a.live)
	for n > 0 && a.ends[n-1] > mark {
		n--
		*a.live[n] = mem{}
		a.live[n] = nil
	}
	a.live, a.ends, a.used = a.live[:n], a.ends[:n], mark
}

func (a *arena) Peak() int64 { return a.peak }

func (a *arena) Free() {
	a.Release(0)
	a.size = 0
}

func (b *backend) mem(t compute.Tensor) *mem {
	m, ok := t.Mem.(*mem)
	if !ok {
		panic("compute: tensor of another device")
	}
	if m.dev != b.dev {
		if m.dev == nil {
			panic("compute: tensor was released")
		}
		panic("compute: tensor of another device")
	}
	return m
}

// row is row i of a float tensor.
func (b *backend) row(t compute.Tensor, i int) []float64 {
	at := t.Off + i*t.Stride
	return b.mem(t).f[at : at+t.Cols]
}

// ints is row i of an I32 tensor.
func (b *backend) ints(t compute.Tensor, i int) []int32 {
	at := t.Off + i*t.Stride
	return b.mem(t).i[at : at+t.Cols]
}

// column is a copy of an I32 tensor's first column.
func (b *backend) column(t compute.Tensor) []int {
	c := make([]int, t.Rows)
	for i := range c {
		c[i] = int(b.ints(t, i)[0])
	}
	return c
}

package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

// machine is a device with one backend and an arena, and host copies of what it made.
type machine struct {
	t     testing.TB
	dev   *Device
	b     *Backend
	arena compute.Arena
	rng   *rand.Rand
}

func newMachine(t testing.TB, dev *Device, l compute.Limits) *machine {
	b := dev.NewBackend().(*Backend)
	b.Reserve(l)
	m := &machine{t: t, dev: dev, b: b, arena: dev.NewArena(256 << 20), rng: rand.New(rand.NewPCG(1, 2))}
	t.Cleanup(func() { m.arena.Free(); dev.Close() })
	return m
}

// devices runs f on every instruction set that this CPU has.
func devices(t *testing.T, f func(t *testing.T, dev *Device)) {
	for _, isa := range Instructions() {
		t.Run(isa, func(t *testing.T) {
			dev, err := New(Config{Threads: 2, ISA: isa})
			if err != nil {
				t.Fatal(err)
			}
			f(t, dev)
		})
	}
}

// random is a tensor of normal values, and the values as the device has them.
func (m *machine) random(dt compute.DType, rows, cols int) (compute.Tensor, []float64) {
	t := m.arena.Alloc(dt, rows, cols)
	v := make([]float64, rows*cols)
	f := make([]float32, rows*cols)
	for i := range v {
		f[i] = float32(m.rng.NormFloat64())
		if dt == compute.BF16 {
			f[i] = compute.F32FromBF16(compute.BF16FromF32(f[i]))
		}
		v[i] = float64(f[i])
	}
	m.write(t, f)
	return t, v
}

func (m *machine) write(t compute.Tensor, f []float32) {
	if t.DType == compute.BF16 {
		h := make([]uint16, len(f))
		for i := range h {
			h[i] = compute.BF16FromF32(f[i])
		}
		compute.Write(m.b, t, h)
		return
	}
	compute.Write(m.b, t, f)
}

func (m *machine) read(t compute.Tensor) []float32 {
	f := make([]float32, t.Len())
	var err error
	if t.DType == compute.BF16 {
		h := make([]uint16, len(f))
		err = compute.Read(m.b, h, t)
		for i := range h {
			f[i] = compute.F32FromBF16(h[i])
		}
	} else {
		err = compute.Read(m.b, f, t)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return f
}

// weight is a random weight and its values.
func (m *machine) weight(dt compute.DType, out, in int) (compute.Weight, []float64) {
	w := m.dev.NewWeight(out, in, dt, true)
	src, v := m.random(compute.F32, out, in)
	m.b.Store(w, 0, src)
	if dt == compute.BF16 {
		for i := range v {
			v[i] = float64(compute.F32FromBF16(compute.BF16FromF32(float32(v[i]))))
		}
	}
	m.t.Cleanup(w.Free)
	return w, v
}

// multiply is op(a)·op(b) in float64, with Σ|a·b| beside it for the tolerance.
func multiply(m, n, k int, a, b func(i, j int) float64) (sum, size []float64) {
	sum, size = make([]float64, m*n), make([]float64, m*n)
	for i := range m {
		for j := range n {
			for x := range k {
				p := a(i, x) * b(x, j)
				sum[i*n+j] += p
				size[i*n+j] += math.Abs(p)
			}
		}
	}
	return sum, size
}

// close fails unless got = want within the rounding of F32 sums of the size, and of got's dtype.
func (m *machine) close(what string, got compute.Tensor, want, size []float64) {
	m.t.Helper()
	eps := 0x1p-23
	if got.DType == compute.BF16 {
		eps = 0x1p-8
	}
	for i, g := range m.read(got) {
		tol := eps*math.Abs(want[i]) + 64*0x1p-24*size[i]
		if !(math.Abs(float64(g)-want[i]) <= tol+1e-30) {
			m.t.Fatalf("%s: element %d is %g, want %g ± %g", what, i, g, want[i], tol)
		}
	}
}

func row2(v []float64, cols int) func(i, j int) float64 {
	return func(i, j int) float64 { return v[i*cols+j] }
}

func col2(v []float64, cols int) func(i, j int) float64 {
	return func(i, j int) float64 { return v[j*cols+i] }
}

type shape struct{ t, in, out int }

var shapes = []shape{
	{1, 1, 1}, {1, 8, 16}, {2, 33, 17}, {3, 64, 32}, {7, 96, 31}, {8, 577, 48}, {13, 40, 100}, {37, 129, 65}, {100, 300, 140}, {128, 520, 96},
}

func TestLinear(t *testing.T) {
	devices(t, func(t *testing.T, dev *Device) { testLinear(t, dev, shapes) })
}

// small is whether a shape is small enough for -short; see emulatedWork.
func (s shape) small() bool { return !testing.Short() || s.t*s.in*s.out <= emulatedWork/4 }

func testLinear(t *testing.T, dev *Device, shapes []shape) {
	m := newMachine(t, dev, compute.Limits{Tokens: 128, Width: 600, Train: true})
	mark := m.arena.Mark()
	for _, s := range shapes {
		if !s.small() {
			continue
		}
		for _, dt := range []compute.DType{compute.F32, compute.BF16} {
			for _, yt := range []compute.DType{compute.F32, compute.BF16} {
				if dt == compute.F32 && yt == compute.BF16 {
					continue
				}
				m.arena.Release(mark)
				what := fmt.Sprintf("%v %v to %v", s, dt, yt)
				x, xv := m.random(dt, s.t, s.in)
				w1, v1 := m.weight(dt, s.out, s.in)
				w2, v2 := m.weight(dt, s.out+3, s.in)
				y1, y2 := m.arena.Alloc(yt, s.t, s.out), m.arena.Alloc(yt, s.t, s.out+3)
				m.b.Linear([]compute.Tensor{y1, y2}, x, []compute.Weight{w1, w2}, false)
				sum1, size1 := multiply(s.t, s.out, s.in, row2(xv, s.in), col2(v1, s.in))
				sum2, size2 := multiply(s.t, s.out+3, s.in, row2(xv, s.in), col2(v2, s.in))
				m.close(what, y1, sum1, size1)
				m.close(what+" second", y2, sum2, size2)

				y, yv := m.random(yt, s.t, s.out)
				m.b.Linear([]compute.Tensor{y}, x, []compute.Weight{w1}, true)
				for i := range yv {
					yv[i] += sum1[i]
				}
				m.close(what+" added", y, yv, size1)

				dy1, d1 := m.random(dt, s.t, s.out)
				dy2, d2 := m.random(dt, s.t, s.out+3)
				sum1, size1 = multiply(s.t, s.in, s.out, row2(d1, s.out), row2(v1, s.in))
				sum2, size2 = multiply(s.t, s.in, s.out+3, row2(d2, s.out+3), row2(v2, s.in))
				for i := range sum1 {
					sum1[i] += sum2[i]
					size1[i] += size2[i]
				}
				dx := m.arena.Alloc(yt, s.t, s.in)
				m.b.LinearDX(dx, []compute.Tensor{dy1, dy2}, []compute.Weight{w1, w2}, false)
				m.close(what+" dx", dx, sum1, size1)

				dw, dv := m.random(compute.F32, s.out, s.in)
				m.b.LinearDW(dw, dy1, x, 0.75)
				sum1, size1 = multiply(s.out, s.in, s.t, col2(d1, s.out), row2(xv, s.in))
				for i := range dv {
					dv[i] += 0.75 * sum1[i]
				}
				m.close(what+" dw", dw, dv, size1)
			}
		}
	}
}

func TestMatMul(t *testing.T) {
	devices(t, func(t *testing.T, dev *Device) { testMatMul(t, dev, shapes) })
}

func testMatMul(t *testing.T, dev *Device, shapes []shape) {
	m := newMachine(t, dev, compute.Limits{Tokens: 128, Width: 600, Train: true})
	mark := m.arena.Mark()
	for _, s := range shapes {
		if !s.small() {
			continue
		}
		for _, dt := range []compute.DType{compute.F32, compute.BF16} {
			for _, tr := range []compute.Trans{compute.NN, compute.NT, compute.TN} {
				for _, alpha := range []float32{1, -0.5} {
					m.arena.Release(mark)
					rm, rk, rn := s.t, s.in, s.out
					ar, ac, br, bc := rm, rk, rk, rn
					if tr == compute.NT {
						br, bc = rn, rk
					}
					if tr == compute.TN {
						ar, ac = rk, rm
					}
					// Views with strides and offsets.
					a, av := m.random(dt, ar, ac+5)
					b, bv := m.random(dt, br, bc+3)
					at, bt := row2(av[2:], ac+5), row2(bv[1:], bc+3)
					if tr == compute.NT {
						bt = col2(bv[1:], bc+3)
					}
					if tr == compute.TN {
						at = col2(av[2:], ac+5)
					}
					sum, size := multiply(rm, rn, rk, at, bt)
					for i := range sum {
						sum[i] *= float64(alpha)
					}
					y, yv := m.random(dt, rm, rn)
					m.b.MatMul(y, a.Columns(2, 2+ac), b.Columns(1, 1+bc), tr, alpha, false)
					m.close(fmt.Sprintf("%v %v %v", s, dt, tr), y, sum, size)
					m.write(y, toF32(yv))
					m.b.MatMul(y, a.Columns(2, 2+ac), b.Columns(1, 1+bc), tr, alpha, true)
					for i := range sum {
						sum[i] += yv[i]
					}
					m.close(fmt.Sprintf("%v %v %v added", s, dt, tr), y, sum, size)
				}
			}
		}
	}
}

func toF32(v []float64) []float32 {
	f := make([]float32, len(v))
	for i := range f {
		f[i] = float32(v[i])
	}
	return f
}

// TestLinearRowsKeepTheirBits multiplies random subsets of rows, in random order, on 1 to 3
// threads, with little and with much scratch: a row's bits never change.
func TestLinearRowsKeepTheirBits(t *testing.T) {
	for _, isa := range Instructions() {
		for _, dt := range []compute.DType{compute.F32, compute.BF16} {
			t.Run(fmt.Sprintf("%s/%v", isa, dt), func(t *testing.T) {
				const rows, in, out = 150, 577, 203
				var first, firstDX, firstDW []float32
				for threads := 1; threads <= 3; threads++ {
					dev, err := New(Config{Threads: threads, ISA: isa})
					if err != nil {
						t.Fatal(err)
					}
					m := newMachine(t, dev, compute.Limits{Tokens: rows / threads, Width: 900, Train: true})
					x, _ := m.random(dt, rows, in)
					w, _ := m.weight(dt, out, in)
					dy, _ := m.random(dt, rows, out)
					y, dx := m.arena.Alloc(dt, rows, out), m.arena.Alloc(dt, rows, in)
					dw := m.arena.Alloc(compute.F32, out, in)
					m.b.Zero(dw)
					m.b.Linear([]compute.Tensor{y}, x, []compute.Weight{w}, false)
					m.b.LinearDX(dx, []compute.Tensor{dy}, []compute.Weight{w}, false)
					m.b.LinearDW(dw, dy, x, 1)
					whole, wholeDX, wholeDW := m.read(y), m.read(dx), m.read(dw)
					if first == nil {
						first, firstDX, firstDW = whole, wholeDX, wholeDW
					}
					if !slices.Equal(whole, first) || !slices.Equal(wholeDX, firstDX) || !slices.Equal(wholeDW, firstDW) {
						t.Fatalf("%d threads change bits", threads)
					}
					for range 12 {
						n := 1 + m.rng.IntN(40)
						pick := make([]int32, n)
						for i := range pick {
							pick[i] = int32(m.rng.IntN(rows))
						}
						ids := m.arena.Alloc(compute.I32, n, 1)
						compute.Write(m.b, ids, pick)
						sx, sdy := m.arena.Alloc(dt, n, in), m.arena.Alloc(dt, n, out)
						m.b.Gather(sx, x, ids)
						m.b.Gather(sdy, dy, ids)
						sy, sdx := m.arena.Alloc(dt, n, out), m.arena.Alloc(dt, n, in)
						m.b.Linear([]compute.Tensor{sy}, sx, []compute.Weight{w}, false)
						m.b.LinearDX(sdx, []compute.Tensor{sdy}, []compute.Weight{w}, false)
						part, partDX := m.read(sy), m.read(sdx)
						for i, p := range pick {
							if !slices.Equal(part[i*out:(i+1)*out], whole[int(p)*out:(int(p)+1)*out]) {
								t.Fatalf("row %d among %d others has other bits", p, n)
							}
							if !slices.Equal(partDX[i*in:(i+1)*in], wholeDX[int(p)*in:(int(p)+1)*in]) {
								t.Fatalf("dx of row %d among %d others has other bits", p, n)
							}
						}
					}
				}
			})
		}
	}
}

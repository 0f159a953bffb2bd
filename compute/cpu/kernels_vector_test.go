package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// vectorISAs are the instruction sets with vector kernels of their own.
func vectorISAs() []string {
	var isas []string
	for _, isa := range Instructions() {
		if isa != ISAPortable {
			isas = append(isas, isa)
		}
	}
	return isas
}

// buffer is a row of n elements with a canary behind it.
type buffer struct {
	dt  compute.DType
	n   int
	mem []float32
}

const canary = 12345

func newBuffer(r *rand.Rand, dt compute.DType, n int) buffer {
	b := buffer{dt, n, make([]float32, n+8)}
	for i := range b.mem {
		b.mem[i] = canary
	}
	for i := range n {
		b.set(i, float32(r.NormFloat64()*2))
	}
	return b
}

func (b buffer) p() unsafe.Pointer { return unsafe.Pointer(&b.mem[0]) }

func (b buffer) set(i int, x float32) {
	if b.dt == compute.BF16 {
		elements[uint16](b.p(), b.n)[i] = compute.BF16FromF32(x)
	} else {
		b.mem[i] = x
	}
}

func (b buffer) at(i int) float32 {
	if b.dt == compute.BF16 {
		return compute.F32FromBF16(elements[uint16](b.p(), b.n)[i])
	}
	return b.mem[i]
}

func (b buffer) clone() buffer {
	b.mem = append([]float32(nil), b.mem...)
	return b
}

// whole reports whether what lies behind the row is as newBuffer left it.
func (b buffer) whole(was buffer) bool {
	size := b.dt.Size()
	x, y := unsafe.Slice((*byte)(b.p()), 4*len(b.mem)), unsafe.Slice((*byte)(was.p()), 4*len(b.mem))
	for i := b.n * size; i < len(x); i++ {
		if x[i] != y[i] {
			return false
		}
	}
	return true
}

// rowCall calls one row kernel on buffers: acts of the activation dtype first or last, as it wants.
type rowCall struct {
	name  string
	types string // of the buffers: a(ct), f(32)
	run   func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32
}

var rowCalls = []rowCall{
	{"addSumSquares", "fa", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		return k.addSumSquares[dt](n, p[0], p[1])
	}},
	{"sumSquares", "f", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		return k.sumSquares(n, p[0])
	}},
	{"normApply", "aff", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		k.normApply[dt](n, p[0], p[1], p[2], 0.7)
		return 0
	}},
	{"normDot", "aff", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		return k.normDot[dt](n, p[0], p[1], p[2])
	}},
	{"normGrad", "faff", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		k.normGrad[dt](n, p[0], p[1], p[2], p[3], 0.7, -0.3)
		return 0
	}},
	{"normWeightGrad", "faf", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		k.normWeightGrad[dt](n, p[0], p[1], p[2], 0.7)
		return 0
	}},
	{"rotate", "aaff", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		k.rotate[dt](n, p[0], p[1], p[2], p[3], -1)
		return 0
	}},
	{"swiglu", "aaa", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		k.swiglu[dt](n, p[0], p[1], p[2])
		return 0
	}},
	{"swigluGrad", "aaaaa", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		k.swigluGrad[dt](n, p[0], p[1], p[2], p[3], p[4])
		return 0
	}},
	{"add", "af", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		k.add[dt](n, p[0], p[1])
		return 0
	}},
	{"accumulate", "fa", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		k.accumulate[dt](n, p[0], p[1])
		return 0
	}},
	{"scale", "f", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		k.scale(n, p[0], 1.7)
		return 0
	}},
	{"widenRows", "fa", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		k.widenRows[dt](1, n, p[0], 4*n, p[1], dt.Size()*n)
		return 0
	}},
	{"narrow", "af", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		k.narrow[dt](n, p[0], p[1], 0.3)
		return 0
	}},
	{"maximum", "f", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 { return k.maximum(n, p[0]) }},
	{"sumAbove", "ff", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		return k.sumAbove(n, p[0], p[1], 0.3)
	}},
	{"expSum", "ff", func(k *vectorKernels, dt compute.DType, n int, p []unsafe.Pointer) float32 {
		return k.expSum(n, p[0], p[1], 9, 0.7)
	}},
}

// Each row kernel against the portable one, at lengths with and without a tail, touching nothing
// behind the row.
func TestRowKernels(t *testing.T) {
	want := portableVector()
	for _, isa := range vectorISAs() {
		have := newVectorKernels(isa)
		for _, c := range rowCalls {
			for _, dt := range []compute.DType{compute.F32, compute.BF16} {
				t.Run(fmt.Sprintf("%s/%s/%v", isa, c.name, dt), func(t *testing.T) {
					r := rand.New(rand.NewPCG(1, 2))
					for n := 1; n < 90; n++ {
						checkRowKernel(t, r, c, &have, &want, dt, n)
					}
					checkRowKernel(t, r, c, &have, &want, dt, 1536)
				})
			}
		}
	}
}

func checkRowKernel(t *testing.T, r *rand.Rand, c rowCall, have, want *vectorKernels, dt compute.DType, n int) {
	t.Helper()
	var a, b []buffer
	var pa, pb []unsafe.Pointer
	for i := range c.types {
		of := compute.F32
		if c.types[i] == 'a' {
			of = dt
		}
		x := newBuffer(r, of, n)
		y := x.clone()
		a, b = append(a, x), append(b, y)
		pa, pb = append(pa, x.p()), append(pb, y.p())
	}
	ra, rb := c.run(have, dt, n, pa), c.run(want, dt, n, pb)
	if !(math.Abs(float64(ra-rb)) <= 2e-5*(1+math.Abs(float64(rb)))) {
		t.Fatalf("n %d: returned %v, want %v", n, ra, rb)
	}
	for i := range a {
		tol := 1e-6
		if a[i].dt == compute.BF16 {
			tol = 1.0 / 128
		}
		if !a[i].whole(b[i]) {
			t.Fatalf("n %d: argument %d: wrote behind the row", n, i)
		}
		for j := range n {
			x, y := float64(a[i].at(j)), float64(b[i].at(j))
			if !(math.Abs(x-y) <= tol*(math.Abs(y)+0.25)) {
				t.Fatalf("n %d: argument %d[%d] = %v, want %v", n, i, j, x, y)
			}
		}
	}
}

// An element's result does not depend on where in a row it stands, in the tail or out of it.
func TestRowKernelsByElement(t *testing.T) {
	for _, isa := range Instructions() {
		k := newVectorKernels(isa)
		for _, c := range rowCalls {
			if c.name == "maximum" || c.name == "sumSquares" || c.name == "normDot" || c.name == "sumAbove" {
				continue
			}
			for _, dt := range []compute.DType{compute.F32, compute.BF16} {
				r := rand.New(rand.NewPCG(3, 4))
				const n = 43
				var whole, single []buffer
				var pw []unsafe.Pointer
				for i := range c.types {
					of := compute.F32
					if c.types[i] == 'a' {
						of = dt
					}
					x := newBuffer(r, of, n)
					whole, single = append(whole, x), append(single, x.clone())
					pw = append(pw, x.p())
				}
				c.run(&k, dt, n, pw)
				for j := range n {
					var ps []unsafe.Pointer
					for i := range single {
						ps = append(ps, unsafe.Add(single[i].p(), j*single[i].dt.Size()))
					}
					c.run(&k, dt, 1, ps)
				}
				for i := range whole {
					for j := range n {
						if x, y := whole[i].at(j), single[i].at(j); math.Float32bits(x) != math.Float32bits(y) {
							t.Fatalf("%s %s %v: argument %d[%d] = %v in a row, %v alone", isa, c.name, dt, i, j, x, y)
						}
					}
				}
			}
		}
	}
}

// exp within 1.25 ulp between −87 and ln(MaxFloat32), 0 below, +Inf above, exactly 1 at 0.
func TestExp(t *testing.T) {
	for _, isa := range Instructions() {
		k := newVectorKernels(isa)
		f := func(x float32) (y float32) {
			k.expSum(1, unsafe.Pointer(&y), unsafe.Pointer(&x), 0, 1)
			return y
		}
		for x, want := range map[float32]float32{0: 1, -87.1: 0, float32(math.Inf(-1)): 0, 89: float32(math.Inf(1)), float32(math.Inf(1)): float32(math.Inf(1))} {
			if y := f(x); y != want {
				t.Errorf("%s: exp(%v) = %v, want %v", isa, x, y, want)
			}
		}
		if y := f(float32(math.NaN())); y == y {
			t.Errorf("%s: exp(NaN) = %v", isa, y)
		}
		worst, at := 0.0, float32(0)
		r := rand.New(rand.NewPCG(5, 6))
		for range 1 << 18 {
			x := float32(-87 + r.Float64()*(87+88.72))
			if r.IntN(2) == 0 {
				x = float32(r.NormFloat64())
			}
			want := math.Exp(float64(x))
			ulp := math.Nextafter32(float32(want), float32(math.Inf(1))) - float32(want)
			if e := math.Abs(float64(f(x))-want) / float64(ulp); !(e <= worst) {
				worst, at = e, x
			}
		}
		t.Logf("%s: exp within %.2f ulp (at %v)", isa, worst, at)
		if !(worst <= 1.25) {
			t.Errorf("%s: exp off by %.2f ulp at %v", isa, worst, at)
		}
	}
}

// The integer rounding of the assembly against BF16FromF32, special values included.
func TestNarrowRounds(t *testing.T) {
	special := []uint32{0, 0x7f800000, 0xff800000, 0x7f800001, 0xffc12345, 0x7fffffff, 0x7f7fffff, 0xff7fffff, 0x3f808000, 0x3f818000, 0x3f808001, 1, 0x8000, 0x18000}
	for _, isa := range vectorISAs() {
		k := newVectorKernels(isa)
		r := rand.New(rand.NewPCG(7, 8))
		for i := range 1 << 16 {
			b := r.Uint32()
			if i < len(special) {
				b = special[i]
			}
			x, y, got := math.Float32frombits(b), [1]float32{}, uint16(0)
			k.narrow[compute.BF16](1, unsafe.Pointer(&got), unsafe.Pointer(&x), 1)
			k.narrow[compute.F32](1, unsafe.Pointer(&y), unsafe.Pointer(&x), 1)
			if want := compute.BF16FromF32(y[0]); got != want {
				t.Fatalf("%s: %08x rounds to %04x, want %04x", isa, b, got, want)
			}
		}
	}
}

// Products and transpositions against the portable ones, in F32 and BF16, at all heights of a tile.
func TestTileKernels(t *testing.T) {
	want := portableVector()
	for _, isa := range vectorISAs() {
		have := newVectorKernels(isa)
		for _, dt := range []compute.DType{compute.F32, compute.BF16} {
			r := rand.New(rand.NewPCG(9, 10))
			for rows := 1; rows < 20; rows++ {
				k, panels, acc := 1+r.IntN(70), 1+r.IntN(4), rows%2
				ld := 16*panels + r.IntN(3)
				a, b := newBuffer(r, compute.F32, 70*20), newBuffer(r, dt, k*ld)
				x := newBuffer(r, compute.F32, rows*ld)
				y := x.clone()
				check := func(what string) {
					t.Helper()
					for i := range rows * ld {
						if !(math.Abs(float64(x.at(i)-y.at(i))) <= 1e-4) {
							t.Fatalf("%s %s %v: rows %d, k %d, panels %d: element %d is %v, want %v", isa, what, dt, rows, k, panels, i, x.at(i), y.at(i))
						}
					}
				}
				have.mulNN[dt](rows, panels, k, a.p(), 280, b.p(), dt.Size()*ld, x.p(), 4*ld, acc)
				want.mulNN[dt](rows, panels, k, a.p(), 280, b.p(), dt.Size()*ld, y.p(), 4*ld, acc)
				check("mulNN")
				if dt == compute.F32 {
					have.mulTN(rows, panels, k, a.p(), 80, b.p(), 4*ld, x.p(), 4*ld, acc)
					want.mulTN(rows, panels, k, a.p(), 80, b.p(), 4*ld, y.p(), 4*ld, acc)
					check("mulTN")
				}
			}
			src := newBuffer(r, dt, 24*20)
			x := newBuffer(r, compute.F32, 24*20)
			y := x.clone()
			have.transpose[dt](2, 2, x.p(), 80, src.p(), dt.Size()*20)
			want.transpose[dt](2, 2, y.p(), 80, src.p(), dt.Size()*20)
			for i := range x.n {
				if x.at(i) != y.at(i) {
					t.Fatalf("%s transpose %v: element %d is %v, want %v", isa, dt, i, x.at(i), y.at(i))
				}
			}
		}
	}
}

func TestAbove(t *testing.T) {
	want := portableVector()
	for _, isa := range vectorISAs() {
		have := newVectorKernels(isa)
		r := rand.New(rand.NewPCG(11, 12))
		for n := 0; n < 200; n += 8 {
			x := newBuffer(r, compute.F32, n)
			a, b := make([]int32, n+1), make([]int32, n+1)
			na := have.above(n, x.p(), 0.5, 7, unsafe.Pointer(&a[0]))
			nb := want.above(n, x.p(), 0.5, 7, unsafe.Pointer(&b[0]))
			if na != nb || !slices.Equal(a, b) {
				t.Fatalf("%s: n %d: %v, want %v", isa, n, a[:na], b[:nb])
			}
		}
	}
}

func TestMaximumNaN(t *testing.T) {
	for _, isa := range Instructions() {
		k := newVectorKernels(isa)
		for n := 1; n < 40; n++ {
			for at := range n {
				x := make([]float32, n)
				for i := range x {
					x[i] = -float32(i) - 1
				}
				x[at] = float32(math.NaN())
				if y := k.maximum(n, unsafe.Pointer(&x[0])); y == y {
					t.Fatalf("%s: n %d, NaN at %d: %v", isa, n, at, y)
				}
			}
		}
	}
}

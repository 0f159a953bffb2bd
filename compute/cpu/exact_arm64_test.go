//go:build arm64 && !noasm && unix

package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu/internal/asm"
	neon "github.com/seed-8780d58e/spin/compute/cpu/internal/neon/kernels"
)

// fenced is a copy of v that ends where memory ends: whoever touches what lies behind it dies.
func fenced(t *testing.T, v []float32) []float32 {
	page := unix.Getpagesize()
	size := (4*len(v) + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, size+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(m) })
	if err := unix.Mprotect(m[size:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	f := unsafe.Slice((*float32)(unsafe.Pointer(&m[size-4*len(v)])), len(v))
	copy(f, v)
	return f
}

// awkward values: normal, tiny, denormal and zero of both signs.
func awkward(rng *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
		switch rng.IntN(8) {
		case 0:
			v[i] *= 0x1p-70
		case 1:
			v[i] = math.Float32frombits(uint32(rng.IntN(2))<<31 | uint32(rng.IntN(1<<23)))
		case 2:
			v[i] = math.Float32frombits(uint32(rng.IntN(2)) << 31)
		}
	}
	return v
}

func start(v []float32) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(v)) }

// differ is the first element whose bits are not the same.
func differ(a, b []float32) int {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

// TestTiles holds every tile kernel against its specification, to the bit.
func TestTiles(t *testing.T) {
	const nr = 16
	rng := rand.New(rand.NewPCG(3, 4))
	k := newGEMMKernels(ISANEON)
	for kind, family := range map[neon.Kind]tiles{neon.F32: k.f32, neon.Wide: k.wide} {
		depth := 1 + int(kind)
		spec := func(mr, kc int, a, b, c []float32, acc int) {
			for i := range mr {
				for j := range nr {
					var sum float32
					for g := range kc {
						bits := math.Float32bits(b[g*nr+j])
						if kind == neon.F32 {
							sum = asm.FMA(a[g*mr+i], b[g*nr+j], sum)
							continue
						}
						sum = asm.FMA(a[2*g*mr+i], math.Float32frombits(bits<<16), sum)
						sum = asm.FMA(a[(2*g+1)*mr+i], math.Float32frombits(bits&0xffff0000), sum)
					}
					if acc != 0 {
						sum += c[i*nr+j]
					}
					c[i*nr+j] = sum
				}
			}
		}
		for _, mr := range neon.Heights {
			for _, kc := range []int{0, 1, 2, 3, 4, 5, 8, 11} {
				for acc := range 2 {
					a, b, c := awkward(rng, depth*kc*mr+1)[1:], awkward(rng, kc*nr), awkward(rng, mr*nr)
					got := fenced(t, c)
					family.of[mr](kc, start(fenced(t, a)), start(fenced(t, b)), start(got), acc)
					spec(mr, kc, a, b, c, acc)
					if i := differ(got, c); i >= 0 {
						t.Fatalf("kind %v, %d rows, kc %d, acc %d: element %d is %g, want %g", kind, mr, kc, acc, i, got[i], c[i])
					}
				}
			}
		}
		for _, kc := range []int{0, 1, 3, 4, 9} {
			for acc := range 2 {
				a, b, c := awkward(rng, depth*kc), awkward(rng, 2*(kc*nr+16)), awkward(rng, 3*nr)
				second := kc*nr + 16
				got := slices.Clone(c)
				family.twin(kc, start(fenced(t, a)), start(b), start(got), acc, 4*second, 8*nr)
				spec(1, kc, a, b, c[:nr], acc)
				spec(1, kc, a, b[second:], c[2*nr:], acc)
				if i := differ(got, c); i >= 0 {
					t.Fatalf("kind %v, twin, kc %d, acc %d: element %d is %g, want %g", kind, kc, acc, i, got[i], c[i])
				}
			}
		}
	}
}

// TestRows holds the kernels that move rows, and the optimizers, against the portable ones, to the bit:
// on any bits at all where nothing is computed.
func TestRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	have, want := newGEMMKernels(ISANEON), portableGEMM()
	agree := func(what string, memory []float32, f func(g *gemmKernels, at func(dword int) unsafe.Pointer)) {
		t.Helper()
		got, spec := slices.Clone(memory), slices.Clone(memory)
		f(&have, func(i int) unsafe.Pointer { return unsafe.Add(start(got), 4*i) })
		f(&want, func(i int) unsafe.Pointer { return unsafe.Add(start(spec), 4*i) })
		if i := differ(got, spec); i >= 0 {
			t.Fatalf("%s: dword %d is %#x, want %#x", what, i, math.Float32bits(got[i]), math.Float32bits(spec[i]))
		}
	}
	for range 8 {
		memory := awkward(rng, 2048)
		for i := range memory { // and infinities, NaNs of all kinds, ties between two BF16
			switch rng.IntN(6) {
			case 0:
				memory[i] = math.Float32frombits(0x7f800000 | rng.Uint32()&0x80ffffff)
			case 1:
				memory[i] = math.Float32frombits(rng.Uint32()&0xffff0000 | 0x8000)
			}
		}
		n, w8 := 1+rng.IntN(4), 1+rng.IntN(3)
		for what, kernel := range map[string]func(g *gemmKernels) (k rowsKernel, ss, ds int){
			"copyRows":   func(g *gemmKernels) (rowsKernel, int, int) { return g.copyRows, 132, 116 },
			"widenRows":  func(g *gemmKernels) (rowsKernel, int, int) { return g.widenRows, 66, 116 },
			"narrowRows": func(g *gemmKernels) (rowsKernel, int, int) { return g.narrowRows, 132, 58 },
			"pairRows":   func(g *gemmKernels) (rowsKernel, int, int) { return g.pairRows, 66, 116 },
		} {
			agree(what, memory, func(g *gemmKernels, at func(int) unsafe.Pointer) {
				k, ss, ds := kernel(g)
				k(n, at(1), ss, at(1024), ds, w8)
			})
		}
		for _, rows := range []int{2, 4, 6, 8} { // columns of eight dwords: what is behind the rows is nobody's
			agree(fmt.Sprint("transpose ", rows), memory, func(g *gemmKernels, at func(int) unsafe.Pointer) {
				g.transpose[rows](w8, at(1), 132, at(1024), 32)
				for k := range 8 * w8 {
					clear(unsafe.Slice((*float32)(at(1024+8*k+rows)), 8-rows))
				}
			})
			agree(fmt.Sprint("dense transpose ", rows), memory, func(g *gemmKernels, at func(int) unsafe.Pointer) {
				g.transpose[rows](w8, at(1), 132, at(1024), 4*rows)
				clear(unsafe.Slice((*float32)(at(1024+8*w8*rows)), 8-rows))
			})
		}

		memory = awkward(rng, 2048)
		agree("axpyRows", memory, func(g *gemmKernels, at func(int) unsafe.Pointer) {
			g.axpyRows(n, at(1), 132, at(1024), 116, w8, 0.3)
		})
		agree("maxLanes", memory, func(g *gemmKernels, at func(int) unsafe.Pointer) { g.maxLanes(5*n, at(1), at(1024)) })
		factors := make([]float32, factorCount)
		for i := range factors {
			factors[i] = rng.Float32()
		}
		for i := 300; i < 512; i++ { // second moments are not negative
			memory[i] = float32(math.Abs(float64(memory[i])))
		}
		agree("rmsProp", memory, func(g *gemmKernels, at func(int) unsafe.Pointer) {
			g.rmsProp(7, at(0), at(64), at(300), start(factors))
		})
		agree("adamW", memory, func(g *gemmKernels, at func(int) unsafe.Pointer) {
			g.adamW(7, at(0), at(64), at(128), at(300), start(factors))
		})
	}
}

// TestHeadKernels holds the head's exponentials against math.Exp, and its sums against the same
// exponentials one by one.
func TestHeadKernels(t *testing.T) {
	k := newGEMMKernels(ISANEON)
	var x []float32
	for v := float32(-120); v < 88.3; v += 0.0137 {
		x = append(x, v)
	}
	x = append(x, 0, float32(math.Copysign(0, -1)), -87.1, float32(math.Inf(-1)), float32(math.NaN()), 1e-30)
	for len(x)%8 != 0 {
		x = append(x, 0)
	}
	y := make([]float32, len(x))
	k.expScale(len(x)/8, start(fenced(t, x)), start(y), nil, 0, 1)
	for i, v := range x {
		want := math.Exp(float64(v))
		if v < -87 {
			want = 0
		}
		if math.IsNaN(want) != math.IsNaN(float64(y[i])) || !math.IsNaN(want) && !(math.Abs(float64(y[i])-want) <= 0x1p-23*want) {
			t.Fatalf("exp(%g) = %g, want %g", v, y[i], want)
		}
	}
	n := len(x)/8 - 2 // without the NaN
	var sums, again [16]float32
	k.expSumLanes(n, start(x), unsafe.Pointer(&sums), nil, 2)
	k.expScale(n, start(x), start(y), nil, 2, 1)
	for i, v := range x[:8*n] {
		again[i%8] += y[i]
		again[8+i%8] = asm.FMA(v, y[i], again[8+i%8])
	}
	if i := differ(sums[:], again[:]); i >= 0 {
		t.Fatalf("sum %d is %g, one by one %g", i, sums[i], again[i])
	}
}

// TestRowKernelsStayInside runs the row kernels and the tiles of attention on memory that ends with
// their operands.
func TestRowKernelsStayInside(t *testing.T) {
	k := newVectorKernels(ISANEON)
	for _, c := range rowCalls {
		for _, dt := range []compute.DType{compute.F32, compute.BF16} {
			for _, n := range []int{1, 2, 7, 8, 9, 31, 33, 46} {
				var p []unsafe.Pointer
				for i := range c.types {
					size := 4
					if c.types[i] == 'a' {
						size = dt.Size()
					}
					f := fenced(t, make([]float32, (n*size+3)/4))
					p = append(p, unsafe.Add(start(f), 4*len(f)-n*size))
				}
				c.run(&k, dt, n, p)
			}
		}
	}
	for rows := 1; rows <= 7; rows++ {
		for _, dt := range []compute.DType{compute.F32, compute.BF16} {
			const depth, panels = 5, 2
			a, b, c := fenced(t, make([]float32, rows*depth)), fenced(t, make([]float32, depth*16*panels*dt.Size()/4)), fenced(t, make([]float32, rows*16*panels))
			k.mulNN[dt](rows, panels, depth, start(a), 4*depth, start(b), 16*panels*dt.Size(), start(c), 4*16*panels, 1)
			if dt == compute.F32 {
				k.mulTN(rows, panels, depth, start(a), 4*rows, start(b), 4*16*panels, start(c), 4*16*panels, 1)
			}
		}
	}
}

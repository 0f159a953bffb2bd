//go:build amd64 && !noasm

package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	kern "github.com/seed-8780d58e/spin/compute/cpu/internal/kernels"
)

// tables are the kernels that must agree to the bit wherever they do not use the exponential: in
// Go, emulated, and on this CPU where it can.
func tables() map[string]gemmKernels {
	all := map[string]gemmKernels{"portable": portableGEMM(), "emulated": emulated(ISAAVX512)}
	if slices.Contains(Instructions(), ISAAVX2) {
		all["native"] = newGEMMKernels(ISAAVX2)
	}
	return all
}

// agree runs f on a copy of the same memory with each table, and fails where results differ.
func agree(t *testing.T, what string, memory []float32, f func(g *gemmKernels, m unsafe.Pointer)) {
	t.Helper()
	var want []float32
	for _, name := range []string{"portable", "emulated", "native"} {
		g, ok := tables()[name]
		if !ok {
			continue
		}
		got := slices.Clone(memory)
		f(&g, first(got))
		if want == nil {
			want = got
		}
		if i := differ(got, want); i >= 0 {
			t.Fatalf("%s: dword %d is %#x %s, want %#x", what, i, math.Float32bits(got[i]), name, math.Float32bits(want[i]))
		}
	}
}

func TestRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	memory := make([]float32, 2048)
	for range 4 {
		awkward(rng, memory)
		for i := range memory { // and infinities, NaNs of all kinds, ties between two BF16
			switch rng.IntN(6) {
			case 0:
				memory[i] = math.Float32frombits(0x7f800000 | rng.Uint32()&0x80ffffff)
			case 1:
				memory[i] = math.Float32frombits(rng.Uint32()&0xffff0000 | 0x8000)
			}
		}
		n, w8 := 1+rng.IntN(4), 1+rng.IntN(3)
		src := func(m unsafe.Pointer) unsafe.Pointer { return unsafe.Add(m, 4) }
		dst := func(m unsafe.Pointer) unsafe.Pointer { return unsafe.Add(m, 4096) }
		agree(t, "copyRows", memory, func(g *gemmKernels, m unsafe.Pointer) { g.copyRows(n, src(m), 132, dst(m), 116, w8) })
		agree(t, "widenRows", memory, func(g *gemmKernels, m unsafe.Pointer) { g.widenRows(n, src(m), 66, dst(m), 116, w8) })
		agree(t, "narrowRows", memory, func(g *gemmKernels, m unsafe.Pointer) { g.narrowRows(n, src(m), 132, dst(m), 58, w8) })
		agree(t, "pairRows", memory, func(g *gemmKernels, m unsafe.Pointer) { g.pairRows(n, src(m), 66, dst(m), 116, w8) })
		for _, rows := range []int{2, 4, 6, 8} {
			agree(t, fmt.Sprint("transpose ", rows), memory, func(g *gemmKernels, m unsafe.Pointer) {
				g.transpose[rows](w8, src(m), 132, dst(m), rows*4)
			})
		}
		awkward(rng, memory)
		agree(t, "axpyRows", memory, func(g *gemmKernels, m unsafe.Pointer) { g.axpyRows(n, src(m), 132, dst(m), 116, w8, 0.3) })
		agree(t, "maxLanes", memory, func(g *gemmKernels, m unsafe.Pointer) { g.maxLanes(5*n, src(m), dst(m)) })

		factors := make([]float32, kern.Factors)
		for i := range factors {
			factors[i] = rng.Float32()
		}
		for i := 300; i < 512; i++ { // second moments are not negative
			memory[i] = float32(math.Abs(float64(memory[i])))
		}
		at := func(m unsafe.Pointer, i int) unsafe.Pointer { return unsafe.Add(m, 4*i) }
		agree(t, "rmsProp", memory, func(g *gemmKernels, m unsafe.Pointer) {
			g.rmsProp(7, at(m, 0), at(m, 64), at(m, 300), first(factors))
		})
		agree(t, "adamW", memory, func(g *gemmKernels, m unsafe.Pointer) {
			g.adamW(7, at(m, 0), at(m, 64), at(m, 128), at(m, 300), first(factors))
		})
	}
}

// TestExpScale bounds the error of the exponential that the documentation states, and holds the emulator
// to the CPU's bits.
func TestExpScale(t *testing.T) {
	if *(*[12][8]float32)(expTable()) != *kern.ExpTable() {
		t.Error("expTable is not the table that the programs were written for")
	}
	var x []float32
	for v := float32(-120); v < 88.3; v += 0.0137 {
		x = append(x, v)
	}
	x = append(x, 0, float32(math.Copysign(0, -1)), -87.3, -87.4, float32(math.Inf(-1)), float32(math.NaN()), 1e-30)
	for len(x)%8 != 0 {
		x = append(x, 0)
	}
	var emulatedBits []float32
	for _, name := range []string{"emulated", "native"} {
		g, ok := tables()[name]
		if !ok {
			continue
		}
		y := make([]float32, len(x))
		g.expScale(len(x)/8, first(x), first(y), g.table, 0, 1)
		for i, v := range x {
			want := math.Exp(float64(v))
			if v < -87.3 {
				want = 0
			}
			if math.IsNaN(want) != math.IsNaN(float64(y[i])) || !math.IsNaN(want) && !(math.Abs(float64(y[i])-want) <= 0x1p-23*want) {
				t.Fatalf("%s: exp(%g) = %g, want %g", name, v, y[i], want)
			}
		}
		if emulatedBits == nil {
			emulatedBits = y
		}
		for i := range y {
			if math.Float32bits(y[i]) != math.Float32bits(emulatedBits[i]) && !math.IsNaN(float64(y[i])) {
				t.Fatalf("exp(%g) = %g %s, %g emulated", x[i], y[i], name, emulatedBits[i])
			}
		}
		sums, again := make([]float32, 16), make([]float32, 16)
		g.expSumLanes(len(x)/8-1, first(x), first(sums), g.table, 2)
		for i, v := range x[:len(x)-8] {
			e := make([]float32, 8)
			x8 := slices.Repeat([]float32{v}, 8)
			g.expScale(1, first(x8), first(e), g.table, 2, 1)
			again[i%8] += e[0]
		}
		if i := differ(sums[:8], again[:8]); i >= 0 && !math.IsNaN(float64(sums[i])) {
			t.Fatalf("%s: lane %d sums to %g, one by one to %g", name, i, sums[i], again[i])
		}
	}
}

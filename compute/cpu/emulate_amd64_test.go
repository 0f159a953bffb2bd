//go:build amd64 && !noasm

package cpu

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/computetest"
	"github.com/seed-8780d58e/spin/compute/cpu/internal/asm"
	kern "github.com/seed-8780d58e/spin/compute/cpu/internal/kernels"
)

// programs is the kernels of products by name.
func programs() map[string]*asm.Func {
	all := map[string]*asm.Func{}
	for _, f := range kern.GEMM() {
		all[f.Name] = f
	}
	return all
}

// emulated is the kernels of AVX-512 (with or without BF16), run by the emulator instead of the CPU.
func emulated(isa string) gemmKernels {
	all := programs()
	run := func(name string) func(args ...any) {
		f := all[name]
		return func(args ...any) { f.Run(nil, args...) }
	}
	move := func(name string) rowsKernel {
		f := run(name)
		return func(n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds, w8 int) { f(n, src, ss, dst, ds, w8) }
	}
	k := newGEMMKernels(isa)
	for _, t := range kern.Tiles() {
		if t.Bytes != 64 {
			continue
		}
		family := map[kern.Kind]*tiles{kern.F32: &k.f32, kern.Wide: &k.wide, kern.Dot: &k.dot}[t.Kind]
		for _, mr := range t.Heights {
			f := run(t.Name(mr))
			family.of[mr] = func(kc int, a, b, c unsafe.Pointer, acc int) { f(kc, a, b, c, acc) }
		}
		for _, mr := range t.Stream {
			f := run(t.StreamName(mr))
			k.streams[t.Kind][mr] = func(kc int, a, b, c unsafe.Pointer, acc int, ahead unsafe.Pointer, step int) {
				f(kc, a, b, c, acc, ahead, step)
			}
		}
		f := run(t.TwinName())
		family.twin = func(kc int, a, b, c unsafe.Pointer, acc, bs, cs int) { f(kc, a, b, c, acc, bs, cs) }
	}
	k.copyRows, k.widenRows, k.narrowRows, k.pairRows = move("avx2CopyRows"), move("avx2WidenRows"), move("avx2NarrowRows"), move("avx2PairRows")
	axpy := run("avx2AxpyRows")
	k.axpyRows = func(n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds, w8 int, alpha float32) {
		axpy(n, src, ss, dst, ds, w8, alpha)
	}
	for _, rows := range []int{2, 4, 6, 8} {
		f := run(fmt.Sprintf("avx2Transpose%d", rows))
		k.transpose[rows] = func(n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds int) { f(n, src, ss, dst, ds) }
	}
	maxLanes, sums, scale := run("avx2MaxLanes"), run("avx2ExpSumLanes"), run("avx2ExpScale")
	k.maxLanes = func(n int, x, out unsafe.Pointer) { maxLanes(n, x, out) }
	k.expSumLanes = func(n int, x, out, table unsafe.Pointer, max float32) { sums(n, x, out, table, max) }
	k.expScale = func(n int, x, y, table unsafe.Pointer, sub, by float32) { scale(n, x, y, table, sub, by) }
	rms, adam := run("avx2RMSProp"), run("avx2AdamW")
	k.rmsProp = func(n int, w, g, v, f unsafe.Pointer) { rms(n, w, g, v, f) }
	k.adamW = func(n int, w, g, m, v, f unsafe.Pointer) { adam(n, w, g, m, v, f) }
	return k
}

// awkward values: normal, tiny, denormal and zero of both signs.
func awkward(rng *rand.Rand, v []float32) {
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
}

// tileSpec is what a tile kernel must compute, element by element.
func tileSpec(t kern.Tile, mr, nr, kc int, a, b, c []float32, acc int) {
	for i := range mr {
		for j := range nr {
			var sum float32
			for k := range kc {
				bits := math.Float32bits(b[k*nr+j])
				low, high := math.Float32frombits(bits<<16), math.Float32frombits(bits&0xffff0000)
				switch t.Kind {
				case kern.F32:
					sum = asm.FMA(a[k*mr+i], b[k*nr+j], sum)
				case kern.Wide:
					sum = asm.FMA(a[2*k*mr+i], low, sum)
					sum = asm.FMA(a[(2*k+1)*mr+i], high, sum)
				case kern.Dot:
					sum = asm.DotBF16(sum, math.Float32bits(a[k*mr+i]), bits)
				}
			}
			if acc != 0 {
				sum += c[i*nr+j]
			}
			c[i*nr+j] = sum
		}
	}
}

func bytesOf(v []float32) []byte { return compute.Bytes(v) }

func first(v []float32) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(v)) }

// TestTiles holds every tile kernel against its specification: emulated to the bit, and on this CPU
// where it has the instructions (VDPBF16PS within a tolerance: the order inside a pair is the
// manual's, and the manual's alone).
func TestTiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, tile := range kern.Tiles() {
		nr := 2 * tile.Bytes / 4
		for _, mr := range tile.Heights {
			name := tile.Name(mr)
			t.Run(name, func(t *testing.T) {
				native := nativeTiles(tile)
				for _, kc := range []int{0, 1, 2, 3, 4, 5, 8, 11} {
					for acc := range 2 {
						per := 1
						if tile.Kind == kern.Wide {
							per = 2
						}
						a, b := make([]float32, per*kc*mr), make([]float32, kc*nr)
						spec := make([]float32, mr*nr)
						awkward(rng, a)
						awkward(rng, b)
						awkward(rng, spec)
						got, guarded := slices.Clone(spec), make([]float32, mr*nr+32)
						awkward(rng, guarded)
						before := slices.Clone(guarded)
						copy(guarded[16:], spec)
						tileSpec(tile, mr, nr, kc, a, b, spec, acc)
						programs()[name].Run([][]byte{bytesOf(a), bytesOf(b), bytesOf(got)}, kc, first(a), first(b), first(got), acc)
						if i := differ(got, spec); i >= 0 {
							t.Fatalf("kc %d, acc %d: element %d is %g, want %g", kc, acc, i, got[i], spec[i])
						}
						if native == nil {
							continue
						}
						native.of[mr](kc, first(a), first(b), unsafe.Pointer(&guarded[16]), acc)
						for i, v := range guarded[16 : 16+mr*nr] {
							if tile.Kind == kern.Dot && math.Abs(float64(v-spec[i])) <= 1e-4 {
								continue
							}
							if math.Float32bits(v) != math.Float32bits(spec[i]) {
								t.Fatalf("on this CPU, kc %d, acc %d: element %d is %g, want %g", kc, acc, i, v, spec[i])
							}
						}
						if differ(guarded[:16], before[:16]) >= 0 || differ(guarded[16+mr*nr:], before[16+mr*nr:]) >= 0 {
							t.Fatal("wrote beside the tile")
						}
					}
				}
			})
		}
	}
}

func differ(a, b []float32) int {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

// nativeTiles is the family on this CPU, or nil where the CPU lacks it.
func nativeTiles(t kern.Tile) *tiles {
	isa := ISAAVX2
	if t.Bytes == 64 {
		isa = ISAAVX512
	}
	if t.Kind == kern.Dot {
		isa = ISAAVX512BF16
	}
	if !slices.Contains(Instructions(), isa) {
		return nil
	}
	k := newGEMMKernels(isa)
	return map[kern.Kind]*tiles{kern.F32: &k.f32, kern.Wide: &k.wide, kern.Dot: &k.dot}[t.Kind]
}

// TestEmulatedDevice runs the tests of products on AVX-512 kernels that the emulator executes.
func TestEmulatedDevice(t *testing.T) {
	for _, isa := range []string{ISAAVX512, ISAAVX512BF16} {
		t.Run(isa, func(t *testing.T) {
			k := kernels{gemm: emulated(isa), vector: newVectorKernels(ISAPortable)}
			t.Run("Linear", func(t *testing.T) { testLinear(t, newDevice(isa, k, 2), shapes[:len(shapes)-3]) })
			t.Run("MatMul", func(t *testing.T) { testMatMul(t, newDevice(isa, k, 2), shapes[:len(shapes)-3]) })
			t.Run("FewRows", func(t *testing.T) { testFewRows(t, newDevice(isa, k, 2), []int{2, 3, 5, 8, 11, 13, 27}, 37, 50, 32) })
			t.Run("Head", func(t *testing.T) { testHead(t, newDevice(isa, k, 2), headShapes[:2]) })
		})
	}
}

var long = flag.Bool("long", false, "run the suite of all backends on emulated AVX-512 too (minutes)")

// TestEmulatedSuite runs the suite of all backends on AVX-512 kernels that the emulator executes.
func TestEmulatedSuite(t *testing.T) {
	if !*long {
		t.Skip("minutes: needs -long")
	}
	for _, isa := range []string{ISAAVX512, ISAAVX512BF16} {
		t.Run(isa, func(t *testing.T) {
			k := kernels{gemm: emulated(isa), vector: newVectorKernels(Instructions()[0])}
			computetest.RunAll(t, func(threads int) compute.Device { return newDevice(isa, k, threads) }, computetest.Options{})
		})
	}
}

// TestTwinTiles holds the kernels of one row and two panels against the kernel of one.
func TestTwinTiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, tile := range kern.Tiles() {
		nr := 2 * tile.Bytes / 4
		for _, kc := range []int{0, 1, 3, 4, 9} {
			for acc := range 2 {
				a, b, c := make([]float32, 2*kc), make([]float32, 2*(kc*nr+16)), make([]float32, 3*nr)
				awkward(rng, a)
				awkward(rng, b)
				awkward(rng, c)
				second := kc*nr + 16
				want := slices.Clone(c)
				one := programs()[tile.Name(1)]
				one.Run(nil, kc, first(a), first(b), first(want), acc)
				one.Run(nil, kc, first(a), unsafe.Pointer(&b[second]), unsafe.Pointer(&want[2*nr]), acc)
				got := slices.Clone(c)
				programs()[tile.TwinName()].Run([][]byte{bytesOf(a), bytesOf(b), bytesOf(got)},
					kc, first(a), first(b), first(got), acc, 4*second, 8*nr)
				if i := differ(got, want); i >= 0 {
					t.Fatalf("%s, kc %d, acc %d: element %d is %g, want %g", tile.TwinName(), kc, acc, i, got[i], want[i])
				}
				if native := nativeTiles(tile); native != nil {
					got, want := slices.Clone(c), slices.Clone(c)
					native.of[1](kc, first(a), first(b), first(want), acc)
					native.of[1](kc, first(a), unsafe.Pointer(&b[second]), unsafe.Pointer(&want[2*nr]), acc)
					native.twin(kc, first(a), first(b), first(got), acc, 4*second, 8*nr)
					if i := differ(got, want); i >= 0 {
						t.Fatalf("%s on this CPU, kc %d, acc %d: element %d is %g, want %g", tile.TwinName(), kc, acc, i, got[i], want[i])
					}
				}
			}
		}
	}
}

// TestStreamTiles holds the kernels of few rows against the specification of tiles.
func TestStreamTiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	for _, tile := range kern.Tiles() {
		nr, per := 2*tile.Bytes/4, 1
		if tile.Kind == kern.Wide {
			per = 2
		}
		native := nativeStreams(tile)
		for _, mr := range tile.Stream {
			for _, kc := range []int{0, 1, 3, 4, 9} {
				for acc := range 2 {
					a, b, spec := make([]float32, per*kc*mr), make([]float32, kc*nr), make([]float32, mr*nr)
					awkward(rng, a)
					awkward(rng, b)
					awkward(rng, spec)
					got, onCPU := slices.Clone(spec), slices.Clone(spec)
					tileSpec(tile, mr, nr, kc, a, b, spec, acc)
					programs()[tile.StreamName(mr)].Run([][]byte{bytesOf(a), bytesOf(b), bytesOf(got)}, kc, first(a), first(b), first(got), acc, first(b), 17)
					if i := differ(got, spec); i >= 0 {
						t.Fatalf("%s, kc %d, acc %d: element %d is %g, want %g", tile.StreamName(mr), kc, acc, i, got[i], spec[i])
					}
					if native == nil {
						continue
					}
					native[mr](kc, first(a), first(b), first(onCPU), acc, first(b), 17)
					for i, v := range onCPU {
						if tile.Kind == kern.Dot && math.Abs(float64(v-spec[i])) <= 1e-4 {
							continue
						}
						if math.Float32bits(v) != math.Float32bits(spec[i]) {
							t.Fatalf("%s on this CPU, kc %d, acc %d: element %d is %g, want %g", tile.StreamName(mr), kc, acc, i, v, spec[i])
						}
					}
				}
			}
		}
	}
}

// nativeStreams is the family on this CPU, or nil where the CPU lacks it.
func nativeStreams(t kern.Tile) *streamTiles {
	if nativeTiles(t) == nil {
		return nil
	}
	isa := map[kern.Kind]string{kern.F32: ISAAVX512, kern.Wide: ISAAVX512, kern.Dot: ISAAVX512BF16}[t.Kind]
	if t.Bytes == 32 {
		isa = ISAAVX2
	}
	k := newGEMMKernels(isa)
	return &k.streams[t.Kind]
}

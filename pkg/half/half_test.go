package half

import (
	"math"
	"sort"
	"testing"
)

// TestF16 holds every binary16 number to its definition: (-1)^s 2^(e-15) 1.f, subnormals 2^-14 0.f.
func TestF16(t *testing.T) {
	for bits := range 1 << 16 {
		exponent, fraction := bits>>10&31, float64(bits&0x3ff)
		var want float64
		switch exponent {
		case 0:
			want = math.Ldexp(fraction, -24)
		case 31:
			want = math.Inf(1)
			if fraction != 0 {
				want = math.NaN()
			}
		default:
			want = math.Ldexp(1024+fraction, exponent-25)
		}
		if bits&0x8000 != 0 {
			want = -want
		}
		got := F16(uint16(bits))
		if math.IsNaN(want) {
			if got == got {
				t.Fatalf("F16(%#04x) = %v, want NaN", bits, got)
			}
			if back := ToF16(got); back != uint16(bits)|0x200 {
				t.Fatalf("ToF16(F16(%#04x)) = %#04x", bits, back)
			}
			continue
		}
		if float64(got) != want || math.Signbit(float64(got)) != math.Signbit(want) {
			t.Fatalf("F16(%#04x) = %v, want %v", bits, got, want)
		}
		if back := ToF16(got); back != uint16(bits) {
			t.Fatalf("ToF16(%v) = %#04x, want %#04x", got, back, bits)
		}
	}
}

// TestRounding compares with a search for the nearest number among all, ties to the even one.
func TestRounding(t *testing.T) {
	formats := []struct {
		name   string
		decode func(uint16) float32
		encode func(float32) uint16
		inf    uint16
		max    float64 // the number after the largest finite one, had the exponent one more value
	}{
		{"F16", F16, ToF16, 0x7c00, 65536},
		{"BF16", BF16, ToBF16, 0x7f80, 0x1p128},
	}
	for _, f := range formats {
		value := func(i int) float64 {
			if i == int(f.inf) {
				return f.max
			}
			return float64(f.decode(uint16(i)))
		}
		nearest := func(x float64) uint16 {
			i := sort.Search(int(f.inf), func(i int) bool { return value(i) >= x })
			if i > 0 {
				below, above := x-value(i-1), value(i)-x
				if below < above || below == above && i%2 == 1 {
					i--
				}
			}
			return uint16(i)
		}
		for i := range int(f.inf) {
			mid := float32((value(i) + value(i+1)) / 2)
			for _, x := range []float32{mid, math.Nextafter32(mid, 0), math.Nextafter32(mid, math.MaxFloat32)} {
				if got, want := f.encode(x), nearest(float64(x)); got != want {
					t.Fatalf("%s of %v = %#04x, want %#04x", f.name, x, got, want)
				}
				if got, want := f.encode(-x), nearest(float64(x))|0x8000; got != want {
					t.Fatalf("%s of %v = %#04x, want %#04x", f.name, -x, got, want)
				}
			}
		}
		inf := float32(math.Inf(1))
		if got := f.encode(inf); got != f.inf {
			t.Errorf("%s of +Inf = %#04x", f.name, got)
		}
		if got := f.decode(f.encode(float32(math.NaN()))); got == got {
			t.Errorf("%s of NaN = %v", f.name, got)
		}
	}
}

func BenchmarkDecodeF16(b *testing.B) {
	src := AppendF16(nil, make([]float32, 1<<16))
	dst := make([]float32, 1<<16)
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		DecodeF16(dst, src)
	}
}

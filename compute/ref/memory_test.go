package ref_test

import (
	"math"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/ref"
)

func panics(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s: no panic", what)
		}
	}()
	f()
}

func TestFreshMemoryIsNaN(t *testing.T) {
	l := newLab(t)
	for i, v := range l.get(l.arena.Alloc(compute.F64, 2, 3)) {
		if v == v {
			t.Errorf("element %d is %v", i, v)
		}
	}
}

func TestReleasedMemoryIsGone(t *testing.T) {
	l := newLab(t)
	mark := l.arena.Mark()
	x := l.arena.Alloc(compute.F64, 2, 3)
	l.arena.Release(mark)
	panics(t, "Zero of a released tensor", func() { l.Zero(x) })
}

func TestLimits(t *testing.T) {
	dev := ref.New()
	b, arena := dev.NewBackend(), dev.NewArena(1<<16)
	w := dev.NewWeight(4, 8, compute.F64, true)
	x, y, dw := arena.Alloc(compute.F64, 3, 8), arena.Alloc(compute.F64, 3, 4), arena.Alloc(compute.F64, 4, 8)
	linear := func() { b.Linear([]compute.Tensor{y}, x, []compute.Weight{w}, false) }
	panics(t, "nothing reserved", linear)
	b.Reserve(compute.Limits{Tokens: 2, Width: 8})
	panics(t, "fewer tokens reserved", linear)
	b.Reserve(compute.Limits{Tokens: 3})
	linear()
	panics(t, "not reserved for training", func() { b.LinearDW(dw, y, x, 1) })
	b.Reserve(compute.Limits{Train: true})
	b.LinearDW(dw, y, x, 1)
}

// TestDownload rounds once: 1 + 2⁻⁸ + 2⁻⁴⁰ is above the middle of two BF16, though its F32 is not.
func TestDownload(t *testing.T) {
	l := newLab(t)
	f32, bf16 := l.arena.Alloc(compute.F32, 1, 1), l.arena.Alloc(compute.BF16, 1, 1)
	x := l.zeros(1, 1)
	for _, tt := range []struct {
		in   float64
		bf16 uint16
	}{
		{1, 0x3f80},
		{1 + 0x1p-8, 0x3f80},
		{1 + 0x1p-8 + 0x1p-40, 0x3f81},
		{1 + 0x3p-8 - 0x1p-40, 0x3f81},
		{-1 - 0x1p-8 - 0x1p-40, 0xbf81},
		{0x1p-200, 0},
		{math.MaxFloat64, 0x7f80},
		{math.Inf(-1), 0xff80},
	} {
		l.set(x, []float64{tt.in})
		l.Copy(f32, x)
		l.Copy(bf16, x)
		single, half := make([]float32, 1), make([]uint16, 1)
		if err := compute.Read(l, single, f32); err != nil {
			t.Fatal(err)
		}
		if err := compute.Read(l, half, bf16); err != nil {
			t.Fatal(err)
		}
		if single[0] != float32(tt.in) || half[0] != tt.bf16 {
			t.Errorf("%x: F32 %x, BF16 %#x; want %x, %#x", tt.in, single[0], half[0], float32(tt.in), tt.bf16)
		}
	}
}

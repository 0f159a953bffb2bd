package cpu

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// The model's shapes, [tokens, out, in]: gate and up, down, q and o, k and v, the head.
var modelShapes = [][3]int{{2048, 1536, 576}, {2048, 576, 1536}, {2048, 576, 576}, {2048, 192, 576}, {512, 49152, 576}}

// benchmark runs f, of so many multiply-adds on one thread, and after each call the loop that is
// this CPU's peak. It reports medians of what the thread's own clock says: on a machine that others
// use too, wall time means nothing.
func benchmark(b *testing.B, dev *Device, dt compute.DType, madds int, f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f()
	var mine, peak []float64
	for b.Loop() {
		calls := max(1<<24/madds, 1)
		began := clock()
		for range calls {
			f()
		}
		middle := clock()
		n := runPeak(dev, dt, max(madds*calls/8, 1<<24))
		mine = append(mine, 2e-9*float64(madds*calls)/(middle-began).Seconds())
		peak = append(peak, 2e-9*float64(n)/(clock()-middle).Seconds())
	}
	slices.Sort(mine)
	slices.Sort(peak)
	gflops, top := mine[len(mine)/2], peak[len(peak)/2]
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(gflops, "GFLOP/s")
	if top > 0 {
		b.ReportMetric(top, "peakGFLOP/s")
		b.ReportMetric(100*gflops/top, "%peak")
	}
}

func benchDevices(b *testing.B, f func(b *testing.B, dev *Device, dt compute.DType)) {
	for _, isa := range Instructions() {
		for _, dt := range []compute.DType{compute.F32, compute.BF16} {
			b.Run(fmt.Sprintf("%s/%v", isa, dt), func(b *testing.B) {
				dev, err := New(Config{Threads: 1, ISA: isa})
				if err != nil {
					b.Fatal(err)
				}
				f(b, dev, dt)
			})
		}
	}
}

func BenchmarkLinear(b *testing.B) {
	benchDevices(b, func(b *testing.B, dev *Device, dt compute.DType) {
		m := newMachine(b, dev, compute.Limits{Tokens: 2048, Width: 1536, Train: true})
		mark := m.arena.Mark()
		for _, s := range append(modelShapes, [][3]int{{1, 1536, 576}, {8, 1536, 576}, {32, 1536, 576}, {1, 49152, 576}, {8, 49152, 576}, {32, 49152, 576}}...) {
			m.arena.Release(mark)
			x := m.arena.Alloc(dt, s[0], s[2])
			y := m.arena.Alloc(dt, s[0], s[1])
			w := dev.NewWeight(s[1], s[2], dt, true)
			b.Run(fmt.Sprintf("%dx%dx%d", s[0], s[1], s[2]), func(b *testing.B) {
				benchmark(b, dev, dt, s[0]*s[1]*s[2], func() { m.b.Linear([]compute.Tensor{y}, x, []compute.Weight{w}, false) })
			})
			w.Free()
		}
	})
}

func BenchmarkLinearBackward(b *testing.B) {
	benchDevices(b, func(b *testing.B, dev *Device, dt compute.DType) {
		m := newMachine(b, dev, compute.Limits{Tokens: 2048, Width: 1536, Train: true})
		mark := m.arena.Mark()
		for _, s := range modelShapes[:4] {
			m.arena.Release(mark)
			x, dy := m.arena.Alloc(dt, s[0], s[2]), m.arena.Alloc(dt, s[0], s[1])
			dx, dw := m.arena.Alloc(dt, s[0], s[2]), m.arena.Alloc(compute.F32, s[1], s[2])
			w := dev.NewWeight(s[1], s[2], dt, true)
			b.Run(fmt.Sprintf("dx/%dx%dx%d", s[0], s[1], s[2]), func(b *testing.B) {
				benchmark(b, dev, dt, s[0]*s[1]*s[2], func() { m.b.LinearDX(dx, []compute.Tensor{dy}, []compute.Weight{w}, false) })
			})
			b.Run(fmt.Sprintf("dw/%dx%dx%d", s[0], s[1], s[2]), func(b *testing.B) {
				benchmark(b, dev, dt, s[0]*s[1]*s[2], func() { m.b.LinearDW(dw, dy, x, 1) })
			})
			w.Free()
		}
	})
}

// BenchmarkHead is the head's forward operation, a product, and the backward one, three.
func BenchmarkHead(b *testing.B) {
	benchDevices(b, func(b *testing.B, dev *Device, dt compute.DType) {
		const tokens, in, vocab = 512, 576, 49152
		m := newMachine(b, dev, compute.Limits{Tokens: tokens, Width: in, Vocab: vocab, HeadRows: tokens, Train: true})
		x := m.arena.Alloc(dt, tokens, in)
		w := dev.NewWeight(vocab, in, dt, true)
		defer w.Free()
		h := m.headCase(x, vocab, tokens)
		b.Run("forward", func(b *testing.B) {
			benchmark(b, dev, dt, tokens*in*vocab, func() { m.b.HeadLogProb(h.logp, h.lse, h.entropy, h.best, h.x, h.rows, h.target, w) })
		})
		b.Run("backward", func(b *testing.B) {
			benchmark(b, dev, dt, 3*tokens*in*vocab, func() { m.b.HeadLogProbBackward(h.dx, h.dw, h.coef, h.lse, h.x, h.rows, h.target, w) })
		})
	})
}

// BenchmarkOptimize is a step over the gate's weight, packed again in both its forms.
func BenchmarkOptimize(b *testing.B) {
	benchDevices(b, func(b *testing.B, dev *Device, dt compute.DType) {
		const out, in = 4096, 576
		m := newMachine(b, dev, compute.Limits{Tokens: 1, Width: in, Train: true})
		w := dev.NewWeight(out, in, dt, true)
		defer w.Free()
		f32 := func() compute.Tensor {
			t := m.arena.Alloc(compute.F32, out, in)
			m.b.Zero(t)
			return t
		}
		master, g, first, second := f32(), f32(), f32(), f32()
		for _, o := range []struct {
			name  string
			state []compute.Tensor
			h     compute.Optimizer
		}{
			{"store", nil, compute.Optimizer{}},
			{"rmsprop", []compute.Tensor{second}, compute.Optimizer{Kind: compute.RMSProp, LR: 1e-6, Alpha: 0.99, Eps: 1e-8, Step: 1}},
			{"adamw", []compute.Tensor{first, second}, compute.Optimizer{Kind: compute.AdamW, LR: 1e-6, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Step: 1}},
		} {
			b.Run(o.name, func(b *testing.B) {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				var times []float64
				for b.Loop() {
					began := clock()
					if o.state == nil {
						m.b.Store(w, 0, master)
					} else {
						m.b.Optimize(w, master, g, o.state, compute.Tensor{}, o.h)
					}
					times = append(times, (clock() - began).Seconds())
				}
				slices.Sort(times)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(times[len(times)/2]*1e9/(out*in), "ns/weight")
			})
		}
	})
}

// BenchmarkTile is the tile kernels on operands that stay in the first cache.
func BenchmarkTile(b *testing.B) {
	benchDevices(b, func(b *testing.B, dev *Device, dt compute.DType) {
		g := &dev.kernels.gemm
		_, _, block, kern := g.formsOf(dt, dt)
		per := 1
		if dt == compute.BF16 {
			per = 2
		}
		mem := newMemory(1 << 20)
		defer mem.free()
		p, c := unsafe.Add(mem.base, 1<<19), unsafe.Add(mem.base, 1<<18)
		for _, mr := range g.heights {
			b.Run(fmt.Sprintf("%dx%d", mr, g.nr), func(b *testing.B) {
				benchmark(b, dev, dt, 100*mr*g.nr*block*per, func() {
					for range 100 {
						kern.of[mr](block, mem.base, p, c, 1)
					}
				})
			})
		}
	})
}

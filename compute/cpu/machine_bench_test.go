package cpu

import (
	"testing"
	"time"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// peakJob is the loop that is this CPU's peak, once an item.
type peakJob struct {
	dev *Device
	dt  compute.DType
	n   int
}

func (j *peakJob) do(_, _ int) { runPeak(j.dev, j.dt, j.n) }

// readJob reads a block of memory an item.
type readJob struct {
	k     *vectorKernels
	base  unsafe.Pointer
	block int // of F32
	sums  []float32
}

func (j *readJob) do(_, item int) {
	j.sums[item] = j.k.sumSquares(j.block, unsafe.Add(j.base, 4*j.block*item))
}

// BenchmarkMachine is the roof under which all others stand: multiply-adds by instructions that wait
// for nothing, and memory read from end to end, on one core and on all.
func BenchmarkMachine(b *testing.B) {
	for _, c := range []struct {
		name    string
		threads int
	}{{"one", 1}, {"all", 0}} {
		dev, err := New(Config{Threads: c.threads})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { dev.Close() })
		for _, dt := range []compute.DType{compute.F32, compute.BF16} {
			b.Run("peak/"+dt.String()+"/"+c.name, func(b *testing.B) {
				const n = 1 << 30
				if runPeak(dev, dt, 1<<20) == 0 {
					b.Skip("no assembly to measure with")
				}
				j := &peakJob{dev, dt, n}
				rate(b, 2e-9*n*float64(dev.Threads()), "GFLOP/s", func() { dev.pool.run(dev.Threads(), j) })
			})
		}
		b.Run("read/"+c.name, func(b *testing.B) {
			const bytes, block = 1 << 29, 1 << 18
			m := newMemory(bytes)
			defer m.free()
			zero := unsafe.Slice((*float32)(m.base), bytes/4)
			for i := range zero {
				zero[i] = 1 // the operating system gives memory when it is first written
			}
			j := &readJob{&dev.kernels.vector, m.base, block, make([]float32, bytes/4/block)}
			rate(b, 1e-9*bytes, "GB/s", func() { dev.pool.run(len(j.sums), j) })
		})
	}
}

// rate reports the best of b.N calls: what the machine can, not what it did while others used it.
func rate(b *testing.B, work float64, unit string, f func()) {
	f()
	best := 0.0
	for b.Loop() {
		began := time.Now()
		f()
		best = max(best, work/time.Since(began).Seconds())
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(best, unit)
}

//go:build cuda

package cuda_test

import (
	"sync"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

// A new weight is zero, and holds what was stored into its rows last. Looked at by Embed, which
// copies rows.
func TestStore(t *testing.T) {
	d := device(t)
	defer d.Close()
	const out, in = 70, 33
	for _, dt := range []compute.DType{compute.F32, compute.BF16} {
		b := d.NewBackend()
		b.Reserve(compute.Limits{Tokens: out, Width: in})
		arena := d.NewArena(1 << 20)
		src, x, ids := arena.Alloc(compute.F32, out, in), arena.Alloc(compute.F32, out, in), arena.Alloc(compute.I32, out, 1)
		upload(b, ids, func(i int) float64 { return float64(out - 1 - i) })
		w := d.NewWeight(out, in, dt, true)
		want := make([]float64, out*in)
		check := func(when string) {
			t.Helper()
			b.Embed(x, w, ids)
			for i, v := range download(t, b, x) {
				if row := out - 1 - i/in; v != want[row*in+i%in] {
					t.Fatalf("%v, %s: element (%d, %d) is %v, want %v", dt, when, row, i%in, v, want[row*in+i%in])
				}
			}
		}
		check("new")
		for _, rows := range [][2]int{{0, out}, {17, 41}, {out - 1, out}, {5, 5}} {
			value := func(i int) float32 { return float32(i)*0.37 + float32(rows[1]) }
			upload(b, src, func(i int) float64 { return float64(value(i)) })
			b.Store(w, rows[0], src.Slice(rows[0], rows[1]))
			for i := rows[0] * in; i < rows[1]*in; i++ {
				if want[i] = float64(value(i)); dt == compute.BF16 {
					want[i] = float64(compute.F32FromBF16(compute.BF16FromF32(value(i))))
				}
			}
			check("stored")
		}
		w.Free()
		arena.Free()
	}
}

// A weight is read from several queues at once, each on whatever thread its goroutine is.
func TestSharedWeight(t *testing.T) {
	d := device(t)
	defer d.Close()
	const rows, in, out, queues = 20, 40, 30, 4
	arena := d.NewArena(1 << 20)
	b := d.NewBackend()
	b.Reserve(compute.Limits{Tokens: rows, Width: in})
	src := arena.Alloc(compute.F32, out, in)
	upload(b, src, func(i int) float64 { return float64(i%7 - 3) })
	w := d.NewWeight(out, in, compute.BF16, false)
	b.Store(w, 0, src)
	download(t, b, src) // other queues may read the weight once its own has waited
	got := make([][]float64, queues)
	var wait sync.WaitGroup
	for i := range got {
		wait.Go(func() {
			b, arena := d.NewBackend(), d.NewArena(1<<20)
			defer arena.Free()
			b.Reserve(compute.Limits{Tokens: rows, Width: in})
			wide, x, y := arena.Alloc(compute.F32, rows, in), arena.Alloc(compute.BF16, rows, in), arena.Alloc(compute.F32, rows, out)
			upload(b, wide, func(i int) float64 { return float64(i%5 - 2) })
			b.Copy(x, wide)
			for range 5 {
				b.Linear([]compute.Tensor{y}, x, []compute.Weight{w}, false)
			}
			got[i] = download(t, b, y)
		})
	}
	wait.Wait()
	for q := range got {
		for i, v := range got[q] {
			want := 0
			for k := range in {
				want += ((i/out*in+k)%5 - 2) * ((i%out*in+k)%7 - 3)
			}
			if v != float64(want) {
				t.Fatalf("queue %d: element %d is %v, want %d", q, i, v, want)
			}
		}
	}
}

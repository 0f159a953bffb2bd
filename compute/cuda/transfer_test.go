//go:build cuda

package cuda_test

import (
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

// Large copies go their own way beside the kernels, and small ones do not; either way each has its place
// in the queue: what is read is what had been written by then, whichever stream is ahead.
func TestTransferOrder(t *testing.T) {
	d := device(t)
	const cols, rounds = 257, 12
	arena := d.NewArena(12 << 20)
	for _, rows := range []int{3, 1200, 5000} { // below a lane's least, in one piece, more than the staging holds
		mark := arena.Mark()
		b := d.NewBackend()
		x, y := arena.Alloc(compute.F32, rows, cols), arena.Alloc(compute.F32, rows, cols)
		small := arena.Alloc(compute.F32, 1, cols)
		src := make([]float32, rows*cols)
		got, gotSmall := make([][]float32, rounds), make([][]float32, rounds)
		tickets := make([]compute.Ticket, rounds)
		for r := range rounds {
			for i := range src {
				src[i] = float32(r*1000 + i%997)
			}
			compute.Write(b, x, src) // before the kernel of the last round has read x, it must not land
			b.Copy(y, x)
			b.Copy(small, x.Slice(rows-1, rows))
			b.Zero(x)
			got[r], gotSmall[r] = make([]float32, rows*cols), make([]float32, cols)
			b.Download(compute.Bytes(got[r]), y)
			tickets[r] = b.Download(compute.Bytes(gotSmall[r]), small)
			b.Zero(y)
		}
		for r := range rounds {
			if err := b.Wait(tickets[r]); err != nil { // the large one came before, so it is done too
				t.Fatal(err)
			}
			for i, v := range got[r] {
				if want := float32(r*1000 + i%997); v != want {
					t.Fatalf("%d rows, round %d: element %d is %v, want %v", rows, r, i, v, want)
				}
			}
			for i, v := range gotSmall[r] {
				if want := float32(r*1000 + ((rows-1)*cols+i)%997); v != want {
					t.Fatalf("%d rows, round %d: element %d of the last row is %v, want %v", rows, r, i, v, want)
				}
			}
		}
		arena.Release(mark)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

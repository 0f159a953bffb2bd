package cpu

import (
	"sync"
	"sync/atomic"
	"testing"
)

// counting counts how often each item was done, and that no thread number is in use twice.
type counting struct {
	done []atomic.Int32
	busy []atomic.Bool
	bad  atomic.Bool
}

func (c *counting) do(thread, item int) {
	if c.busy[thread].Swap(true) {
		c.bad.Store(true)
	}
	c.done[item].Add(1)
	c.busy[thread].Store(false)
}

// TestPool runs regions of all sizes from several goroutines at once.
func TestPool(t *testing.T) {
	for threads := 1; threads <= 5; threads++ {
		p := newPool(threads)
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				for items := range 300 {
					c := &counting{done: make([]atomic.Int32, items), busy: make([]atomic.Bool, threads)}
					p.run(items, c)
					for i := range c.done {
						if n := c.done[i].Load(); n != 1 {
							t.Errorf("%d threads: item %d of %d was done %d times", threads, i, items, n)
							return
						}
					}
					if c.bad.Load() {
						t.Errorf("%d threads: two items on one thread at once", threads)
					}
				}
			})
		}
		callers.Wait()
		p.close()
		p.close()
	}
}

// BenchmarkPool is what a region costs.
func BenchmarkPool(b *testing.B) {
	p := newPool(2)
	defer p.close()
	c := &counting{done: make([]atomic.Int32, 8), busy: make([]atomic.Bool, 2)}
	b.ReportAllocs()
	for b.Loop() {
		p.run(8, c)
	}
}

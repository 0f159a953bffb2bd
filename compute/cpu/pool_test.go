package cpu

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
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

// contended runs f while other goroutines keep every core busy.
func contended(f func()) {
	var stop atomic.Bool
	var others sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		others.Go(func() {
			for x := uint32(1); !stop.Load(); {
				for range 1 << 12 {
					x = x*1664525 + 1013904223
				}
			}
		})
	}
	f()
	stop.Store(true)
	others.Wait()
}

// TestPoolOnSharedCores: regions end while others hold the cores, and a pool that has nothing to do
// gives its cores back.
func TestPoolOnSharedCores(t *testing.T) {
	p := newPool(2)
	defer p.close()
	c := &counting{done: make([]atomic.Int32, 8), busy: make([]atomic.Bool, 2)}
	const regions = 200
	contended(func() {
		for range regions {
			p.run(len(c.done), c)
		}
	})
	for i := range c.done {
		if n := c.done[i].Load(); n != regions {
			t.Errorf("item %d was done %d times, want %d", i, n, regions)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); !p.workers[1].parked.Load(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the worker still spins")
		}
	}
}

// BenchmarkPoolRegions is regions of 8 items of 10 µs each, on free cores and on shared ones, where
// one thread does as well. lone is the same on one thread.
func BenchmarkPoolRegions(b *testing.B) {
	for _, threads := range []int{1, 2} {
		p := newPool(threads)
		b.Cleanup(p.close)
		run := func(b *testing.B) {
			for b.Loop() {
				p.run(8, spinning{})
			}
		}
		b.Run(fmt.Sprintf("free/threads=%d", threads), run)
		b.Run(fmt.Sprintf("shared/threads=%d", threads), func(b *testing.B) { contended(func() { run(b) }) })
	}
}

// spinning is a job whose items take about 10 µs.
type spinning struct{}

func (spinning) do(_, _ int) {
	x := uint32(1)
	for range 10_000 {
		x = x*1664525 + 1013904223
	}
	if x == 0 {
		panic("unreachable: the generator's cycle from 1 does not meet 0 so soon")
	}
}

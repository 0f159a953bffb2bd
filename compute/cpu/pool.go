package cpu

import (
	"sync"
	"sync/atomic"
	"time"
)

// job is work cut into items. do is called once for each item, by some thread in [0, threads); the
// result must not depend on which. Jobs are fields of a Backend, so that a region allocates nothing.
type job interface {
	do(thread, item int)
}

// pool is a device's threads. A parallel region is one call of run; the regions of all Backends
// take turns. The calling goroutine is thread 0.
//
// A region never waits for a thread that has not begun: whoever is awake takes the items one by
// one, and the region ends when the last item does. So a thread that the operating system has put
// aside (a shared machine) costs nothing.
type pool struct {
	threads int
	turn    sync.Mutex // one region at a time
	workers []worker
	stopped sync.WaitGroup

	// The region. job and items are written while open is 0 and no thread is inside.
	job   job
	items int64
	_     [64]byte
	next  atomic.Int64 // the next item
	_     [64]byte
	open  atomic.Int32 // 1 while there may be items; −1 when the pool is closed
	epoch atomic.Uint32
	_     [64]byte
	// inside counts the threads that look at the region. A thread adds itself before it reads
	// open; run stores open = 0 before it reads inside: one of the two sees the other.
	inside  atomic.Int32
	waiting atomic.Bool // run sleeps until inside is 0
	done    chan struct{}
}

type worker struct {
	parked atomic.Bool
	wake   chan struct{}
	woken  time.Time // when wake was last sent to
	_      [24]byte
}

// rouse wakes a worker that was parked; whoever took parked from true to false calls it.
func (w *worker) rouse() {
	w.woken = time.Now()
	w.wake <- struct{}{}
}

// Spinning costs a core that others may want, waking costs some 5 to 50 µs: decoding is hundreds of
// short regions a step, so a worker looks for the next region for a while before it sleeps. The
// while doubles when looking paid, or would have, and halves when it did not: what counts is when
// the next region began, not when the worker was awake again, which on a virtual machine is long
// after and would teach it to sleep always.
const (
	spinMin  = 1 << 6
	spinMax  = 1 << 15
	spinTime = 50 * time.Microsecond // about what spinMax takes
)

func newPool(threads int) *pool {
	p := &pool{threads: threads, workers: make([]worker, threads), done: make(chan struct{}, 1)}
	for t := 1; t < threads; t++ {
		p.workers[t].wake = make(chan struct{}, 1)
		p.stopped.Add(1)
		go p.work(t)
	}
	return p
}

// run does items [0, items) of j, and returns when all are done.
func (p *pool) run(items int, j job) {
	if items <= 1 || p.threads == 1 {
		for i := range items {
			j.do(0, i)
		}
		return
	}
	p.turn.Lock()
	p.job, p.items = j, int64(items)
	p.next.Store(0)
	p.open.Store(1)
	p.epoch.Add(1)
	for t := 1; t < min(p.threads, items); t++ {
		if w := &p.workers[t]; w.parked.Load() && w.parked.CompareAndSwap(true, false) {
			w.rouse()
		}
	}
	p.take(0)
	p.open.Store(0)
	for i := 0; p.inside.Load() != 0; i++ {
		if i < spinMax {
			continue
		}
		p.waiting.Store(true)
		if p.inside.Load() != 0 || !p.waiting.CompareAndSwap(true, false) {
			<-p.done
		}
	}
	p.job = nil
	p.turn.Unlock()
}

func (p *pool) take(thread int) {
	for {
		i := p.next.Add(1) - 1
		if i >= p.items {
			return
		}
		p.job.do(thread, int(i))
	}
}

func (p *pool) work(t int) {
	defer p.stopped.Done()
	w := &p.workers[t]
	spins := spinMax
	for last := uint32(0); ; {
		for i := 0; p.epoch.Load() == last && i < spins; i++ {
		}
		if p.epoch.Load() != last {
			spins = min(2*spins, spinMax)
		} else if asleep := w.park(p, last); asleep < spinTime {
			spins = min(2*spins, spinMax)
		} else {
			spins = max(spins/2, spinMin)
		}
		last = p.epoch.Load()
		p.inside.Add(1)
		if p.open.Load() == 1 {
			p.take(t)
		}
		if p.inside.Add(-1) == 0 && p.waiting.Load() && p.waiting.CompareAndSwap(true, false) {
			p.done <- struct{}{}
		}
		if p.open.Load() < 0 {
			return
		}
	}
}

// park sleeps until the epoch is no longer last, and returns how long it was until then.
func (w *worker) park(p *pool, last uint32) time.Duration {
	began := time.Now()
	w.parked.Store(true)
	if p.epoch.Load() != last && w.parked.CompareAndSwap(true, false) {
		return 0
	}
	<-w.wake
	return w.woken.Sub(began)
}

func (p *pool) close() {
	p.turn.Lock()
	defer p.turn.Unlock()
	if p.open.Load() < 0 {
		return
	}
	p.open.Store(-1)
	p.epoch.Add(1)
	for t := 1; t < p.threads; t++ {
		if w := &p.workers[t]; w.parked.CompareAndSwap(true, false) {
			w.rouse()
		}
	}
	p.stopped.Wait()
}

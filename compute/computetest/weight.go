package computetest

import (
	"sync"

	"github.com/seed-8780d58e/spin/compute"
)

// testStore sees a new weight as zeros, and one that was stored into twice as its last values.
func testStore(l *lab) {
	for _, s := range [][2]int{{1, 1}, {70, 33}, {17, 300}, {130, 64}, {l.upTo(100), l.upTo(100)}} {
		// F32 values of which the weight keeps what its dtype can hold.
		before, after := normal(l.rand, compute.F32, s[0], s[1], 1), normal(l.rand, compute.F32, s[0], s[1], 1)
		from := l.rand.IntN(s[0])
		to := from + l.upTo(s[0]-from)
		for _, r := range []*rig{l.one, l.many} {
			r.run(l, nil, func(c *call) {
				w := c.dev.NewWeight(s[0], s[1], l.dt, true)
				c.weights = append(c.weights, w)
				if out, in := w.Dims(); out != s[0] || in != s[1] || w.DType() != l.dt || w.Bytes() < int64(s[0]*s[1]*l.dt.Size()) {
					l.Errorf("weight made as %v %v is [%d, %d] %v of %d bytes", s, l.dt, out, in, w.DType(), w.Bytes())
				}
				l.holds(c, w, c.in("nothing", zeros(compute.F32, s[0], s[1])))
				c.b.Store(w, 0, c.in("before", before))
				c.b.Store(w, from, c.in("after", after).Slice(from, to))
				both := zeros(compute.F32, s[0], s[1])
				copy(both.v, before.v)
				copy(both.v[from*s[1]:to*s[1]], after.v[from*s[1]:])
				l.holds(c, w, c.in("both", both))
			})
		}
	}
	l.sharedWeight()
}

// sharedWeight reads one weight from several queues at once.
func (l *lab) sharedWeight() {
	const rows, in, out, queues = 60, 100, 70, 4
	x, w := normal(l.rand, l.dt, rows, in, 1), normal(l.rand, l.dt, out, in, 1)
	l.many.run(l, nil, func(c *call) {
		shared := c.weight(w, true)
		c.read(l.T, c.in("barrier", x)) // the weight is stored by now
		got := make([]values, queues)
		var wait sync.WaitGroup
		for i := range queues {
			wait.Go(func() {
				b := c.dev.NewBackend()
				b.Reserve(limits())
				arena := c.dev.NewArena(1 << 20)
				defer arena.Free()
				xt, y := arena.Alloc(l.dt, rows, in), arena.Alloc(l.dt, rows, out)
				b.Upload(xt, x.encode(l.dt))
				for range 5 {
					b.Linear([]compute.Tensor{y}, xt, []compute.Weight{shared}, false)
				}
				got[i] = (&rig{b: b}).read(l.T, y)
			})
		}
		wait.Wait()
		for i := range got {
			for j, v := range got[i].v {
				if !sameBits(v, got[0].v[j]) {
					l.Errorf("queue %d: element %d is %v, in queue 0 %v", i, j, v, got[0].v[j])
					break
				}
			}
		}
	})
}

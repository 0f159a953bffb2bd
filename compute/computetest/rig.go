package computetest

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

// rig is one device with a queue and memory.
type rig struct {
	dev    compute.Device
	b      compute.Backend
	arena  compute.Arena
	oracle bool // ref computes in F64 whatever dtype the case is of
}

const arenaBytes = 128 << 20

func newRig(t *testing.T, dev compute.Device, l compute.Limits) *rig {
	r := &rig{dev: dev, b: dev.NewBackend(), arena: dev.NewArena(arenaBytes)}
	r.b.Reserve(l)
	t.Cleanup(func() {
		r.arena.Free()
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) dtype(dt compute.DType) compute.DType {
	if r.oracle && dt != compute.I32 {
		return compute.F64
	}
	return dt
}

// read downloads t.
func (r *rig) read(t testing.TB, x compute.Tensor) values {
	out := zeros(x.DType, x.Rows, x.Cols)
	var err error
	switch x.DType {
	case compute.F64:
		err = compute.Read(r.b, out.v, x)
	case compute.F32:
		s := make([]float32, len(out.v))
		err = compute.Read(r.b, s, x)
		for i, v := range s {
			out.v[i] = float64(v)
		}
	case compute.BF16:
		s := make([]uint16, len(out.v))
		err = compute.Read(r.b, s, x)
		for i, v := range s {
			out.v[i] = float64(compute.F32FromBF16(v))
		}
	case compute.I32:
		s := make([]int32, len(out.v))
		err = compute.Read(r.b, s, x)
		for i, v := range s {
			out.v[i] = float64(v)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// call is one run of an operation on one rig.
type call struct {
	*rig
	t       testing.TB
	rand    *rand.Rand // chooses views
	sel     []int      // the rows of the case that this call is about, in order
	blocks  []block
	weights []compute.Weight
	results []result
	parts   []int // of results: their place in blocks
}

// block is one allocation: a view, and guard cells around it.
type block struct {
	name         string
	whole, inner compute.Tensor
	before       values // of whole
	left, top    int
	written      bool // by the operation
}

// result is what the operation wrote to one tensor.
type result struct {
	name      string
	got       values
	byRow     bool // a row result: its bits depend on its row alone
	roundings int  // these three: see near
	least     float64
	composite bool
}

// run makes one call and returns its results.
func (r *rig) run(l *lab, sel []int, op func(*call)) []result {
	l.Helper()
	c := &call{rig: r, t: l.T, rand: l.rand, sel: sel}
	mark := r.arena.Mark()
	op(c)
	for i, p := range c.parts {
		c.results[i].got = r.read(l.T, c.blocks[p].inner)
	}
	for _, b := range c.blocks {
		c.untouched(b)
	}
	for _, w := range c.weights {
		w.Free()
	}
	r.arena.Release(mark)
	return c.results
}

// put makes a tensor of x's values: a view into a larger one whose other cells are guards.
func (c *call) put(name string, x values) *block {
	b := block{name: name}
	right, bottom := 0, 0
	if c.rand.IntN(2) == 0 {
		b.left, right = c.rand.IntN(4), c.rand.IntN(20)
		b.top, bottom = c.rand.IntN(3), c.rand.IntN(2)
	}
	dt := c.dtype(x.dt)
	guard := math.NaN()
	if dt == compute.I32 {
		guard = math.MinInt32
	}
	b.whole = c.arena.Alloc(dt, b.top+x.rows+bottom, b.left+x.cols+right)
	b.before = fill(dt, b.whole.Rows, b.whole.Cols, func(int) float64 { return guard })
	for i := range x.rows {
		copy(b.before.row(b.top + i)[b.left:], x.row(i))
	}
	c.b.Upload(b.whole, b.before.encode(dt))
	b.inner = b.whole.Slice(b.top, b.top+x.rows).Columns(b.left, b.left+x.cols)
	c.blocks = append(c.blocks, b)
	return &c.blocks[len(c.blocks)-1]
}

// in is an input tensor, inRows one that holds the selected rows.
func (c *call) in(name string, x values) compute.Tensor     { return c.put(name, x).inner }
func (c *call) inRows(name string, x values) compute.Tensor { return c.in(name, x.pick(c.sel)) }

// out is a result that starts as x; outRows is a row result, of the selected rows of x.
func (c *call) out(name string, x values, roundings int) compute.Tensor {
	b := c.put(name, x)
	b.written = true
	c.parts = append(c.parts, len(c.blocks)-1)
	c.results = append(c.results, result{name: name, roundings: roundings})
	return b.inner
}

func (c *call) outRows(name string, x values, roundings int) compute.Tensor {
	t := c.out(name, x.pick(c.sel), roundings)
	c.results[len(c.results)-1].byRow = true
	return t
}

// atLeast says that the last result is a difference of terms of about this size, which may cancel.
func (c *call) atLeast(size float64) { c.results[len(c.results)-1].least = size }

// composite marks the results so far as made of intermediates; see Options.RoundedOperands.
func (c *call) composite() {
	for i := range c.results {
		c.results[i].composite = true
	}
}

// weight stores x in two pieces.
func (c *call) weight(x values, train bool) compute.Weight {
	w := c.dev.NewWeight(x.rows, x.cols, c.dtype(x.dt), train)
	c.weights = append(c.weights, w)
	src := x
	src.dt = compute.F32
	t := c.in("weight's source", src)
	cut := c.rand.IntN(x.rows + 1)
	c.b.Store(w, 0, t.Slice(0, cut))
	c.b.Store(w, cut, t.Slice(cut, x.rows))
	return w
}

// untouched checks the guards, and all of an input.
func (c *call) untouched(b block) {
	c.t.Helper()
	now := c.read(c.t, b.whole)
	for i := range now.rows {
		for j, v := range now.row(i) {
			inside := i >= b.top && i < b.top+b.inner.Rows && j >= b.left && j < b.left+b.inner.Cols
			if inside && b.written || sameBits(v, b.before.row(i)[j]) {
				continue
			}
			if inside {
				c.t.Errorf("%s: input element (%d, %d) was %v and became %v", b.name, i-b.top, j-b.left, b.before.row(i)[j], v)
			} else {
				c.t.Errorf("%s %v: wrote %v outside, at (%d, %d)", b.name, b.inner, v, i-b.top, j-b.left)
			}
			return
		}
	}
}

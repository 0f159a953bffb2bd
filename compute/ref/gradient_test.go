package ref_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/ref"
)

// lab makes F64 tensors, so that uploads and downloads are exact.
type lab struct {
	t *testing.T
	compute.Backend
	dev   compute.Device
	arena compute.Arena
	rand  *rand.Rand
}

func newLab(t *testing.T) *lab {
	dev := ref.New()
	b := dev.NewBackend()
	b.Reserve(compute.Limits{Tokens: 64, Width: 64, Vocab: 64, HeadRows: 64, Segments: 16, Context: 64,
		Heads: compute.Heads{Q: 8, KV: 8, Dim: 16}, Train: true})
	return &lab{t: t, Backend: b, dev: dev, arena: dev.NewArena(1 << 24), rand: rand.New(rand.NewPCG(1, 2))}
}

func (l *lab) zeros(rows, cols int) compute.Tensor {
	x := l.arena.Alloc(compute.F64, rows, cols)
	l.Zero(x)
	return x
}

func (l *lab) random(rows, cols int) compute.Tensor {
	x := l.arena.Alloc(compute.F64, rows, cols)
	l.set(x, l.normal(rows*cols))
	return x
}

func (l *lab) normal(n int) []float64 {
	s := make([]float64, n)
	for i := range s {
		s[i] = l.rand.NormFloat64()
	}
	return s
}

func (l *lab) ints(v ...int32) compute.Tensor {
	x := l.arena.Alloc(compute.I32, len(v), 1)
	compute.Write(l, x, v)
	return x
}

func (l *lab) set(x compute.Tensor, v []float64) { compute.Write(l, x, v) }

func (l *lab) get(x compute.Tensor) []float64 {
	v := make([]float64, x.Len())
	if err := compute.Read(l, v, x); err != nil {
		l.t.Fatal(err)
	}
	return v
}

func (l *lab) weight(master compute.Tensor) compute.Weight {
	w := l.dev.NewWeight(master.Rows, master.Cols, compute.F64, true)
	l.Store(w, 0, master)
	return w
}

// loss is Σ outᵢ·coefᵢ: its gradient by out is coef.
func (l *lab) loss(out, coef compute.Tensor) float64 {
	var s float64
	c := l.get(coef)
	for i, v := range l.get(out) {
		s += v * c[i]
	}
	return s
}

// differ compares got with the central differences of f by x.
func (l *lab) differ(name string, got, x compute.Tensor, f func() float64) {
	l.t.Helper()
	const h = 1e-5
	v, g := l.get(x), l.get(got)
	for i, at := range v {
		v[i] = at + h
		l.set(x, v)
		up := f()
		v[i] = at - h
		l.set(x, v)
		down := f()
		v[i] = at
		want := (up - down) / (2 * h)
		if !(math.Abs(g[i]-want) <= 1e-7*max(1, math.Abs(want))) {
			l.t.Errorf("%s[%d] = %v, finite differences say %v", name, i, g[i], want)
		}
	}
	l.set(x, v)
	f()
}

func TestLinearGradient(t *testing.T) {
	l := newLab(t)
	x, m1, m2 := l.random(3, 5), l.random(4, 5), l.random(2, 5)
	y1, y2, d1, d2 := l.zeros(3, 4), l.zeros(3, 2), l.random(3, 4), l.random(3, 2)
	f := func() float64 {
		l.Linear([]compute.Tensor{y1, y2}, x, []compute.Weight{l.weight(m1), l.weight(m2)}, false)
		return l.loss(y1, d1) + l.loss(y2, d2)
	}
	f()
	dx, dw := l.random(3, 5), l.zeros(4, 5)
	l.LinearDX(dx, []compute.Tensor{d1, d2}, []compute.Weight{l.weight(m1), l.weight(m2)}, false)
	l.LinearDW(dw, d1, x, 1)
	l.differ("dx", dx, x, f)
	l.differ("dw", dw, m1, f)
}

func TestEmbedGradient(t *testing.T) {
	l := newLab(t)
	m, ids, x, dx, dw := l.random(5, 3), l.ints(4, 1, 4), l.zeros(3, 3), l.random(3, 3), l.zeros(5, 3)
	l.EmbedBackward(dw, dx, ids)
	l.differ("dw", dw, m, func() float64 {
		l.Embed(x, l.weight(m), ids)
		return l.loss(x, dx)
	})
}

func TestBiasGradient(t *testing.T) {
	l := newLab(t)
	bias, dy, y, db := l.random(1, 4), l.random(3, 4), l.zeros(3, 4), l.zeros(1, 4)
	l.ColumnSum(db, dy)
	l.differ("db", db, bias, func() float64 {
		l.Zero(y)
		l.AddBias(y, bias)
		return l.loss(y, dy)
	})
}

func TestAddRMSNormGradient(t *testing.T) {
	l := newLab(t)
	const rows, cols, eps = 3, 6, 1e-3
	x0, delta, w := l.random(rows, cols), l.random(rows, cols), l.random(1, cols)
	x, y, rstd := l.zeros(rows, cols), l.zeros(rows, cols), l.zeros(rows, 1)
	dy, dxAfter := l.random(rows, cols), l.random(rows, cols)
	f := func() float64 {
		l.Copy(x, x0)
		l.AddRMSNorm(y, rstd, x, delta, w, eps)
		return l.loss(y, dy) + l.loss(x, dxAfter)
	}
	f()
	dx, ddelta, dw := l.zeros(rows, cols), l.random(rows, cols), l.zeros(1, cols)
	l.Copy(dx, dxAfter)
	l.AddRMSNormBackward(dx, ddelta, dw, dy, x, w, rstd, eps)
	l.differ("dx", dx, x0, f)
	l.differ("ddelta", ddelta, delta, f)
	l.differ("dw", dw, w, f)
}

func TestRoPEGradient(t *testing.T) {
	l := newLab(t)
	cos, sin, pos := l.zeros(9, 2), l.zeros(9, 2), l.ints(8, 0, 3)
	angles := l.normal(18)
	c, s := make([]float64, 18), make([]float64, 18)
	for i, a := range angles {
		s[i], c[i] = math.Sincos(a)
	}
	l.set(cos, c)
	l.set(sin, s)
	x, y, dy := l.random(3, 8), l.zeros(3, 8), l.random(3, 8)
	dx := l.zeros(3, 8)
	l.Copy(dx, dy)
	l.RoPE(dx, pos, cos, sin, 4, true)
	l.differ("dx", dx, x, func() float64 {
		l.Copy(y, x)
		l.RoPE(y, pos, cos, sin, 4, false)
		return l.loss(y, dy)
	})
}

func TestSwiGLUGradient(t *testing.T) {
	l := newLab(t)
	gate, up, dy, y := l.random(2, 5), l.random(2, 5), l.random(2, 5), l.zeros(2, 5)
	dgate, dup := l.random(2, 5), l.random(2, 5)
	l.SwiGLUBackward(dgate, dup, dy, gate, up)
	f := func() float64 {
		l.SwiGLU(y, gate, up)
		return l.loss(y, dy)
	}
	l.differ("dgate", dgate, gate, f)
	l.differ("dup", dup, up, f)
}

func TestAttentionGradient(t *testing.T) {
	for _, window := range []int{0, 3} {
		l := newLab(t)
		h := compute.Heads{Q: 4, KV: 2, Dim: 4, Window: window, Scale: 0.5}
		p := l.NewPlan(16, 8, 0)
		p.Set(compute.Layout{
			Start:  []int32{0, 3, 5, 5, 6, 8},
			Parent: []int32{-1, 0, 0, 1, -1},
			Pos:    []int32{0, 1, 2, 3, 4, 5, 0, 1},
		})
		q, k, v, dy := l.random(8, 16), l.random(8, 8), l.random(8, 8), l.random(8, 16)
		y, lse := l.zeros(8, 16), l.zeros(8, 4)
		f := func() float64 {
			l.Attention(y, lse, q, k, v, h, p)
			return l.loss(y, dy)
		}
		f()
		dq, dk, dv := l.random(8, 16), l.random(8, 8), l.random(8, 8)
		l.AttentionBackward(dq, dk, dv, dy, y, lse, q, k, v, h, p)
		l.differ("dq", dq, q, f)
		l.differ("dk", dk, k, f)
		l.differ("dv", dv, v, f)
	}
}

func TestHeadLogProbGradient(t *testing.T) {
	l := newLab(t)
	x, m, rows, target := l.random(4, 3), l.random(7, 3), l.ints(2, 0, 2), l.ints(6, 1, 1)
	logp, lse, coef := l.zeros(3, 1), l.zeros(3, 1), l.random(3, 1)
	f := func() float64 {
		l.HeadLogProb(logp, lse, compute.Tensor{}, compute.Tensor{}, x, rows, target, l.weight(m))
		return l.loss(logp, coef)
	}
	f()
	dx, dw := l.random(4, 3), l.zeros(7, 3)
	l.HeadLogProbBackward(dx, dw, coef, lse, x, rows, target, l.weight(m))
	l.differ("dx", dx, x, f)
	l.differ("dw", dw, m, f)
}

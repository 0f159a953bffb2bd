package cpu

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

type headCase struct {
	x, rows, target          compute.Tensor
	logp, lse, entropy, best compute.Tensor
	coef, dx, dw             compute.Tensor
	pick, want               []int32
	c                        []float32
}

// headCase asks for n random rows of x.
func (m *machine) headCase(x compute.Tensor, vocab, n int) headCase {
	h := headCase{x: x, pick: make([]int32, n), want: make([]int32, n), c: make([]float32, n)}
	for i := range h.pick {
		h.pick[i], h.want[i], h.c[i] = int32(m.rng.IntN(x.Rows)), int32(m.rng.IntN(vocab)), float32(m.rng.NormFloat64())
	}
	i32 := func(v []int32) compute.Tensor {
		t := m.arena.Alloc(compute.I32, n, 1)
		compute.Write(m.b, t, v)
		return t
	}
	f32 := func() compute.Tensor { return m.arena.Alloc(compute.F32, n, 1) }
	h.rows, h.target, h.best = i32(h.pick), i32(h.want), i32(h.want)
	h.logp, h.lse, h.entropy, h.coef = f32(), f32(), f32(), f32()
	compute.Write(m.b, h.coef, h.c)
	h.dx = m.arena.Alloc(x.DType, x.Rows, x.Cols)
	h.dw = m.arena.Alloc(compute.F32, vocab, x.Cols)
	m.b.Zero(h.dw)
	return h
}

func (m *machine) runHead(h headCase, w compute.Weight) {
	m.b.HeadLogProb(h.logp, h.lse, h.entropy, h.best, h.x, h.rows, h.target, w)
	m.b.HeadLogProbBackward(h.dx, h.dw, h.coef, h.lse, h.x, h.rows, h.target, w)
}

type headShape struct{ tokens, in, vocab, n int }

var headShapes = []headShape{{1, 8, 5, 1}, {40, 33, 700, 55}, {64, 64, 1777, 90}}

func TestHead(t *testing.T) {
	devices(t, func(t *testing.T, dev *Device) { testHead(t, dev, headShapes) })
}

func testHead(t *testing.T, dev *Device, shapes []headShape) {
	m := newMachine(t, dev, compute.Limits{Tokens: 64, Width: 64, Vocab: 2000, HeadRows: 90, Train: true})
	mark := m.arena.Mark()
	for _, s := range shapes {
		for _, dt := range []compute.DType{compute.F32, compute.BF16} {
			m.arena.Release(mark)
			what := fmt.Sprintf("%v %v", s, dt)
			x, xv := m.random(dt, s.tokens, s.in)
			w, wv := m.weight(dt, s.vocab, s.in)
			h := m.headCase(x, s.vocab, s.n)
			m.runHead(h, w)

			logp, lse, entropy := m.read(h.logp), m.read(h.lse), m.read(h.entropy)
			best := make([]int32, s.n)
			if err := compute.Read(m.b, best, h.best); err != nil {
				t.Fatal(err)
			}
			dx, dw := make([]float64, s.tokens*s.in), make([]float64, s.vocab*s.in)
			dxSize, dwSize := make([]float64, len(dx)), make([]float64, len(dw))
			for i, r := range h.pick {
				z := make([]float64, s.vocab)
				top, sum := 0, 0.0
				for v := range z {
					for c := range s.in {
						z[v] += xv[int(r)*s.in+c] * wv[v*s.in+c]
					}
					if z[v] > z[top] {
						top = v
					}
					sum += math.Exp(z[v])
				}
				wantLSE, wantEntropy := math.Log(sum), 0.0
				for v := range z {
					p := math.Exp(z[v] - wantLSE)
					wantEntropy -= p * (z[v] - wantLSE)
					g := -float64(h.c[i]) * p
					if v == int(h.want[i]) {
						g += float64(h.c[i])
					}
					for c := range s.in {
						xe, we := xv[int(r)*s.in+c], wv[v*s.in+c]
						dx[int(r)*s.in+c] += g * we
						amplified := 1 + math.Abs(z[v]) + math.Abs(wantLSE) // by exp, of what F32 leaves
						dxSize[int(r)*s.in+c] += amplified * math.Abs(g*we)
						dw[v*s.in+c] += g * xe
						dwSize[v*s.in+c] += amplified * math.Abs(g*xe)
					}
				}
				near := func(name string, got float32, want float64) {
					if !(math.Abs(float64(got)-want) <= 2e-5*(1+math.Abs(want))) {
						t.Fatalf("%s: %s[%d] = %g, want %g", what, name, i, got, want)
					}
				}
				near("lse", lse[i], wantLSE)
				near("logp", logp[i], z[h.want[i]]-wantLSE)
				near("entropy", entropy[i], wantEntropy)
				if int(best[i]) != top {
					t.Fatalf("%s: argmax[%d] = %d, want %d", what, i, best[i], top)
				}
			}
			m.close(what+" dx", h.dx, dx, dxSize)
			m.close(what+" dw", h.dw, dw, dwSize)
		}
	}
}

// TestHeadKeepsItsBits asks for the same rows among others, in other orders and on other numbers of
// threads.
func TestHeadKeepsItsBits(t *testing.T) {
	for _, isa := range Instructions() {
		for _, dt := range []compute.DType{compute.F32, compute.BF16} {
			t.Run(fmt.Sprintf("%s/%v", isa, dt), func(t *testing.T) {
				const tokens, in, vocab = 50, 40, 1100
				var first [][]float32
				for threads := 1; threads <= 3; threads++ {
					dev, err := New(Config{Threads: threads, ISA: isa})
					if err != nil {
						t.Fatal(err)
					}
					m := newMachine(t, dev, compute.Limits{Tokens: tokens, Width: in, Vocab: vocab, HeadRows: 120, Train: true})
					x, _ := m.random(dt, tokens, in)
					w, _ := m.weight(dt, vocab, in)
					h := m.headCase(x, vocab, 120)
					m.runHead(h, w)
					all := [][]float32{m.read(h.logp), m.read(h.lse), m.read(h.entropy), m.read(h.dx), m.read(h.dw)}
					if first == nil {
						first = all
					}
					for i := range all {
						if !slices.Equal(all[i], first[i]) {
							t.Fatalf("%d threads change bits of result %d", threads, i)
						}
					}
					for range 5 {
						from := m.rng.IntN(100)
						to := from + 1 + m.rng.IntN(120-from)
						part := h
						for _, p := range []*compute.Tensor{&part.rows, &part.target, &part.best, &part.logp, &part.lse, &part.entropy, &part.coef} {
							*p = p.Slice(from, to)
						}
						m.runHead(part, w)
						for i, p := range []compute.Tensor{part.logp, part.lse, part.entropy} {
							if !slices.Equal(m.read(p), first[i][from:to]) {
								t.Fatalf("rows [%d, %d) alone have other bits in result %d", from, to, i)
							}
						}
					}
				}
			})
		}
	}
}

package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

// The default model's sizes.
const (
	benchHidden = 576
	benchMLP    = 1536
	benchVocab  = 49152
	benchTokens = 1536
	benchGame   = 120 // tokens of a packed game: a prompt and two answers
)

var benchHeads = compute.Heads{Q: 9, KV: 3, Dim: 64, Scale: 1.0 / 8}

// bench is a backend with memory of random values.
type bench struct {
	*Backend
	a  compute.Arena
	r  *rand.Rand
	dt compute.DType
}

func newBench(b *testing.B, dt compute.DType, threads int) *bench {
	d, err := New(Config{Threads: threads})
	if err != nil {
		b.Fatal(err)
	}
	x := &bench{newBackend(d), d.NewArena(1 << 30), rand.New(rand.NewPCG(1, 1)), dt}
	x.Reserve(compute.Limits{Tokens: benchTokens, Width: benchMLP, Vocab: benchVocab, Context: 4096, Heads: benchHeads, Train: true})
	b.Cleanup(func() {
		x.a.Free()
		d.Close()
	})
	b.ReportAllocs()
	return x
}

func (x *bench) of(dt compute.DType, rows, cols int) compute.Tensor {
	t := x.a.Alloc(dt, rows, cols)
	switch dt {
	case compute.BF16:
		s := make([]uint16, t.Len())
		for i := range s {
			s[i] = compute.BF16FromF32(float32(x.r.NormFloat64()))
		}
		compute.Write(x, t, s)
	case compute.F32:
		s := make([]float32, t.Len())
		for i := range s {
			s[i] = float32(x.r.NormFloat64())
		}
		compute.Write(x, t, s)
	}
	return t
}

func (x *bench) act(rows, cols int) compute.Tensor { return x.of(x.dt, rows, cols) }
func (x *bench) f32(rows, cols int) compute.Tensor { return x.of(compute.F32, rows, cols) }
func (x *bench) ints(values ...int32) compute.Tensor {
	t := x.a.Alloc(compute.I32, len(values), 1)
	compute.Write(x, t, values)
	return t
}

// perThreads runs f on one thread and on all.
func perThreads(b *testing.B, dt compute.DType, f func(b *testing.B, x *bench)) {
	for _, threads := range slices.Compact([]int{1, runtime.GOMAXPROCS(0)}) {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) { f(b, newBench(b, dt, threads)) })
	}
}

// perDType runs f for F32 and BF16, on one thread and on all.
func perDType(b *testing.B, f func(b *testing.B, x *bench)) {
	for _, dt := range []compute.DType{compute.F32, compute.BF16} {
		b.Run(dt.String(), func(b *testing.B) { perThreads(b, dt, f) })
	}
}

// loop times f, and reports how many bytes of its operands it got through a second, each counted as
// often as it is given.
func loop(b *testing.B, f func(), operands ...compute.Tensor) {
	bytes := 0
	for _, t := range operands {
		bytes += t.Len() * t.DType.Size()
	}
	f()
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(bytes)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
}

// flops reports the rate of work of so many floating point operations a call.
func flops(b *testing.B, flop float64) {
	b.ReportMetric(flop*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

func BenchmarkAddRMSNorm(b *testing.B) {
	perDType(b, func(b *testing.B, x *bench) {
		y, delta, s, w, rstd := x.act(benchTokens, benchHidden), x.act(benchTokens, benchHidden), x.f32(benchTokens, benchHidden), x.f32(1, benchHidden), x.f32(benchTokens, 1)
		loop(b, func() { x.AddRMSNorm(y, rstd, s, delta, w, 1e-5) }, y, delta, s, s)
	})
}

func BenchmarkAddRMSNormBackward(b *testing.B) {
	perDType(b, func(b *testing.B, x *bench) {
		dy, dd, s, dx, w, dw, rstd := x.act(benchTokens, benchHidden), x.act(benchTokens, benchHidden), x.f32(benchTokens, benchHidden), x.f32(benchTokens, benchHidden), x.f32(1, benchHidden), x.f32(1, benchHidden), x.f32(benchTokens, 1)
		loop(b, func() { x.AddRMSNormBackward(dx, dd, dw, dy, s, w, rstd, 1e-5) }, dx, dx, dd, dy, s)
	})
}

func BenchmarkRoPE(b *testing.B) {
	perDType(b, func(b *testing.B, x *bench) {
		q, cos, sin, pos := x.act(benchTokens, benchHidden), x.f32(benchGame, 32), x.f32(benchGame, 32), make([]int32, benchTokens)
		for i := range pos {
			pos[i] = int32(i % benchGame)
		}
		at := x.ints(pos...)
		loop(b, func() { x.RoPE(q, at, cos, sin, 64, false) }, q, q)
	})
}

func BenchmarkSwiGLU(b *testing.B) {
	perDType(b, func(b *testing.B, x *bench) {
		y, g, u := x.act(benchTokens, benchMLP), x.act(benchTokens, benchMLP), x.act(benchTokens, benchMLP)
		loop(b, func() { x.SwiGLU(y, g, u) }, y, g, u)
	})
}

func BenchmarkSwiGLUBackward(b *testing.B) {
	perDType(b, func(b *testing.B, x *bench) {
		dg, du, dy, g, u := x.act(benchTokens, benchMLP), x.act(benchTokens, benchMLP), x.act(benchTokens, benchMLP), x.act(benchTokens, benchMLP), x.act(benchTokens, benchMLP)
		loop(b, func() { x.SwiGLUBackward(dg, du, dy, g, u) }, dg, du, dy, g, u)
	})
}

func BenchmarkColumnSum(b *testing.B) {
	perDType(b, func(b *testing.B, x *bench) {
		db, dy := x.f32(1, benchHidden), x.act(benchTokens, benchHidden)
		loop(b, func() { x.ColumnSum(db, dy) }, dy)
	})
}

func BenchmarkSumSquares(b *testing.B) {
	perThreads(b, compute.F32, func(b *testing.B, x *bench) {
		y, g := x.f32(1, 1), x.f32(benchVocab, benchHidden)
		loop(b, func() { x.SumSquares(y, g) }, g)
	})
}

// games is a batch of packed games: a prompt of a third, two answers of a third each.
func games(tokens, game int) compute.Layout {
	l := compute.Layout{Start: []int32{0}}
	for n := 0; n < tokens; n += game {
		prompt := int32(len(l.Parent))
		for i := range 3 {
			third, parent, first := game/3, prompt, 0
			if i == 0 {
				parent = -1
			} else {
				first = third
			}
			for t := range third {
				l.Pos = append(l.Pos, int32(first+t))
			}
			l.Parent, l.Start = append(l.Parent, parent), append(l.Start, int32(len(l.Pos)))
		}
	}
	return l
}

func sequence(tokens int) compute.Layout {
	l := compute.Layout{Start: []int32{0, int32(tokens)}}
	for t := range tokens {
		l.Pos = append(l.Pos, int32(t))
	}
	return l
}

// visible is how many keys all tokens see together.
func visible(l compute.Layout) float64 {
	n := 0
	for _, p := range l.Pos {
		n += int(p) + 1
	}
	return float64(n)
}

func benchLayouts(b *testing.B, f func(b *testing.B, x *bench, l compute.Layout)) {
	for _, c := range []struct {
		name string
		l    compute.Layout
	}{{"games120", games(benchTokens, benchGame)}, {"games384", games(benchTokens, 384)}, {"one1536", sequence(benchTokens)}} {
		b.Run(c.name, func(b *testing.B) {
			perDType(b, func(b *testing.B, x *bench) { f(b, x, c.l) })
		})
	}
}

func BenchmarkAttention(b *testing.B) {
	benchLayouts(b, func(b *testing.B, x *bench, l compute.Layout) {
		n, h := l.Tokens(), benchHeads
		p := x.NewPlan(n, l.Segments(), 0)
		p.Set(l)
		y, q, k, v, lse := x.act(n, h.Q*h.Dim), x.act(n, h.Q*h.Dim), x.act(n, h.KV*h.Dim), x.act(n, h.KV*h.Dim), x.f32(n, h.Q)
		loop(b, func() { x.Attention(y, lse, q, k, v, h, p) }, y, q, k, v)
		flops(b, 4*float64(h.Q*h.Dim)*visible(l))
	})
}

func BenchmarkAttentionBackward(b *testing.B) {
	benchLayouts(b, func(b *testing.B, x *bench, l compute.Layout) {
		n, h := l.Tokens(), benchHeads
		p := x.NewPlan(n, l.Segments(), 0)
		p.Set(l)
		y, q, k, v, lse := x.act(n, h.Q*h.Dim), x.act(n, h.Q*h.Dim), x.act(n, h.KV*h.Dim), x.act(n, h.KV*h.Dim), x.f32(n, h.Q)
		dy, dq, dk, dv := x.act(n, h.Q*h.Dim), x.act(n, h.Q*h.Dim), x.act(n, h.KV*h.Dim), x.act(n, h.KV*h.Dim)
		x.Attention(y, lse, q, k, v, h, p)
		loop(b, func() { x.AttentionBackward(dq, dk, dv, dy, y, lse, q, k, v, h, p) }, dq, dk, dv, dy, y, q, k, v)
		flops(b, 8*float64(h.Q*h.Dim)*visible(l)) // the scores' second computation not counted
	})
}

// Decoding: one token each of 1, 8 and 32 sequences that have 256.
func BenchmarkAttentionPaged(b *testing.B) {
	const context, page = 256, 32
	for _, rows := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("rows%d", rows), func(b *testing.B) {
			perDType(b, func(b *testing.B, x *bench) {
				h := benchHeads
				c := compute.Cache{K: x.act(rows*context, h.KV*h.Dim), V: x.act(rows*context, h.KV*h.Dim), PageTokens: page}
				l := compute.Layout{Start: []int32{0}}
				pages := x.r.Perm(rows * context / page)
				for i := range rows {
					l.Start, l.Past, l.Pos = append(l.Start, int32(i+1)), append(l.Past, context-1), append(l.Pos, context-1)
					var list []int32
					for _, p := range pages[i*context/page : (i+1)*context/page] {
						list = append(list, int32(p))
					}
					l.Pages = append(l.Pages, list)
				}
				p := x.NewPlan(rows, rows, len(pages))
				p.Set(l)
				y, q := x.act(rows, h.Q*h.Dim), x.act(rows, h.Q*h.Dim)
				loop(b, func() { x.AttentionPaged(y, q, c, h, p) }, c.K, c.V)
				flops(b, 4*float64(h.Q*h.Dim*rows*context))
			})
		})
	}
}

func BenchmarkSample(b *testing.B) {
	for _, s := range []struct {
		name   string
		t, p   float32
		k      int32
		peaked float64 // logits: normal of this deviation, and some far above
	}{{"greedy", 0, 1, 0, 2}, {"all", 1, 1, 0, 2}, {"top-p", 0.8, 0.95, 0, 2}, {"top-k-p", 0.8, 0.95, 40, 2}, {"top-p-flat", 1, 0.95, 0, 0}} {
		for _, rows := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/rows%d", s.name, rows), func(b *testing.B) {
				perThreads(b, compute.F32, func(b *testing.B, x *bench) {
					z := x.f32(rows, benchVocab)
					logits := make([]float32, z.Len())
					for i := range logits {
						logits[i] = float32(x.r.NormFloat64() * (s.peaked + 0.01))
						if i%500 == 0 {
							logits[i] += float32(x.r.ExpFloat64() * 3 * s.peaked)
						}
					}
					compute.Write(x, z, logits)
					fill := func(v float32) compute.Tensor {
						t, s := x.f32(rows, 1), make([]float32, rows)
						for i := range s {
							s[i] = v
						}
						compute.Write(x, t, s)
						return t
					}
					topK := make([]int32, rows)
					for i := range topK {
						topK[i] = s.k
					}
					g := &compute.Sampling{Key: x.a.Alloc(compute.I32, rows, 2), Counter: x.a.Alloc(compute.I32, rows, 4), Temperature: fill(s.t), TopP: fill(s.p), TopK: x.ints(topK...)}
					ids, logp := x.a.Alloc(compute.I32, rows, 1), x.f32(rows, 1)
					loop(b, func() { x.Sample(ids, logp, z, g) }, z)
				})
			})
		}
	}
}

// BenchmarkExp is the vector exponential, hot in cache.
func BenchmarkExp(b *testing.B) {
	x := newBench(b, compute.F32, 1)
	e, z := x.f32(1, 1024), x.f32(1, 1024)
	var sum float32
	loop(b, func() { sum += x.k.vector.expSum(1024, x.view(e).p, x.view(z).p, 3, 1) }, e, z)
	if math.IsNaN(float64(sum)) {
		b.Fatal("NaN")
	}
}

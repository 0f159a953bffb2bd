package cpu

import (
	"fmt"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

// What moves data and little else: GB/s of operands against the read bandwidth of BenchmarkMachine.

func BenchmarkCopy(b *testing.B) {
	for _, c := range []struct{ dst, src compute.DType }{{compute.F32, compute.F32}, {compute.BF16, compute.F32}, {compute.F32, compute.BF16}} {
		b.Run(fmt.Sprintf("%v-to-%v", c.src, c.dst), func(b *testing.B) {
			perThreads(b, c.src, func(b *testing.B, x *bench) {
				dst, src := x.a.Alloc(c.dst, benchTokens, benchMLP), x.of(c.src, benchTokens, benchMLP)
				loop(b, func() { x.Copy(dst, src) }, dst, src)
			})
		})
	}
}

func BenchmarkZero(b *testing.B) {
	perThreads(b, compute.F32, func(b *testing.B, x *bench) {
		g := x.f32(benchVocab, benchHidden)
		loop(b, func() { x.Zero(g) }, g)
	})
}

func BenchmarkGather(b *testing.B) {
	perDType(b, func(b *testing.B, x *bench) {
		y, s := x.act(benchTokens/2, benchHidden), x.act(benchTokens, benchHidden)
		rows := make([]int32, benchTokens/2)
		for i := range rows {
			rows[i] = int32(x.r.IntN(benchTokens))
		}
		at := x.ints(rows...)
		loop(b, func() { x.Gather(y, s, at) }, y, y)
	})
}

func (x *bench) ids(n int) compute.Tensor {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(x.r.IntN(benchVocab))
	}
	return x.ints(ids...)
}

func BenchmarkEmbed(b *testing.B) {
	perDType(b, func(b *testing.B, x *bench) {
		w := x.device.NewWeight(benchVocab, benchHidden, x.dt, true)
		defer w.Free()
		s, ids := x.f32(benchTokens, benchHidden), x.ids(benchTokens)
		loop(b, func() { x.Embed(s, w, ids) }, s)
	})
}

func BenchmarkEmbedBackward(b *testing.B) {
	perThreads(b, compute.F32, func(b *testing.B, x *bench) {
		dw, dx, ids := x.f32(benchVocab, benchHidden), x.f32(benchTokens, benchHidden), x.ids(benchTokens)
		loop(b, func() { x.EmbedBackward(dw, dx, ids) }, dx, dx, dx)
	})
}

func BenchmarkAddBias(b *testing.B) {
	perDType(b, func(b *testing.B, x *bench) {
		y, bias := x.act(benchTokens, benchHidden), x.f32(1, benchHidden)
		loop(b, func() { x.AddBias(y, bias) }, y, y)
	})
}

// LoRA's factors, of rank 8: x·Aᵀ, ·Bᵀ, and the gradient of A.
func BenchmarkMatMul(b *testing.B) {
	const rank = 8
	perDType(b, func(b *testing.B, x *bench) {
		in, down, up := x.act(benchTokens, benchHidden), x.act(benchTokens, rank), x.act(benchTokens, benchMLP)
		fa, fb, da := x.act(rank, benchHidden), x.act(benchMLP, rank), x.f32(rank, benchHidden)
		for _, c := range []struct {
			name    string
			y, a, b compute.Tensor
			t       compute.Trans
			flop    int
		}{
			{"down", down, in, fa, compute.NT, 2 * benchTokens * rank * benchHidden},
			{"up", up, down, fb, compute.NT, 2 * benchTokens * rank * benchMLP},
			{"gradient", da, down, in, compute.TN, 2 * benchTokens * rank * benchHidden},
		} {
			b.Run(c.name, func(b *testing.B) {
				loop(b, func() { x.MatMul(c.y, c.a, c.b, c.t, 1, false) }, c.y, c.a, c.b)
				flops(b, float64(c.flop))
			})
		}
	})
}

// A step of decoding writes a row of keys and values for each of 32 sequences; a prompt 256 of one.
func BenchmarkWriteKV(b *testing.B) {
	const page, pages = 32, 256
	for _, c := range []struct {
		name           string
		sequences, new int
	}{{"decode32", 32, 1}, {"prompt256", 1, 256}} {
		b.Run(c.name, func(b *testing.B) {
			perDType(b, func(b *testing.B, x *bench) {
				h := benchHeads
				cache := compute.Cache{K: x.act(page*pages, h.KV*h.Dim), V: x.act(page*pages, h.KV*h.Dim), PageTokens: page}
				l := compute.Layout{Start: []int32{0}}
				each := pages / c.sequences
				for i := range c.sequences {
					list := make([]int32, each)
					for j := range list {
						list[j] = int32(i*each + j)
					}
					for t := range c.new {
						l.Pos = append(l.Pos, int32(t))
					}
					l.Start, l.Past, l.Pages = append(l.Start, int32(len(l.Pos))), append(l.Past, 0), append(l.Pages, list)
				}
				p := x.NewPlan(l.Tokens(), c.sequences, pages)
				p.Set(l)
				k, v := x.act(l.Tokens(), h.KV*h.Dim), x.act(l.Tokens(), h.KV*h.Dim)
				loop(b, func() { x.WriteKV(cache, k, v, p) }, k, k, v, v)
			})
		})
	}
}

func BenchmarkCopyPages(b *testing.B) {
	const page, pages, copies = 32, 256, 32
	perDType(b, func(b *testing.B, x *bench) {
		h := benchHeads
		cache := compute.Cache{K: x.act(page*pages, h.KV*h.Dim), V: x.act(page*pages, h.KV*h.Dim), PageTokens: page}
		dst, src := make([]int32, copies), make([]int32, copies)
		for i := range dst {
			dst[i], src[i] = int32(i), int32(pages-1-i)
		}
		to, from := x.ints(dst...), x.ints(src...)
		moved := cache.K.Slice(0, page*copies)
		loop(b, func() { x.CopyPages(cache, to, from) }, moved, moved, moved, moved)
	})
}

// BenchmarkProducts is each product of the model by the clock on the wall, on one thread and on all;
// BenchmarkLinear has them by instruction set, on one thread's own clock.
func BenchmarkProducts(b *testing.B) {
	for _, rows := range []int{1, 8, 32, benchTokens} {
		for _, s := range modelShapes {
			out, in := s[1], s[2]
			if rows == benchTokens && out == benchVocab {
				continue // the fused head's: BenchmarkHead
			}
			b.Run(fmt.Sprintf("%dx%dx%d", rows, out, in), func(b *testing.B) {
				perDType(b, func(b *testing.B, x *bench) { x.products(b, rows, out, in) })
			})
		}
	}
}

func (x *bench) products(b *testing.B, rows, out, in int) {
	w := x.device.NewWeight(out, in, x.dt, rows == benchTokens)
	defer w.Free()
	flop := 2 * float64(rows*out*in)
	s, y := x.act(rows, in), x.act(rows, out)
	weight := compute.Tensor{Rows: out, Cols: in, DType: x.dt} // for its size
	b.Run("forward", func(b *testing.B) {
		loop(b, func() { x.Linear([]compute.Tensor{y}, s, []compute.Weight{w}, false) }, y, s, weight)
		flops(b, flop)
	})
	if rows < benchTokens {
		return
	}
	dw := x.f32(out, in)
	b.Run("dx", func(b *testing.B) {
		loop(b, func() { x.LinearDX(s, []compute.Tensor{y}, []compute.Weight{w}, false) }, y, s, weight)
		flops(b, flop)
	})
	b.Run("dw", func(b *testing.B) {
		loop(b, func() { x.LinearDW(dw, y, s, 1) }, dw, dw, y, s)
		flops(b, flop)
	})
}

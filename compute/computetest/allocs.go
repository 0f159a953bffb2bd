package computetest

import (
	"math/rand/v2"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

// ZeroAllocs checks that the steady loop of training and of decoding, every operation and transfer
// of it, allocates nothing on the Go heap.
func ZeroAllocs(t *testing.T, dev compute.Device, dt compute.DType) {
	t.Helper()
	steps := steadyLoop(t, dev, dt)
	for _, s := range steps {
		s.run() // what is made on first use
	}
	for _, s := range steps {
		if n := testing.AllocsPerRun(10, s.run); n != 0 {
			t.Errorf("%s allocates %v times", s.name, n)
		}
	}
}

type step struct {
	name string
	run  func()
}

// steadyLoop is each operation once, with everything that it takes made before.
func steadyLoop(t *testing.T, dev compute.Device, dt compute.DType) []step {
	const rows, width, vocab, positions, pageTokens = 40, 48, 200, 64, 8
	heads := compute.Heads{Q: 6, KV: 2, Dim: 8, Scale: 0.35}
	b, arena, r := dev.NewBackend(), dev.NewArena(16<<20), rand.New(rand.NewPCG(3, 4))
	t.Cleanup(arena.Free)
	b.Reserve(compute.Limits{Tokens: rows, Width: width, Vocab: vocab, HeadRows: rows, Segments: 4, Context: positions, Heads: heads, Train: true})

	put := func(v values) compute.Tensor {
		x := arena.Alloc(v.dt, v.rows, v.cols)
		b.Upload(x, v.encode(v.dt))
		return x
	}
	act := func(cols int) compute.Tensor { return put(normal(r, dt, rows, cols, 1)) }
	wide := func(rows, cols int) compute.Tensor { return put(normal(r, compute.F32, rows, cols, 1)) }
	index := func(limit int) compute.Tensor { return put(intsBelow(r, rows, limit)) }
	weight := func(out int) compute.Weight {
		w := dev.NewWeight(out, width, dt, true)
		t.Cleanup(w.Free)
		b.Store(w, 0, wide(out, width))
		return w
	}
	kv := heads.KV * heads.Dim
	x, y, dy, delta, stream, dx := act(width), act(width), act(width), act(width), wide(rows, width), wide(rows, width)
	q, k, v, dq, dk, dv := act(width), act(kv), act(kv), act(width), act(kv), act(kv)
	lse, rstd, norm, dnorm := wide(rows, heads.Q), wide(rows, 1), wide(1, width), wide(1, width)
	w, head := weight(width), weight(vocab)
	ws, ys, dys := []compute.Weight{w, w}, []compute.Tensor{y, q}, []compute.Tensor{dy, q}
	dw, master, dhead := wide(width, width), wide(width, width), wide(vocab, width)
	cos, sin, pos, ids := wide(positions, heads.Dim/2), wide(positions, heads.Dim/2), index(positions), index(vocab)
	logp, entropy, coef, asks, targets, argmax := wide(rows, 1), wide(rows, 1), wide(rows, 1), index(rows), index(vocab), index(vocab)
	one, clip := wide(1, 1), wide(1, 1)
	state := []compute.Tensor{put(zeros(compute.F32, width, width)), put(zeros(compute.F32, width, width))}
	small, lora := put(normal(r, dt, 4, width, 1)), act(4)
	cache := compute.Cache{K: put(normal(r, dt, 8*pageTokens, kv, 1)), V: put(normal(r, dt, 8*pageTokens, kv, 1)), PageTokens: pageTokens}
	from, to := put(ints(1, 2)), put(ints(3, 4))
	logits := wide(rows, vocab)
	sampling := &compute.Sampling{
		Key:         put(fill(compute.I32, rows, 2, func(i int) float64 { return float64(i) })),
		Counter:     put(fill(compute.I32, rows, 4, func(i int) float64 { return float64(i) })),
		Temperature: put(fill(compute.F32, rows, 1, func(i int) float64 { return float64(i%3) / 2 })),
		TopP:        put(fill(compute.F32, rows, 1, func(i int) float64 { return 1 - float64(i%2)/10 })),
		TopK:        put(fill(compute.I32, rows, 1, func(i int) float64 { return float64(i % 4 * 10) })),
	}
	forest, chunk := compute.Layout{Start: []int32{0, 15, 30, rows}, Parent: []int32{-1, 0, -1}}, compute.Layout{
		Start: []int32{0, rows}, Past: []int32{5}, Pages: [][]int32{{7, 0, 3, 1, 6, 2}}}
	for i := range int32(rows) {
		forest.Pos, chunk.Pos = append(forest.Pos, i%30), append(chunk.Pos, i+5)
	}
	packed, paged := b.NewPlan(rows, 4, 0), b.NewPlan(rows, 1, 8)
	packed.Set(forest)
	paged.Set(chunk)
	host := make([]float32, stream.Len())
	none := compute.Tensor{}
	rms := compute.Optimizer{Kind: compute.RMSProp, LR: 1e-4, Alpha: 0.99, Eps: 1e-8}
	adam := compute.Optimizer{Kind: compute.AdamW, LR: 1e-4, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Step: 1}
	body := func() { b.AddBias(y, norm) }

	return []step{
		{"Plan.Set", func() { packed.Set(forest); paged.Set(chunk) }},
		{"Alloc and Release", func() { m := arena.Mark(); arena.Alloc(dt, rows, width); arena.Release(m) }},
		{"Upload", func() { b.Upload(stream, compute.Bytes(host)) }},
		{"Download", func() {
			if err := b.Wait(b.Download(compute.Bytes(host), stream)); err != nil {
				t.Error(err)
			}
		}},
		{"Graph", func() { b.Graph(1, body) }},
		{"Zero", func() { b.Zero(y) }},
		{"Copy", func() { b.Copy(y, stream) }},
		{"Gather", func() { b.Gather(y, x, asks) }},
		{"Store", func() { b.Store(w, 0, master) }},
		{"Linear", func() { b.Linear(ys, x, ws, false) }},
		{"LinearDX", func() { b.LinearDX(x, dys, ws, false) }},
		{"LinearDW", func() { b.LinearDW(dw, dy, x, 1) }},
		{"MatMul", func() {
			b.MatMul(lora, x, small, compute.NT, 1, false)
			b.MatMul(y, lora, small, compute.NN, 1, true)
			b.MatMul(small, lora, x, compute.TN, 1, false)
		}},
		{"Embed", func() { b.Embed(stream, head, ids) }},
		{"EmbedBackward", func() { b.EmbedBackward(dhead, dx, ids) }},
		{"AddBias", func() { b.AddBias(y, norm) }},
		{"ColumnSum", func() { b.ColumnSum(dnorm, dy) }},
		{"AddRMSNorm", func() { b.AddRMSNorm(y, rstd, stream, delta, norm, 1e-5) }},
		{"AddRMSNormBackward", func() { b.AddRMSNormBackward(dx, delta, dnorm, dy, stream, norm, rstd, 1e-5) }},
		{"RoPE", func() { b.RoPE(q, pos, cos, sin, heads.Dim, false) }},
		{"SwiGLU", func() { b.SwiGLU(y, x, dy) }},
		{"SwiGLUBackward", func() { b.SwiGLUBackward(delta, q, y, x, dy) }},
		{"Attention", func() { b.Attention(y, lse, q, k, v, heads, packed) }},
		{"AttentionBackward", func() { b.AttentionBackward(dq, dk, dv, dy, y, lse, q, k, v, heads, packed) }},
		{"WriteKV", func() { b.WriteKV(cache, k, v, paged) }},
		{"AttentionPaged", func() { b.AttentionPaged(y, q, cache, heads, paged) }},
		{"CopyPages", func() { b.CopyPages(cache, to, from) }},
		{"HeadLogProb", func() { b.HeadLogProb(logp, rstd, entropy, argmax, x, asks, targets, head) }},
		{"HeadLogProbBackward", func() { b.HeadLogProbBackward(dy, dhead, coef, rstd, x, asks, targets, head) }},
		{"Sample", func() { b.Sample(ids, logp, logits, sampling) }},
		{"SumSquares", func() { b.SumSquares(one, dw) }},
		{"ClipFactor", func() { b.ClipFactor(clip, one, 1) }},
		{"Optimize", func() {
			b.Optimize(w, master, dw, state[:1], clip, rms)
			b.Optimize(w, master, dw, state, none, adam)
		}},
	}
}

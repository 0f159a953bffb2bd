package computetest

import "github.com/seed-8780d58e/spin/compute"

// testMisfit calls each operation with something that does not fit, and wants a panic before
// anything was done.
func testMisfit(l *lab) {
	r := l.one
	mark := r.arena.Mark()
	defer r.arena.Release(mark)
	const rows, cols, vocab = 4, 8, 6
	f32, i32, absent := compute.F32, compute.I32, compute.Tensor{}
	zero := func(dt compute.DType, rows, cols int) compute.Tensor {
		t := r.arena.Alloc(dt, rows, cols)
		r.b.Zero(t)
		return t
	}
	act := func(rows, cols int) compute.Tensor { return zero(l.dt, rows, cols) }
	x, y, z, narrow, short := act(rows, cols), act(rows, cols), act(rows, cols), act(rows, cols-2), act(rows-1, cols)
	stream, rstd, norm := zero(f32, rows, cols), zero(f32, rows, 1), zero(f32, 1, cols)
	ids, fewer := zero(i32, rows, 1), zero(i32, rows-1, 1)
	square, grad, one := zero(f32, cols, cols), zero(f32, cols, cols), zero(f32, 1, 1)
	table, head := zero(f32, 10, 2), compute.Heads{Q: 2, KV: 2, Dim: 4, Scale: 1}
	lse := zero(f32, rows, 2)
	w := r.dev.NewWeight(cols, cols, l.dt, true)
	defer w.Free()
	forward := r.dev.NewWeight(vocab, cols, l.dt, false)
	defer forward.Free()
	cache := compute.Cache{K: act(8, cols), V: act(8, cols), PageTokens: 4}
	forest, chunk := r.b.NewPlan(rows, 2, 0), r.b.NewPlan(rows, 2, 2)
	forest.Set(compute.Layout{Start: []int32{0, 2, 4}, Parent: []int32{-1, 0}, Pos: []int32{0, 1, 2, 3}})
	chunk.Set(compute.Layout{Start: []int32{0, 4}, Past: []int32{2}, Pos: []int32{2, 3, 4, 5}, Pages: [][]int32{{1, 0}}})
	logits := zero(f32, rows, vocab)
	sampling := func() *compute.Sampling {
		return &compute.Sampling{Key: zero(i32, rows, 2), Counter: zero(i32, rows, 4), Temperature: zero(f32, rows, 1), TopP: zero(f32, rows, 1), TopK: zero(i32, rows, 1)}
	}
	foreign := l.many.arena.Alloc(l.dt, rows, cols)
	foreignWeight := l.many.dev.NewWeight(cols, cols, l.dt, true)
	defer foreignWeight.Free()
	ts := func(t ...compute.Tensor) []compute.Tensor { return t }
	ws := func(w ...compute.Weight) []compute.Weight { return w }
	rms, adam := compute.Optimizer{Kind: compute.RMSProp, LR: 1}, compute.Optimizer{Kind: compute.AdamW, LR: 1, Step: 1}

	b := r.b
	for _, tt := range []struct {
		name string
		call func()
	}{
		{"Alloc: negative rows", func() { r.arena.Alloc(f32, -1, 4) }},
		{"Slice beyond the end", func() { x.Slice(0, rows+1) }},
		{"Columns beyond the end", func() { x.Columns(1, cols+1) }},
		{"Upload: bytes", func() { b.Upload(x, make([]byte, 3)) }},
		{"Download: bytes", func() { b.Download(make([]byte, 3), x) }},
		{"Copy: shape", func() { b.Copy(x, narrow) }},
		{"Copy: int to float", func() { b.Copy(rstd, ids) }},
		{"Copy: foreign memory", func() { b.Copy(x, foreign) }},
		{"Gather: columns", func() { b.Gather(x, narrow, ids) }},
		{"Gather: rows", func() { b.Gather(x, y, fewer) }},
		{"Store: width", func() { b.Store(w, 0, zero(f32, 2, cols-1)) }},
		{"Store: rows", func() { b.Store(w, 1, square) }},
		{"Linear: inner size", func() { b.Linear(ts(y), narrow, ws(w), false) }},
		{"Linear: rows", func() { b.Linear(ts(short), x, ws(w), false) }},
		{"Linear: count", func() { b.Linear(ts(y, z), x, ws(w), false) }},
		{"Linear: absent", func() { b.Linear(ts(absent), x, ws(w), false) }},
		{"Linear: foreign memory", func() { b.Linear(ts(foreign), x, ws(w), false) }},
		{"Linear: foreign weight", func() { b.Linear(ts(y), x, ws(foreignWeight), false) }},
		{"Linear: stride below columns", func() {
			bad := y
			bad.Stride = cols - 1
			b.Linear(ts(bad), x, ws(w), false)
		}},
		{"LinearDX: rows", func() { b.LinearDX(short, ts(y), ws(w), false) }},
		{"LinearDX: weight not for training", func() { b.LinearDX(x, ts(act(rows, vocab)), ws(forward), false) }},
		{"LinearDW: shape", func() { b.LinearDW(square, narrow, x, 1) }},
		{"LinearDW: rows", func() { b.LinearDW(square, short, x, 1) }},
		{"MatMul: inner size", func() { b.MatMul(y, narrow, act(cols, cols), compute.NN, 1, false) }},
		{"Embed: ids", func() { b.Embed(stream, w, fewer) }},
		{"EmbedBackward: width", func() { b.EmbedBackward(zero(f32, vocab, cols-1), stream, ids) }},
		{"AddBias: width", func() { b.AddBias(narrow, norm) }},
		{"ColumnSum: width", func() { b.ColumnSum(norm, narrow) }},
		{"AddRMSNorm: delta", func() { b.AddRMSNorm(y, rstd, stream, narrow, norm, 1e-5) }},
		{"AddRMSNorm: rstd", func() { b.AddRMSNorm(y, one, stream, absent, norm, 1e-5) }},
		{"AddRMSNormBackward: dw", func() { b.AddRMSNormBackward(stream, absent, rstd, y, zero(f32, rows, cols), norm, rstd, 1e-5) }},
		{"RoPE: head", func() { b.RoPE(x, ids, table, table, 3, false) }},
		{"RoPE: table", func() { b.RoPE(x, ids, table, table, 8, false) }},
		{"SwiGLU: width", func() { b.SwiGLU(y, x, narrow) }},
		{"SwiGLUBackward: rows", func() { b.SwiGLUBackward(x, short, y, z, z) }},
		{"Attention: tokens", func() { b.Attention(short, lse, x, y, z, head, forest) }},
		{"Attention: heads", func() {
			b.Attention(act(rows, cols), lse, x, y, z, compute.Heads{Q: 2, KV: 3, Dim: 4, Scale: 1}, forest)
		}},
		{"Attention: layout with a past", func() { b.Attention(act(rows, cols), lse, x, y, z, head, chunk) }},
		{"AttentionBackward: lse", func() { b.AttentionBackward(x, x, x, y, y, rstd, z, z, z, head, forest) }},
		{"WriteKV: width", func() { b.WriteKV(cache, narrow, narrow, chunk) }},
		{"WriteKV: layout without pages", func() { b.WriteKV(cache, x, y, forest) }},
		{"AttentionPaged: heads", func() { b.AttentionPaged(y, x, cache, compute.Heads{Q: 2, KV: 1, Dim: 4, Scale: 1}, chunk) }},
		{"AttentionPaged: too few pages", func() {
			small := cache
			small.PageTokens = 2
			b.AttentionPaged(y, x, small, head, chunk)
		}},
		{"CopyPages: count", func() { b.CopyPages(cache, ids, fewer) }},
		{"Plan.Set: tokens", func() {
			r.b.NewPlan(3, 2, 0).Set(compute.Layout{Start: []int32{0, 4}, Pos: []int32{0, 1, 2, 3}})
		}},
		{"Plan.Set: segments", func() {
			r.b.NewPlan(4, 1, 0).Set(compute.Layout{Start: []int32{0, 2, 4}, Pos: []int32{0, 1, 0, 1}})
		}},
		{"Plan.Set: pages", func() {
			r.b.NewPlan(4, 1, 1).Set(compute.Layout{Start: []int32{0, 4}, Pos: []int32{0, 1, 2, 3}, Pages: [][]int32{{0, 1}}})
		}},
		{"Plan.Set: position", func() {
			r.b.NewPlan(4, 1, 0).Set(compute.Layout{Start: []int32{0, 4}, Pos: []int32{0, 1, 2, 4}})
		}},
		{"HeadLogProb: width", func() { b.HeadLogProb(rstd, rstd, absent, absent, narrow, ids, ids, forward) }},
		{"HeadLogProb: targets", func() { b.HeadLogProb(rstd, rstd, absent, absent, x, ids, fewer, forward) }},
		{"HeadLogProbBackward: dw", func() { b.HeadLogProbBackward(y, square, rstd, rstd, x, ids, ids, forward) }},
		{"Sample: ids", func() { b.Sample(fewer, rstd, logits, sampling()) }},
		{"Sample: counter", func() {
			s := sampling()
			s.Counter = ids
			b.Sample(ids, rstd, logits, s)
		}},
		{"SumSquares: result", func() { b.SumSquares(rstd, stream) }},
		{"ClipFactor: absent", func() { b.ClipFactor(one, absent, 1) }},
		{"Optimize: gradient", func() { b.Optimize(nil, square, stream, ts(grad), absent, rms) }},
		{"Optimize: states", func() { b.Optimize(nil, square, grad, ts(zero(f32, cols, cols)), absent, adam) }},
		{"Optimize: weight", func() { b.Optimize(forward, square, grad, ts(zero(f32, cols, cols)), absent, rms) }},
	} {
		if panicOf(tt.call) == nil {
			l.Errorf("%s: no panic", tt.name)
		}
	}
	for name, t := range map[string]compute.Tensor{"x": x, "y": y, "z": z, "stream": stream, "square": square} {
		for _, v := range r.read(l.T, t).v {
			if v != 0 {
				l.Errorf("a refused operation wrote %v to %s", v, name)
				break
			}
		}
	}
}

package cpu

import (
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// gradientJob is cut into trees · key/value heads. Within one, tiles come in the order of the
// layout and blocks in the order of positions: so a query's gradient is one chain over its keys, and
// a key's and a value's gradients are one chain over the queries that see them, whatever the
// threads (arXiv 2307.08691, algorithm 2, with P from the forward pass's log-sum-exp).
type gradientJob struct {
	attentionJob   // q, keys, vals, y, lse of the forward pass
	dq, dk, dv, dy view
	sumK, sumV     []float32 // [KV, tokens, dim]: dk and dv before they are rounded
}

func (j *gradientJob) do(thread, item int) {
	tr, head := j.p.trees[item/j.h.KV], item%j.h.KV
	s := &j.tiles[thread]
	dim := paddedDim(j.h.Dim)
	ld, tokens := dim*4, len(j.p.layout.Pos)
	sumK := unsafe.Pointer(&j.sumK[head*tokens*dim])
	sumV := unsafe.Pointer(&j.sumV[head*tokens*dim])
	for i := tr.first; i >= 0; i = j.p.tiles[i].next {
		t := &j.p.tiles[i]
		clear(elements[float32](unsafe.Add(sumK, int(t.token)*ld), int(t.tokens)*dim))
		clear(elements[float32](unsafe.Add(sumV, int(t.token)*ld), int(t.tokens)*dim))
	}
	for i := tr.first; i >= 0; i = j.p.tiles[i].next {
		j.tile(s, &j.p.tiles[i], head, sumK, sumV)
	}
	for i := tr.first; i >= 0; i = j.p.tiles[i].next {
		t := &j.p.tiles[i]
		for r := int(t.token); r < int(t.token+t.tokens); r++ {
			j.k.narrow[j.dk.dt](j.h.Dim, j.dk.at(r, head*j.h.Dim), unsafe.Add(sumK, r*ld), 1)
			j.k.narrow[j.dv.dt](j.h.Dim, j.dv.at(r, head*j.h.Dim), unsafe.Add(sumV, r*ld), 1)
		}
	}
}

func (j *gradientJob) tile(s *tileScratch, t *tile, head int, sumK, sumV unsafe.Pointer) {
	group, dim := j.h.Q/j.h.KV, paddedDim(j.h.Dim)
	rows, ld := int(t.tokens)*group, dim*4
	j.loadHeads(s.q, j.q, t, head)
	j.loadHeads(s.dy, j.dy, t, head)
	for i := range rows {
		s.state[i].lse = *(*float32)(j.lse.at(int(t.token)+i/group, head*group+i%group))
	}
	j.diagonal(s, t, head, rows)
	acc := 0
	for block := j.firstKey(t) / blockKeys; ; block++ {
		n := j.findBlock(s, t, block)
		if n <= 0 {
			break
		}
		vectors, panels := parts(n, 8), parts(n, 16)
		j.limits(s, t, block)
		j.widen(s.k, s, j.keys, head)
		j.widen(s.v, s, j.vals, head)
		j.k.transpose[compute.F32](vectors, dim/8, s.kt, blockStride, s.k, ld)
		j.k.transpose[compute.F32](vectors, dim/8, s.vt, blockStride, s.v, ld)
		j.k.mulNN[compute.F32](rows, panels, dim, s.q, ld, s.kt, blockStride, s.s, blockStride, 0)
		j.k.mulNN[compute.F32](rows, panels, dim, s.dy, ld, s.vt, blockStride, s.dp, blockStride, 0)
		j.k.gradBlock(rows, vectors, s.s, s.dp, blockStride, &s.state[0], j.h.Scale)
		j.k.mulNN[compute.F32](rows, dim/16, n, s.dp, blockStride, s.k, ld, s.y, ld, acc)
		for _, r := range s.runs {
			j.k.mulTN(r.n, dim/16, rows, unsafe.Add(s.s, 4*r.at), blockStride, s.dy, ld, unsafe.Add(sumV, r.row*ld), ld, 1)
			j.k.mulTN(r.n, dim/16, rows, unsafe.Add(s.dp, 4*r.at), blockStride, s.q, ld, unsafe.Add(sumK, r.row*ld), ld, 1)
		}
		acc = 1
	}
	for i := range rows {
		token, c := int(t.token)+i/group, head*group+i%group
		j.k.narrow[j.dq.dt](j.h.Dim, j.dq.at(token, c*j.h.Dim), unsafe.Add(s.y, i*ld), 1)
	}
}

// diagonal sets each row's d = dy·y by the same chain of multiply-adds as dy·v: so a row that sees
// one key, whose y is that v, has a gradient of exactly 0 for its score.
func (j *gradientJob) diagonal(s *tileScratch, t *tile, head, rows int) {
	dim := paddedDim(j.h.Dim)
	ld := dim * 4
	j.loadHeads(s.y, j.y, t, head)
	for i := 0; i < rows; i += 16 {
		n := min(16, rows-i)
		j.k.transpose[compute.F32](2, dim/8, s.kt, blockStride, unsafe.Add(s.y, i*ld), ld)
		j.k.mulNN[compute.F32](n, 1, dim, unsafe.Add(s.dy, i*ld), ld, s.kt, blockStride, s.s, blockStride, 0)
		for r := range n {
			s.state[i+r].d = *(*float32)(unsafe.Add(s.s, r*(blockStride+4)))
		}
	}
}

// AttentionBackward is Attention's gradient; see compute.Backend.
func (b *Backend) AttentionBackward(dq, dk, dv, dy, y, lse, q, k, v compute.Tensor, h compute.Heads, p compute.Plan) {
	pl := planOf(p)
	tokens := pl.layout.Tokens()
	compute.CheckAttentionBackward(dq, dk, dv, dy, y, lse, q, k, v, h, tokens)
	if pl.hasPast {
		panic("compute/cpu: AttentionBackward: layout with a past")
	}
	if tokens == 0 {
		return
	}
	b.scratch.reset()
	n := tokens * h.KV * paddedDim(h.Dim)
	j := &b.vector.gradient
	*j = gradientJob{
		attentionJob: attentionJob{k: &b.k.vector, tiles: b.takeTiles(h, true), p: pl, h: h,
			y: b.view(y), q: b.view(q), lse: b.view(lse), keys: b.view(k), vals: b.view(v)},
		dq: b.view(dq), dk: b.view(dk), dv: b.view(dv), dy: b.view(dy),
		sumK: take[float32](&b.scratch, n), sumV: take[float32](&b.scratch, n),
	}
	b.pool.run(len(pl.trees)*h.KV, j)
}

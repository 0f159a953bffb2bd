package cpu

import (
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// gradientJob recomputes P from the forward pass's log-sum-exp (arXiv 2307.08691, algorithm 2). A
// query's gradient is one chain over its keys in the order of positions; a key's and a value's
// gradients are one chain over the queries that see them in the order of the layout. Two schedules
// keep these orders, and so give the same bits:
//
// whole: an item is a tree · key/value head. Its tiles of queries come in the order of the layout,
// each meets its blocks of keys in the order of positions, and both gradients come out of one visit.
//
// split: where that leaves threads idle (one long sequence), first an item is a tile of queries ·
// key/value head, then a tile of keys · key/value head. Scores are computed twice: 7 products for 5.
type gradientJob struct {
	attentionJob   // q, keys, vals, y, lse of the forward pass
	dq, dk, dv, dy view
	phase          phase
	sumK, sumV     []float32 // [KV, tokens, dim]: dk and dv before they are rounded
	d              []float32 // [tokens, Q]: dy·y, from queries for keys
}

type phase uint8

const (
	whole phase = iota
	queries
	keys
)

func (j *gradientJob) do(thread, item int) {
	s, i, head := &j.tiles[thread], item/j.h.KV, item%j.h.KV
	switch j.phase {
	case queries:
		j.queryTile(s, &j.p.tiles[i], head)
	case keys:
		j.keyTile(s, int32(i), head)
	case whole:
		first := j.p.trees[i].first
		for i := first; i >= 0; i = j.p.tiles[i].next {
			j.clearSums(&j.p.tiles[i], head)
		}
		for i := first; i >= 0; i = j.p.tiles[i].next {
			j.queryTile(s, &j.p.tiles[i], head)
		}
		for i := first; i >= 0; i = j.p.tiles[i].next {
			j.storeSums(&j.p.tiles[i], head)
		}
	}
}

// queryTile computes the gradients of a tile's queries and, in the schedule whole, adds to those of
// the keys and values that they see.
func (j *gradientJob) queryTile(s *tileScratch, t *tile, head int) {
	group, dim := j.h.Q/j.h.KV, paddedDim(j.h.Dim)
	rows, ld := int(t.tokens)*group, dim*4
	j.loadQueries(s, t, head, rows)
	j.diagonal(s, t, head, rows)
	acc := 0
	for block := j.firstKey(t) / blockKeys; ; block++ {
		n := j.findBlock(s, t, block)
		if n <= 0 {
			break
		}
		j.loadKeys(s, head, n)
		j.limits(s, t, block*blockKeys, n)
		j.scores(s, rows, n)
		j.k.mulNN[compute.F32](rows, dim/16, n, s.dp, blockStride, s.k, ld, s.y, ld, acc)
		if j.phase == whole {
			j.gather(s, head, rows)
		}
		acc = 1
	}
	for i := range rows {
		token, c := int(t.token)+i/group, head*group+i%group
		j.k.narrow[j.dq.dt](j.h.Dim, j.dq.at(token, c*j.h.Dim), unsafe.Add(s.y, i*ld), 1)
		j.d[token*j.h.Q+c] = s.state[i].d
	}
}

// keyTile computes the gradients of a tile's keys and values.
func (j *gradientJob) keyTile(s *tileScratch, i int32, head int) {
	own := &j.p.tiles[i]
	n, group := int(own.tokens), j.h.Q/j.h.KV
	s.runs = append(s.block[:0], run{0, int(own.token), n})
	j.loadKeys(s, head, n)
	j.clearSums(own, head)
	for ; i >= 0; i = j.p.tiles[i].next {
		t := &j.p.tiles[i]
		if !j.p.continues(t.segment, own.segment) || j.firstKey(t) >= int(own.pos)+n {
			continue
		}
		rows := int(t.tokens) * group
		j.loadQueries(s, t, head, rows)
		for r := range rows {
			s.state[r].d = j.d[(int(t.token)+r/group)*j.h.Q+head*group+r%group]
		}
		j.limits(s, t, int(own.pos), n)
		j.scores(s, rows, n)
		j.gather(s, head, rows)
	}
	j.storeSums(own, head)
}

func (j *gradientJob) loadQueries(s *tileScratch, t *tile, head, rows int) {
	group := j.h.Q / j.h.KV
	j.loadHeads(s.q, j.q, t, head)
	j.loadHeads(s.dy, j.dy, t, head)
	for i := range rows {
		s.state[i].lse = *(*float32)(j.lse.at(int(t.token)+i/group, head*group+i%group))
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

// loadKeys fills s.k, s.kt and s.vt with the n keys of s.runs.
func (j *gradientJob) loadKeys(s *tileScratch, head, n int) {
	dim := paddedDim(j.h.Dim)
	j.widen(s.k, s, j.keys, head)
	j.widen(s.v, s, j.vals, head)
	j.k.transpose[compute.F32](parts(n, 8), dim/8, s.kt, blockStride, s.k, dim*4)
	j.k.transpose[compute.F32](parts(n, 8), dim/8, s.vt, blockStride, s.v, dim*4)
}

// scores leaves P in s.s and the gradient of q·k in s.dp.
func (j *gradientJob) scores(s *tileScratch, rows, n int) {
	dim := paddedDim(j.h.Dim)
	j.k.mulNN[compute.F32](rows, parts(n, 16), dim, s.q, dim*4, s.kt, blockStride, s.s, blockStride, 0)
	j.k.mulNN[compute.F32](rows, parts(n, 16), dim, s.dy, dim*4, s.vt, blockStride, s.dp, blockStride, 0)
	j.k.gradBlock(rows, parts(n, 8), s.s, s.dp, blockStride, &s.state[0], j.h.Scale)
}

// gather adds Pᵀ·dy to the gradients of the values in s.runs, and dPᵀ·q to those of the keys.
func (j *gradientJob) gather(s *tileScratch, head, rows int) {
	ld := paddedDim(j.h.Dim) * 4
	for _, r := range s.runs {
		sumK, sumV := j.sums(head, r.row)
		j.k.mulTN(r.n, ld/64, rows, unsafe.Add(s.s, 4*r.at), blockStride, s.dy, ld, sumV, ld, 1)
		j.k.mulTN(r.n, ld/64, rows, unsafe.Add(s.dp, 4*r.at), blockStride, s.q, ld, sumK, ld, 1)
	}
}

// sums is where a token's dk and dv add up.
func (j *gradientJob) sums(head, token int) (k, v unsafe.Pointer) {
	at := (head*len(j.p.layout.Pos) + token) * paddedDim(j.h.Dim)
	return unsafe.Pointer(&j.sumK[at]), unsafe.Pointer(&j.sumV[at])
}

func (j *gradientJob) clearSums(t *tile, head int) {
	k, v := j.sums(head, int(t.token))
	n := int(t.tokens) * paddedDim(j.h.Dim)
	clear(elements[float32](k, n))
	clear(elements[float32](v, n))
}

func (j *gradientJob) storeSums(t *tile, head int) {
	for r := int(t.token); r < int(t.token+t.tokens); r++ {
		k, v := j.sums(head, r)
		j.k.narrow[j.dk.dt](j.h.Dim, j.dk.at(r, head*j.h.Dim), k, 1)
		j.k.narrow[j.dv.dt](j.h.Dim, j.dv.at(r, head*j.h.Dim), v, 1)
	}
}

// splits reports whether the schedule split would be done sooner, on the guess that the threads end
// half a tree apart.
func (p *plan) splits(kv, threads int) bool {
	largest, total := 0, 0
	for _, t := range p.trees {
		largest, total = max(largest, t.work), total+t.work
	}
	share := total * kv / threads
	return 7*share < 5*max(largest, share+largest*(threads-1)/(2*threads))
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
		sumK: take[float32](&b.scratch, n), sumV: take[float32](&b.scratch, n), d: take[float32](&b.scratch, tokens*h.Q),
	}
	if !pl.splits(h.KV, b.pool.threads) {
		b.pool.run(len(pl.trees)*h.KV, j)
		return
	}
	j.phase = queries
	b.pool.run(len(pl.tiles)*h.KV, j)
	j.phase = keys
	b.pool.run(len(pl.tiles)*h.KV, j)
}

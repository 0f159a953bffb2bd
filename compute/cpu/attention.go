package cpu

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// Attention works on tiles: the queries of up to tileTokens tokens of one segment, of all the query
// heads that share one key/value head, against blocks of blockKeys keys. A block is cut at absolute
// positions, across the border between a segment and its parent, or between pages. Scores and
// outputs are chains of multiply-adds in the order of head dimensions and of positions, a block's
// sum of exponentials has a fixed tree, and a key that a row does not see adds exactly 0: so a row's
// bits depend on its own query and on the keys before it, not on the tile, the batch or the page.
const blockKeys = 64

const blockStride = blockKeys * 4 // bytes between rows of scores

// paddedDim is a head's dimensions in scratch memory: whole panels, zeros behind the end.
func paddedDim(dim int) int { return (dim + 15) &^ 15 }

// tileScratch is one thread's memory for a tile and a block: row-major F32. rows is tileTokens times
// the query heads of a key/value head; dim is paddedDim.
type tileScratch struct {
	q, y  unsafe.Pointer // [rows, dim]; in the backward pass y holds dq
	s     unsafe.Pointer // [rows, blockKeys]
	k, v  unsafe.Pointer // [blockKeys, dim]
	kt    unsafe.Pointer // [dim, blockKeys]
	state []softmaxRow   // [rows]
	block [blockKeys]run
	runs  []run // of block

	// In the backward pass only.
	dy unsafe.Pointer // [rows, dim]
	dp unsafe.Pointer // [rows, blockKeys]
	vt unsafe.Pointer // [dim, blockKeys]
}

// attentionScratch is the scratch memory of an attention, all threads together. h bounds each field
// on its own: all query heads may share one key/value head.
func (b *Backend) attentionScratch(h compute.Heads, tokens int, train bool) int64 {
	rows, dim := tileTokens*h.Q, paddedDim(h.Dim)
	n := 2*scratchBytes(rows*dim, 4) + scratchBytes(rows*blockKeys, 4) + 3*scratchBytes(dim*blockKeys, 4) + scratchBytes(rows*8, 4)
	if train {
		n += scratchBytes(rows*dim, 4) + scratchBytes(rows*blockKeys, 4) + scratchBytes(dim*blockKeys, 4)
	}
	n *= int64(b.pool.threads)
	if train {
		n += 2*scratchBytes(tokens*h.KV*dim, 4) + scratchBytes(tokens*h.Q, 4)
	}
	return n
}

// takeTiles takes each thread's tile.
func (b *Backend) takeTiles(h compute.Heads, train bool) []tileScratch {
	rows, dim := tileTokens*(h.Q/h.KV), paddedDim(h.Dim)
	floats := func(n int) unsafe.Pointer {
		s := take[float32](&b.scratch, n)
		if dim != h.Dim {
			clear(s)
		}
		return unsafe.Pointer(&s[0])
	}
	if b.vector.tiles == nil {
		panic("compute/cpu: attention before Reserve")
	}
	if !(h.Scale > 0) {
		panic(fmt.Sprintf("compute/cpu: attention with scale %v, want one above 0", h.Scale))
	}
	for i := range b.vector.tiles {
		t := &b.vector.tiles[i]
		t.q, t.y, t.s = floats(rows*dim), floats(rows*dim), floats(rows*blockKeys)
		t.k, t.v, t.kt = floats(dim*blockKeys), floats(dim*blockKeys), floats(dim*blockKeys)
		t.state = unsafe.Slice((*softmaxRow)(floats(rows*8)), rows)
		if train {
			t.dy, t.dp, t.vt = floats(rows*dim), floats(rows*blockKeys), floats(dim*blockKeys)
		}
	}
	return b.vector.tiles
}

// attentionJob is cut into tiles · key/value heads.
type attentionJob struct {
	k          *vectorKernels
	tiles      []tileScratch
	p          *plan
	h          compute.Heads
	y, q       view
	lse        view // absent: not wanted
	keys, vals view
	pageTokens int  // 0: keys and values lie in the batch
	across     bool // pages hold keys transposed
}

func (j *attentionJob) do(thread, item int) {
	t, head := &j.p.tiles[item/j.h.KV], item%j.h.KV
	s := &j.tiles[thread]
	group, dim := j.h.Q/j.h.KV, paddedDim(j.h.Dim)
	rows, ld := int(t.tokens)*group, dim*4
	for i := range rows {
		s.state[i] = softmaxRow{top: float32(math.Inf(-1))}
	}
	j.loadHeads(s.q, j.q, t, head)
	acc := 0
	for block := j.firstKey(t) / blockKeys; ; block++ {
		n := j.findBlock(s, t, block)
		if n <= 0 {
			break
		}
		j.limits(s, t, block*blockKeys, n)
		if j.across {
			j.scorePages(s, head, rows)
		} else {
			j.transposeKeys(s, head, n)
			j.k.mulNN[compute.F32](rows, parts(n, 16), dim, s.q, ld, s.kt, blockStride, s.s, blockStride, 0)
		}
		j.k.softmaxBlock(rows, parts(n, 8), s.s, blockStride, &s.state[0], j.h.Scale)
		for i := range rows {
			if a := s.state[i].alpha; acc == 1 && a != 1 {
				j.k.scale(dim, unsafe.Add(s.y, i*ld), a)
			}
		}
		j.weighValues(s, head, rows, n, acc)
		acc = 1
	}
	for i := range rows {
		token, c := int(t.token)+i/group, head*group+i%group
		st := &s.state[i]
		j.k.narrow[j.y.dt](j.h.Dim, j.y.at(token, c*j.h.Dim), unsafe.Add(s.y, i*ld), 1/st.sum)
		if !j.lse.absent() {
			*(*float32)(j.lse.at(token, c)) = st.top + float32(math.Log(float64(st.sum)))
		}
	}
}

// loadHeads widens a tile's rows of q (or dy), of the query heads of one key/value head, token by
// token.
func (j *attentionJob) loadHeads(dst unsafe.Pointer, q view, t *tile, head int) {
	group, ld := j.h.Q/j.h.KV, paddedDim(j.h.Dim)*4
	for i := range int(t.tokens) {
		src := q.at(int(t.token)+i, head*group*j.h.Dim)
		j.k.widenRows[q.dt](group, j.h.Dim, unsafe.Add(dst, i*group*ld), ld, src, j.h.Dim*q.dt.Size())
	}
}

// firstKey is the first position that a row of the tile sees.
func (j *attentionJob) firstKey(t *tile) int {
	if j.h.Window == 0 {
		return 0
	}
	return max(0, int(t.pos)-j.h.Window+1)
}

// findBlock says in s.runs where the keys and values of a block lie, as far as the tile's last row
// sees them, and returns how many there are: 0 or less behind the last block.
func (j *attentionJob) findBlock(s *tileScratch, t *tile, block int) int {
	from := block * blockKeys
	to := min(from+blockKeys, int(t.pos+t.tokens))
	switch {
	case to <= from:
	case j.pageTokens > 0:
		s.runs = j.p.pageRuns(s.block[:0], t.segment, from, to, j.pageTokens, j.keys.rows/j.pageTokens)
	default:
		s.runs = j.p.forestRuns(s.block[:0], t.segment, from, to)
	}
	return to - from
}

// widen copies the block's rows of keys or values to dst, as F32.
func (j *attentionJob) widen(dst unsafe.Pointer, s *tileScratch, src view, head int) {
	ld := paddedDim(j.h.Dim) * 4
	for _, r := range s.runs {
		j.k.widenRows[src.dt](r.n, j.h.Dim, unsafe.Add(dst, r.at*ld), ld, src.at(r.row, head*j.h.Dim), src.stride)
	}
}

// transposeKeys fills s.kt: straight from memory where eight keys lie together, by way of s.k where
// they do not. What it leaves behind key n is nobody's.
func (j *attentionJob) transposeKeys(s *tileScratch, head, n int) {
	dim := paddedDim(j.h.Dim)
	ld, to := dim*4, 8*parts(n, 8)
	if dim != j.h.Dim {
		j.widen(s.k, s, j.keys, head)
		j.k.transpose[compute.F32](to/8, dim/8, s.kt, blockStride, s.k, ld)
		return
	}
	runs := s.runs
	for key := 0; key < to; {
		for runs[0].at+runs[0].n <= key {
			runs = runs[1:]
		}
		r := runs[0]
		if together := (r.at + r.n - key) / 8; together > 0 {
			j.k.transpose[j.keys.dt](together, dim/8, unsafe.Add(s.kt, 4*key), blockStride, j.keys.at(r.row+key-r.at, head*dim), j.keys.stride)
			key += 8 * together
			continue
		}
		for _, r := range runs {
			from, end := max(r.at, key), min(r.at+r.n, key+8)
			if from >= end {
				break
			}
			j.k.widenRows[j.keys.dt](end-from, dim, unsafe.Add(s.k, (from-key)*ld), ld, j.keys.at(r.row+from-r.at, head*dim), j.keys.stride)
		}
		j.k.transpose[compute.F32](1, dim/8, unsafe.Add(s.kt, 4*key), blockStride, s.k, ld)
		key += 8
	}
}

// weighValues sets, or adds to, s.y the sum of the block's values weighed by s.s. Values are read
// where they lie, unless they are widened for many rows or lie in many places.
func (j *attentionJob) weighValues(s *tileScratch, head, rows, n, acc int) {
	dim := paddedDim(j.h.Dim)
	ld := dim * 4
	if dim != j.h.Dim || len(s.runs) > 8 || j.vals.dt != compute.F32 && rows > 12 {
		j.widen(s.v, s, j.vals, head)
		j.k.mulNN[compute.F32](rows, dim/16, n, s.s, blockStride, s.v, ld, s.y, ld, acc)
		return
	}
	for _, r := range s.runs {
		j.k.mulNN[j.vals.dt](rows, dim/16, r.n, unsafe.Add(s.s, 4*r.at), blockStride, j.vals.at(r.row, head*dim), j.vals.stride, s.y, ld, acc)
		acc = 1
	}
}

// limits sets which of n keys, the first at position base, each row of the tile sees.
func (j *attentionJob) limits(s *tileScratch, t *tile, base, n int) {
	group := j.h.Q / j.h.KV
	for i := range int(t.tokens) {
		pos := int(t.pos) + i - base
		from, to := 0, min(max(pos+1, 0), n)
		if j.h.Window > 0 {
			from = max(0, pos-j.h.Window+1)
		}
		for r := i * group; r < (i+1)*group; r++ {
			s.state[r].from, s.state[r].to = int32(from), int32(to)
		}
	}
}

// Attention is softmax attention over a forest; see compute.Backend.
func (b *Backend) Attention(y, lse, q, k, v compute.Tensor, h compute.Heads, p compute.Plan) {
	pl := planOf(p)
	compute.CheckAttention(y, lse, q, k, v, h, pl.layout.Tokens())
	if pl.hasPast {
		panic("compute/cpu: Attention: layout with a past")
	}
	b.scratch.reset()
	j := &b.vector.attention
	*j = attentionJob{k: &b.k.vector, tiles: b.takeTiles(h, false), p: pl, h: h,
		y: b.view(y), q: b.view(q), lse: b.view(lse), keys: b.view(k), vals: b.view(v)}
	b.pool.run(len(pl.tiles)*h.KV, j)
}

package cpu

import (
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// chunkPlan checks that p is a chunk for a cache.
func chunkPlan(op string, p compute.Plan, c compute.Cache) *plan {
	pl := planOf(p)
	if pl.hasTrees {
		panic("compute/cpu: " + op + ": layout with a parent")
	}
	if err := pl.layout.Check(c.PageTokens); err != nil {
		panic("compute/cpu: " + op + ": " + err.Error())
	}
	return pl
}

// keysAcross reports whether the pages of c hold their keys transposed, [KV·Dim, PageTokens]: then
// the scores of a page are a product that reads it as it lies. Blocks of keys must begin at whole
// panels of the product, so pages of other sizes hold keys row by row, as values always lie.
func keysAcross(c compute.Cache) bool { return c.PageTokens%16 == 0 && c.K.Stride == c.K.Cols }

// writeKVJob is cut into tiles.
type writeKVJob struct {
	p                *plan
	cacheK, cacheV   view
	k, v             view
	pageTokens, page int
	across           bool
}

func (j *writeKVJob) do(_, item int) {
	t := &j.p.tiles[item]
	var buffer [tileTokens]run
	at, size := int(t.token), j.k.cols*j.k.dt.Size()
	for _, r := range j.p.pageRuns(buffer[:0], t.segment, int(t.pos), int(t.pos+t.tokens), j.pageTokens, j.page) {
		for row := r.row; row < r.row+r.n; row++ {
			if j.across {
				off := row % j.pageTokens
				scatter(j.k.dt, j.cacheK.at(row-off, off), j.pageTokens, j.k.row(at), j.k.cols)
			} else {
				copyBytes(j.cacheK.row(row), j.k.row(at), size)
			}
			copyBytes(j.cacheV.row(row), j.v.row(at), size)
			at++
		}
	}
}

// scatter copies n elements at src to dst, stride elements apart.
func scatter(dt compute.DType, dst unsafe.Pointer, stride int, src unsafe.Pointer, n int) {
	if dt == compute.BF16 {
		for i, x := range unsafe.Slice((*uint16)(src), n) {
			*(*uint16)(unsafe.Add(dst, 2*i*stride)) = x
		}
		return
	}
	for i, x := range unsafe.Slice((*uint32)(src), n) {
		*(*uint32)(unsafe.Add(dst, 4*i*stride)) = x
	}
}

func copyBytes(dst, src unsafe.Pointer, n int) {
	copy(unsafe.Slice((*byte)(dst), n), unsafe.Slice((*byte)(src), n))
}

// scorePages sets s.s to the products of the tile's queries and the block's keys, from pages that
// hold them transposed. What it leaves behind the block's end is nobody's.
func (j *attentionJob) scorePages(s *tileScratch, head, rows int) {
	dt, dim, pt := j.keys.dt, j.h.Dim, j.pageTokens
	ld, stride := paddedDim(dim)*4, pt*dt.Size()
	// Many rows read keys many times: they are widened once.
	widen := dt != compute.F32 && rows > 12
	for _, r := range s.runs {
		for i, n := 0, 0; i < r.n; i += n {
			off := (r.row + i) % pt
			n = min(pt-off, r.n-i)
			keys, at := j.keys.at(r.row+i-off, head*dim*pt+off), 4*(r.at+i)
			if widen {
				j.k.widenRows[dt](dim, n, unsafe.Add(s.kt, at), blockStride, keys, stride)
			} else {
				j.k.mulNN[dt](rows, parts(n, 16), dim, s.q, ld, keys, stride, unsafe.Add(s.s, at), blockStride, 0)
			}
		}
	}
	if last := s.runs[len(s.runs)-1]; widen {
		j.k.mulNN[compute.F32](rows, parts(last.at+last.n, 16), dim, s.q, ld, s.kt, blockStride, s.s, blockStride, 0)
	}
}

// WriteKV stores a chunk's keys and values in the cache; see compute.Backend.
func (b *Backend) WriteKV(c compute.Cache, k, v compute.Tensor, p compute.Plan) {
	pl := chunkPlan("WriteKV", p, c)
	compute.CheckWriteKV(c, k, v, pl.layout.Tokens())
	j := &b.vector.writeKV
	*j = writeKVJob{pl, b.view(c.K), b.view(c.V), b.view(k), b.view(v), c.PageTokens, c.K.Rows / c.PageTokens, keysAcross(c)}
	b.pool.run(len(pl.tiles), j)
}

// AttentionPaged is Attention over the cache: the same arithmetic, so a row has the bits that it
// would have in a packed batch; see compute.Backend.
func (b *Backend) AttentionPaged(y, q compute.Tensor, c compute.Cache, h compute.Heads, p compute.Plan) {
	pl := chunkPlan("AttentionPaged", p, c)
	compute.CheckAttentionPaged(y, q, c, h, pl.layout.Tokens())
	b.scratch.reset()
	j := &b.vector.attention
	*j = attentionJob{k: &b.k.vector, tiles: b.takeTiles(h, false), p: pl, h: h,
		y: b.view(y), q: b.view(q), keys: b.view(c.K), vals: b.view(c.V), pageTokens: c.PageTokens, across: keysAcross(c)}
	b.pool.run(len(pl.tiles)*h.KV, j)
}

// CopyPages copies page src[i] to page dst[i], in order; see compute.Backend.
func (b *Backend) CopyPages(c compute.Cache, dst, src compute.Tensor) {
	compute.CheckCopyPages(c, dst, src)
	k, v, to, from := b.view(c.K), b.view(c.V), b.view(dst), b.view(src)
	size, pages := k.cols*k.dt.Size(), k.rows/c.PageTokens
	for i := range src.Rows {
		t, f := to.index(i, pages)*c.PageTokens, from.index(i, pages)*c.PageTokens
		for r := range c.PageTokens {
			copyBytes(k.row(t+r), k.row(f+r), size)
			copyBytes(v.row(t+r), v.row(f+r), size)
		}
	}
}

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

// writeKVJob is cut into tiles.
type writeKVJob struct {
	p                *plan
	cacheK, cacheV   view
	k, v             view
	pageTokens, page int
}

func (j *writeKVJob) do(_, item int) {
	t := &j.p.tiles[item]
	var buffer [tileTokens]run
	at, size := 0, j.k.cols*j.k.dt.Size()
	for _, r := range j.p.pageRuns(buffer[:0], t.segment, int(t.pos), int(t.pos+t.tokens), j.pageTokens, j.page) {
		for i := range r.n {
			copyBytes(j.cacheK.row(r.row+i), j.k.row(int(t.token)+at), size)
			copyBytes(j.cacheV.row(r.row+i), j.v.row(int(t.token)+at), size)
			at++
		}
	}
}

func copyBytes(dst, src unsafe.Pointer, n int) {
	copy(unsafe.Slice((*byte)(dst), n), unsafe.Slice((*byte)(src), n))
}

// WriteKV stores a chunk's keys and values in the cache; see compute.Backend.
func (b *Backend) WriteKV(c compute.Cache, k, v compute.Tensor, p compute.Plan) {
	pl := chunkPlan("WriteKV", p, c)
	compute.CheckWriteKV(c, k, v, pl.layout.Tokens())
	j := &b.vector.writeKV
	*j = writeKVJob{pl, b.view(c.K), b.view(c.V), b.view(k), b.view(v), c.PageTokens, c.K.Rows / c.PageTokens}
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
		y: b.view(y), q: b.view(q), keys: b.view(c.K), vals: b.view(c.V), pageTokens: c.PageTokens}
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

//go:build cuda

package cuda

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cuda/driver"
)

// Of kernels/attention_paged.cu: keys at a time, the largest width of a head, and the most query
// heads to a key head.
const (
	attentionKeys     = 32
	attentionMaxDim   = 256
	attentionMaxGroup = 16
)

// WriteKV stores a chunk's keys and values in the cache; see compute.Backend.
func (b *Backend) WriteKV(c compute.Cache, k, v compute.Tensor, p compute.Plan) {
	pl := b.chunk("WriteKV", p, c)
	compute.CheckWriteKV(c, k, v, pl.tokens)
	b.launch(b.k.writeKV.width(k.DType), rows(k.Rows), b.address(c.K), stride(c.K), b.address(c.V), stride(c.V), b.address(k), stride(k), b.address(v), stride(v),
		pl.address(pl.segmentAt()), pl.address(pl.posAt()), pl.address(pl.firstAt()), pl.address(pl.pagesAt()), integer(c.PageTokens), integer(k.Cols))
}

// CopyPages copies whole pages, all at once; see compute.Backend.
func (b *Backend) CopyPages(c compute.Cache, dst, src compute.Tensor) {
	compute.CheckCopyPages(c, dst, src)
	grid := driver.Grid{X: c.PageTokens, Y: dst.Rows, Threads: rowThreads}
	for _, cache := range []compute.Tensor{c.K, c.V} {
		b.launch(b.k.copyPages.width(cache.DType), grid, b.address(cache), stride(cache), b.address(dst), stride(dst), b.address(src), stride(src), integer(c.PageTokens), integer(cache.Cols))
	}
}

// AttentionPaged is causal attention of a chunk over the cache; see compute.Backend. Its grid is
// tokens by key heads; how far a token's context reaches, the kernel reads from the plan.
func (b *Backend) AttentionPaged(y, q compute.Tensor, c compute.Cache, h compute.Heads, p compute.Plan) {
	pl := b.chunk("AttentionPaged", p, c)
	compute.CheckAttentionPaged(y, q, c, h, pl.tokens)
	b.within("AttentionPaged", "tokens", pl.tokens, b.limits.Tokens)
	group := h.Q / h.KV
	shared := 4 * (attentionKeys*(2*h.Dim+1) + group*(h.Dim+attentionKeys))
	if h.Dim > attentionMaxDim || group > attentionMaxGroup || shared > attentionShared {
		panic(fmt.Sprintf("compute/cuda: AttentionPaged: heads %+v: at most %d columns, %d query heads to a key head, and %d bytes of shared memory, not %d",
			h, attentionMaxDim, attentionMaxGroup, attentionShared, shared))
	}
	grid := driver.Grid{X: pl.tokens, Y: h.KV, Threads: 32 * group, Shared: shared}
	b.launch(b.k.attentionPaged.of(q.DType), grid, b.address(y), stride(y), b.address(q), stride(q), b.address(c.K), stride(c.K), b.address(c.V), stride(c.V),
		pl.address(pl.segmentAt()), pl.address(pl.posAt()), pl.address(pl.firstAt()), pl.address(pl.pagesAt()), integer(c.PageTokens),
		integer(h.Dim), integer(h.Window), float(h.Scale))
}

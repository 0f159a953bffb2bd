//go:build cuda

package cuda

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cuda/driver"
)

// withinAttention panics where a forest's attention is more than was reserved or than the kernels
// hold; shared is the dynamic shared memory of a block.
func (b *Backend) withinAttention(op string, p *plan, h compute.Heads, shared int) {
	b.within(op, "tokens", p.tokens, b.limits.Tokens)
	b.within(op, "segments", p.segments, b.limits.Segments)
	b.within(op, "positions", p.context, b.limits.Context)
	if h.Dim > attentionMaxDim || h.Q/h.KV > attentionMaxGroup || shared > attentionShared {
		panic(fmt.Sprintf("compute/cuda: %s: heads %+v: at most %d columns, %d query heads to a key head, and %d bytes of shared memory, not %d",
			op, h, attentionMaxDim, attentionMaxGroup, attentionShared, shared))
	}
}

// Attention is causal attention over a forest; see compute.Backend. Its grid is tokens by key heads.
func (b *Backend) Attention(y, lse, q, k, v compute.Tensor, h compute.Heads, p compute.Plan) {
	pl := b.forest("Attention", p)
	compute.CheckAttention(y, lse, q, k, v, h, pl.tokens)
	group := h.Q / h.KV
	shared := 4 * (2*attentionKeys*(h.Dim+1) + group*(h.Dim+attentionKeys))
	b.withinAttention("Attention", pl, h, shared)
	grid := driver.Grid{X: pl.tokens, Y: h.KV, Threads: 32 * group, Shared: shared}
	b.launch(b.k.attention.of(q.DType), grid, b.address(y), stride(y), b.address(lse), stride(lse), b.address(q), stride(q), b.address(k), stride(k), b.address(v), stride(v),
		pl.address(pl.segmentAt()), pl.address(pl.posAt()), pl.address(pl.startAt()), pl.address(pl.parentAt()), integer(h.Dim), integer(h.Window), float(h.Scale))
}

// AttentionBackward is Attention's backward operation; see compute.Backend. dq goes by queries, dk and
// dv by keys.
func (b *Backend) AttentionBackward(dq, dk, dv, dy, y, lse, q, k, v compute.Tensor, h compute.Heads, p compute.Plan) {
	pl := b.forest("AttentionBackward", p)
	compute.CheckAttentionBackward(dq, dk, dv, dy, y, lse, q, k, v, h, pl.tokens)
	b.withinTrain("AttentionBackward")
	group := h.Q / h.KV
	shared := 4 * (2*attentionKeys*(h.Dim+1) + group*(2*h.Dim+attentionKeys))
	b.withinAttention("AttentionBackward", pl, h, shared)
	keyGradients, valueGradients := b.address(dk), b.address(dv)
	grid := driver.Grid{X: pl.tokens, Y: h.KV, Threads: 32 * group, Shared: shared}
	b.launch(b.k.attentionDQ.of(q.DType), grid, b.address(dq), stride(dq), b.address(dy), stride(dy), b.address(y), stride(y), b.address(lse), stride(lse),
		b.address(q), stride(q), b.address(k), stride(k), b.address(v), stride(v),
		pl.address(pl.segmentAt()), pl.address(pl.posAt()), pl.address(pl.startAt()), pl.address(pl.parentAt()), integer(h.Dim), integer(h.Window), float(h.Scale))
	grid.Threads, grid.Shared = rowThreads, 0
	b.launch(b.k.attentionDKV.of(q.DType), grid, keyGradients, stride(dk), valueGradients, stride(dv), b.address(dy), stride(dy), b.address(y), stride(y), b.address(lse), stride(lse),
		b.address(q), stride(q), b.address(k), stride(k), b.address(v), stride(v),
		pl.address(pl.segmentAt()), pl.address(pl.posAt()), pl.address(pl.startAt()), pl.address(pl.parentAt()), integer(pl.tokens), integer(group), integer(h.Dim), integer(h.Window), float(h.Scale))
}

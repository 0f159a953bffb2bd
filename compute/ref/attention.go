package ref

import (
	"math"

	"github.com/seed-8780d58e/spin/compute"
)

// attend is one query head over the rows seen: y = softmax(scale·q·Kᵀ)·V, with the log-sum-exp of
// the scores. k(r) and v(r) are one head of row r.
func attend(y, q []float64, seen []int, k, v func(r int) []float64, scale float64) (lse float64) {
	scores, top := make([]float64, len(seen)), math.Inf(-1)
	for i, r := range seen {
		scores[i] = scale * dot(q, k(r))
		top = max(top, scores[i])
	}
	var sum float64
	for _, s := range scores {
		sum += math.Exp(s - top)
	}
	lse = top + math.Log(sum)
	clear(y)
	for i, r := range seen {
		axpy(y, math.Exp(scores[i]-lse), v(r))
	}
	return lse
}

// head is head h of each row of t.
func (b *backend) head(t compute.Tensor, h, dim int) func(r int) []float64 {
	return func(r int) []float64 { return b.row(t, r)[h*dim : (h+1)*dim] }
}

func (b *backend) Attention(y, lse, q, k, v compute.Tensor, h compute.Heads, pl compute.Plan) {
	p := b.plan(pl)
	compute.CheckAttention(y, lse, q, k, v, h, len(p.seen))
	b.withinAttention("Attention", p, h)
	p.mustBeForest("Attention")
	for t := range q.Rows {
		for a := range h.Q {
			g := a / (h.Q / h.KV)
			b.row(lse, t)[a] = attend(b.head(y, a, h.Dim)(t), b.head(q, a, h.Dim)(t), window(p.seen[t], h.Window),
				b.head(k, g, h.Dim), b.head(v, g, h.Dim), float64(h.Scale))
		}
	}
}

// With P the probabilities and D = dy·y: dS = P·(dy·Vᵀ − D), dq = scale·dS·K, dk += scale·dSᵀ·q,
// dv += Pᵀ·dy (arXiv 2307.08691, algorithm 2).
func (b *backend) AttentionBackward(dq, dk, dv, dy, y, lse, q, k, v compute.Tensor, h compute.Heads, pl compute.Plan) {
	p := b.plan(pl)
	compute.CheckAttentionBackward(dq, dk, dv, dy, y, lse, q, k, v, h, len(p.seen))
	b.withinAttention("AttentionBackward", p, h)
	b.withinTrain("AttentionBackward")
	p.mustBeForest("AttentionBackward")
	b.Zero(dq)
	b.Zero(dk)
	b.Zero(dv)
	scale := float64(h.Scale)
	for t := range q.Rows {
		for a := range h.Q {
			g := a / (h.Q / h.KV)
			k, v, dk, dv := b.head(k, g, h.Dim), b.head(v, g, h.Dim), b.head(dk, g, h.Dim), b.head(dv, g, h.Dim)
			q, dq, dy, y := b.head(q, a, h.Dim)(t), b.head(dq, a, h.Dim)(t), b.head(dy, a, h.Dim)(t), b.head(y, a, h.Dim)(t)
			d := dot(dy, y)
			for _, r := range window(p.seen[t], h.Window) {
				prob := math.Exp(scale*dot(q, k(r)) - b.row(lse, t)[a])
				ds := prob * (dot(dy, v(r)) - d)
				axpy(dq, scale*ds, k(r))
				axpy(dk(r), scale*ds, q)
				axpy(dv(r), prob, dy)
			}
		}
	}
}

func (p *plan) mustBeForest(op string) {
	for _, past := range p.layout.Past {
		if past != 0 {
			panic("compute: " + op + ": layout with a past")
		}
	}
}

func (p *plan) mustBeChunk(op string, c compute.Cache) {
	if err := p.layout.Check(c.PageTokens); err != nil {
		panic("compute: " + op + ": " + err.Error())
	}
	for _, parent := range p.layout.Parent {
		if parent >= 0 {
			panic("compute: " + op + ": layout with a parent")
		}
	}
}

// cached is the cache's rows of positions 0 to t's, t itself included.
func (p *plan) cached(c compute.Cache, t int) []int {
	rows := make([]int, p.layout.Pos[t]+1)
	for i := range rows {
		rows[i] = int(p.layout.Pages[p.segment[t]][i/c.PageTokens])*c.PageTokens + i%c.PageTokens
	}
	return rows
}

func (b *backend) WriteKV(c compute.Cache, k, v compute.Tensor, pl compute.Plan) {
	p := b.plan(pl)
	compute.CheckWriteKV(c, k, v, len(p.seen))
	p.mustBeChunk("WriteKV", c)
	for t := range k.Rows {
		rows := p.cached(c, t)
		copy(b.row(c.K, rows[len(rows)-1]), b.row(k, t))
		copy(b.row(c.V, rows[len(rows)-1]), b.row(v, t))
	}
}

func (b *backend) AttentionPaged(y, q compute.Tensor, c compute.Cache, h compute.Heads, pl compute.Plan) {
	p := b.plan(pl)
	compute.CheckAttentionPaged(y, q, c, h, len(p.seen))
	b.withinAttention("AttentionPaged", p, h)
	p.mustBeChunk("AttentionPaged", c)
	for t := range q.Rows {
		rows := window(p.cached(c, t), h.Window)
		for a := range h.Q {
			g := a / (h.Q / h.KV)
			attend(b.head(y, a, h.Dim)(t), b.head(q, a, h.Dim)(t), rows,
				b.head(c.K, g, h.Dim), b.head(c.V, g, h.Dim), float64(h.Scale))
		}
	}
}

func (b *backend) CopyPages(c compute.Cache, dst, src compute.Tensor) {
	compute.CheckCopyPages(c, dst, src)
	to := b.column(dst)
	for i, from := range b.column(src) {
		for r := range c.PageTokens {
			copy(b.row(c.K, to[i]*c.PageTokens+r), b.row(c.K, from*c.PageTokens+r))
			copy(b.row(c.V, to[i]*c.PageTokens+r), b.row(c.V, from*c.PageTokens+r))
		}
	}
}

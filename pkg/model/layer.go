package model

import (
	"github.com/seed-8780d58e/spin/compute"
)

// acts is what a layer's backward pass reads: the tensors of one layer at one batch's size. T is
// the batch's tokens.
type acts struct {
	x1    compute.Tensor    // [T, Hidden] stream: the layer's input
	rstd1 compute.Tensor    // [T, 1]
	qkv   [3]compute.Tensor // [T, QueryWidth], [T, KVWidth] twice: rotated q and k, and v
	y     compute.Tensor    // [T, QueryWidth]: attention's output
	lse   compute.Tensor    // [T, Heads]
	x2    compute.Tensor    // [T, Hidden] stream: after attention
	rstd2 compute.Tensor    // [T, 1]
	gu    [2]compute.Tensor // [T, Intermediate] gate, up
}

// work is what a layer needs while it runs, shared by all layers.
type work struct {
	n     compute.Tensor    // [T, Hidden] a norm's output
	s     compute.Tensor    // [T, Intermediate] SwiGLU's
	delta [1]compute.Tensor // [T, Hidden] what is to be added to the stream
	ax    compute.Tensor    // [T, rank] LoRA's inner activation

	// backward only
	dn  [1]compute.Tensor // [T, Hidden] a norm's output's
	dq  [3]compute.Tensor // as qkv
	dy  compute.Tensor    // [T, QueryWidth]
	dgu [2]compute.Tensor // [T, Intermediate]
	ds  compute.Tensor    // [T, Intermediate]
	dax compute.Tensor    // [T, rank]
}

// rows cuts every tensor to t tokens.
func (a *acts) rows(t int) acts {
	c := *a
	for _, p := range []*compute.Tensor{&c.x1, &c.rstd1, &c.qkv[0], &c.qkv[1], &c.qkv[2], &c.y, &c.lse, &c.x2, &c.rstd2, &c.gu[0], &c.gu[1]} {
		*p = p.Slice(0, t)
	}
	return c
}

func (w *work) rows(t int) work {
	c := *w
	for _, p := range []*compute.Tensor{&c.n, &c.s, &c.delta[0], &c.ax, &c.dn[0], &c.dq[0], &c.dq[1], &c.dq[2], &c.dy, &c.dgu[0], &c.dgu[1], &c.ds, &c.dax} {
		*p = p.Slice(0, t)
	}
	return c
}

// project runs one linear map's bias and adapter, after Linear has run its weight.
func (l *linear) project(be compute.Backend, y, x, ax compute.Tensor) {
	if l.bias != nil {
		be.AddBias(y, l.bias.Vec)
	}
	if l.a != nil {
		ax = ax.Columns(0, l.a.Rows)
		be.MatMul(ax, x, l.a.Vec, compute.NT, 1, false)
		be.MatMul(y, ax, l.b.Vec, compute.NT, l.scale, true)
	}
}

// attend is the start of a layer, up to q and k rotated and v, left in a.qkv. x is
// the stream, to which delta (absent: nothing) is added first.
func (m *Model) attend(be compute.Backend, l *layer, a *acts, w *work, x, delta, pos compute.Tensor) {
	be.AddRMSNorm(w.n, a.rstd1, x, delta, l.norm1.Vec, float32(m.Eps))
	be.Linear(a.qkv[:], w.n, l.qkv, false)
	for p := q; p <= v; p++ {
		l.proj[p].project(be, a.qkv[p], w.n, w.ax)
	}
	be.RoPE(a.qkv[q], pos, m.cos, m.sin, m.HeadDim, false)
	be.RoPE(a.qkv[k], pos, m.cos, m.sin, m.HeadDim, false)
}

// mix is the middle of a layer: attention's output a.y goes through its projection, into out, and
// onto the stream x; then the MLP's two inputs are made, in a.gu.
func (m *Model) mix(be compute.Backend, l *layer, a *acts, w *work, x compute.Tensor, out []compute.Tensor) {
	be.Linear(out, a.y, l.o, false)
	l.proj[o].project(be, out[0], a.y, w.ax)
	be.AddRMSNorm(w.n, a.rstd2, x, out[0], l.norm2.Vec, float32(m.Eps))
	if !a.x2.Absent() {
		be.Copy(a.x2, x)
	}
	be.Linear(a.gu[:], w.n, l.gateUp, false)
	l.proj[gate].project(be, a.gu[0], w.n, w.ax)
	l.proj[up].project(be, a.gu[1], w.n, w.ax)
}

// feed is the rest: the MLP's output goes to w.delta, which the next layer adds to the stream.
func (m *Model) feed(be compute.Backend, l *layer, a *acts, w *work) {
	be.SwiGLU(w.s, a.gu[0], a.gu[1])
	be.Linear(w.delta[:], w.s, l.down, false)
	l.proj[down].project(be, w.delta[0], w.s, w.ax)
}

// heads is the attention's shape.
func (m *Model) heads() compute.Heads {
	return compute.Heads{Q: m.Heads, KV: m.KVHeads, Dim: m.HeadDim, Window: m.Window, Scale: scale(m.HeadDim)}
}

// backward turns dx, the stream's gradient after the layer, into that before it. delta[0] of w is
// dx rounded to act on entry and on return. a holds the layer's activations.
func (m *Model) backward(be compute.Backend, l *layer, a *acts, w *work, dx, pos compute.Tensor, plan compute.Plan) {
	// Norms and SwiGLU are cheaper to run again than to keep.
	be.AddRMSNorm(w.n, a.rstd2, a.x2, compute.Tensor{}, l.norm2.Vec, float32(m.Eps))
	be.SwiGLU(w.s, a.gu[0], a.gu[1])
	be.LinearDX(w.ds, w.delta[:], l.down, false)
	l.proj[down].backward(be, w.ds, w.delta[0], w.s, w)
	be.SwiGLUBackward(w.dgu[0], w.dgu[1], w.ds, a.gu[0], a.gu[1])
	be.LinearDX(w.dn[0], w.dgu[:], l.gateUp, false)
	l.proj[gate].backward(be, w.dn[0], w.dgu[0], w.n, w)
	l.proj[up].backward(be, w.dn[0], w.dgu[1], w.n, w)
	be.AddRMSNormBackward(dx, w.delta[0], l.norm2.Grad, w.dn[0], a.x2, l.norm2.Vec, a.rstd2, float32(m.Eps))

	be.LinearDX(w.dy, w.delta[:], l.o, false)
	l.proj[o].backward(be, w.dy, w.delta[0], a.y, w)
	be.AttentionBackward(w.dq[q], w.dq[k], w.dq[v], w.dy, a.y, a.lse, a.qkv[q], a.qkv[k], a.qkv[v], m.heads(), plan)
	be.RoPE(w.dq[q], pos, m.cos, m.sin, m.HeadDim, true)
	be.RoPE(w.dq[k], pos, m.cos, m.sin, m.HeadDim, true)
	be.AddRMSNorm(w.n, a.rstd1, a.x1, compute.Tensor{}, l.norm1.Vec, float32(m.Eps))
	be.LinearDX(w.dn[0], w.dq[:], l.qkv, false)
	for p := q; p <= v; p++ {
		l.proj[p].backward(be, w.dn[0], w.dq[p], w.n, w)
	}
	be.AddRMSNormBackward(dx, w.delta[0], l.norm1.Grad, w.dn[0], a.x1, l.norm1.Vec, a.rstd1, float32(m.Eps))
}

// backward adds the weights' gradients of y = linear(x) given dy, and the adapter's part to dx, to
// which LinearDX has written the weight's.
func (l *linear) backward(be compute.Backend, dx, dy, x compute.Tensor, w *work) {
	be.LinearDW(l.w.Grad, dy, x, 1)
	if l.bias != nil {
		be.ColumnSum(l.bias.Grad, dy)
	}
	if l.a == nil {
		return
	}
	ax, dax := w.ax.Columns(0, l.a.Rows), w.dax.Columns(0, l.a.Rows)
	be.MatMul(ax, x, l.a.Vec, compute.NT, 1, false)
	be.MatMul(l.b.Grad, dy, ax, compute.TN, l.scale, true)
	be.MatMul(dax, dy, l.b.Vec, compute.NN, l.scale, false)
	be.MatMul(l.a.Grad, dax, x, compute.TN, 1, true)
	be.MatMul(dx, dax, l.a.Vec, compute.NN, 1, true)
}

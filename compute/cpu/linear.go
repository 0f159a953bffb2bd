package cpu

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute"
)

// gemmScratch is the scratch memory that this half's operations need at most.
func (b *Backend) gemmScratch(l compute.Limits) int64 {
	g := &b.k.gemm
	item := g.itemTiles() * g.heights[0]
	width := max(l.Width, 1)
	// A: some rows of all the activations that LinearDX sums over, or a block of rows along the
	// tokens for a weight's gradient.
	need := g.aBytes(single, max(min(l.Tokens, 1024), item), 3*width+8)
	need = max(need, g.aBytes(single, item, l.Tokens+8))
	// B: a whole activation for a weight's gradient; else some panels (LoRA's factors).
	columns := 8 * g.nr
	if l.Train {
		columns = max(columns, width)
	}
	need += int64(g.panelsOf(columns)) * int64(g.panelBytes(single, max(l.Tokens, width)+8))
	store := scratchBytes(b.pool.threads*g.nr*(width+16), 2)
	return b.beginBytes() + max(need, b.headScratch(l), store) + 1<<16
}

// multiply runs the multiplication that was listed, of m rows.
func (b *Backend) multiply(m int, alpha float32, acc bool) {
	x := &b.gemm.mul
	x.alpha, x.acc = alpha, acc
	b.pool.run(x.plan(&b.k.gemm, m, b.pool.threads), x)
	x.outs, x.terms = x.outs[:0], x.terms[:0]
}

// output lists y, rows from first on, as a result of the terms listed from there on.
func (b *Backend) output(y compute.Tensor, first int) {
	x := &b.gemm.mul
	x.outs = append(x.outs, output{
		y: pointer(y.Slice(first, y.Rows)), stride: y.Stride * y.DType.Size(), dt: y.DType, cols: y.Cols,
		from: len(x.terms),
	})
}

// Linear sets ys[i] = x·ws[i]ᵀ, or adds to it; see compute.Backend.
func (b *Backend) Linear(ys []compute.Tensor, x compute.Tensor, ws []compute.Weight, acc bool) {
	compute.CheckLinear(ys, x, ws)
	b.own(x)
	b.own(ys...)
	for _, w := range ws {
		b.weightOf(w)
	}
	if x.Rows == 0 {
		return
	}
	g := &b.k.gemm
	fa, fb, block, kernels := g.formsOf(x.DType, x.DType)
	if s := g.streamsOf(kernels); s != nil && x.Rows > 1 && x.Rows <= fewRows {
		b.linearFew(ys, x, ws, acc, s, fa, fb, block)
		return
	}
	b.begin()
	mark := b.scratch.used
	a := matrixOf(x, true)
	for first, n := 0, b.rowsThatFit(x.Rows, g.aPanel(fa, x.Cols)); first < x.Rows; first += n {
		n = min(n, x.Rows-first)
		b.scratch.used = mark
		packed := b.packedA(a, fa, first, n, x.Rows, x.Cols)
		b.runPacking()
		for i, w := range ws {
			p := w.(*weight)
			b.output(ys[i], first)
			b.term(term{
				a: packed, aPanel: g.aPanel(fa, x.Cols), aGroup: fa.dwords() * 4,
				b: p.forward.base, bPanel: p.forwardPanel(), groups: fb.groups(x.Cols), block: evenBlock(fb.groups(x.Cols), block), kernels: kernels,
			})
		}
		b.multiply(n, 1, acc)
	}
}

// term adds t to the output listed last.
func (b *Backend) term(t term) {
	x := &b.gemm.mul
	x.terms = append(x.terms, t)
	x.outs[len(x.outs)-1].to = len(x.terms)
}

// LinearDX sets dx = Σ dys[i]·ws[i], or adds to it; see compute.Backend.
func (b *Backend) LinearDX(dx compute.Tensor, dys []compute.Tensor, ws []compute.Weight, acc bool) {
	compute.CheckLinearDX(dx, dys, ws)
	b.own(dx)
	b.own(dys...)
	g := &b.k.gemm
	tile := 0 // bytes of a tile's rows in all terms
	for _, w := range ws {
		p := b.weightOf(w)
		if p.backward == nil {
			panic(fmt.Sprintf("compute/cpu: LinearDX of a [%d, %d] weight that was not made to train", p.out, p.in))
		}
		fa, _, _, _ := g.formsOf(p.dt, p.dt)
		tile += g.aPanel(fa, p.out)
	}
	if dx.Rows == 0 {
		return
	}
	b.begin()
	mark := b.scratch.used
	for first, n := 0, b.rowsThatFit(dx.Rows, tile); first < dx.Rows; first += n {
		n = min(n, dx.Rows-first)
		b.scratch.used = mark
		b.output(dx, first)
		for i, w := range ws {
			p := w.(*weight)
			fa, fb, block, kernels := g.formsOf(p.dt, p.dt)
			packed := b.packedA(matrixOf(dys[i], true), fa, first, n, dx.Rows, p.out)
			b.term(term{
				a: packed, aPanel: g.aPanel(fa, p.out), aGroup: fa.dwords() * 4,
				b: p.backward.base, bPanel: p.backwardPanel(), groups: fb.groups(p.out), block: evenBlock(fb.groups(p.out), block), kernels: kernels,
			})
		}
		b.runPacking()
		b.multiply(n, 1, acc)
	}
}

// LinearDW adds alpha·dyᵀ·x to dw; see compute.Backend.
func (b *Backend) LinearDW(dw, dy, x compute.Tensor, alpha float32) {
	compute.CheckLinearDW(dw, dy, x)
	if dw.Absent() {
		return
	}
	b.MatMul(dw, dy, x, compute.TN, alpha, true)
}

// MatMul sets y = alpha·op(a)·op(b), or adds to it; see compute.Backend.
func (b *Backend) MatMul(y, a, c compute.Tensor, t compute.Trans, alpha float32, acc bool) {
	m, n, k := compute.CheckMatMul(y, a, c, t)
	b.own(y, a, c)
	if m == 0 || n == 0 {
		return
	}
	b.begin()
	b.product(y, matrixOf(a, t != compute.TN), matrixOf(c, t == compute.NT), k, alpha, acc)
}

// product is MatMul without its checks and begin: a and c as they lie in memory, of any dtypes that
// formsOf knows. As many columns are packed as fit into half of the scratch, then rows into what is
// left.
func (b *Backend) product(y compute.Tensor, a, c matrix, k int, alpha float32, acc bool) {
	g := &b.k.gemm
	fa, fb, block, kernels := g.formsOf(a.dt, c.dt)
	mark := b.scratch.used
	columns := y.Cols
	if half := int(b.scratch.left() / 2 / int64(g.panelBytes(fb, k))); half < g.panelsOf(columns) {
		columns = max(half, 1) * g.nr
	}
	for col := 0; col < y.Cols; col += columns {
		n := min(columns, y.Cols-col)
		b.scratch.used = mark
		packedB := b.packedB(c, fb, col, n, y.Cols, k)
		inner := b.scratch.used
		for first, rows := 0, b.rowsThatFit(y.Rows, g.aPanel(fa, k)); first < y.Rows; first += rows {
			rows = min(rows, y.Rows-first)
			b.scratch.used = inner
			packedA := b.packedA(a, fa, first, rows, y.Rows, k)
			b.runPacking()
			b.output(y.Columns(col, col+n), first)
			b.term(term{
				a: packedA, aPanel: g.aPanel(fa, k), aGroup: fa.dwords() * 4,
				b: packedB, bPanel: g.panelBytes(fb, k), groups: fb.groups(k), block: block, kernels: kernels,
			})
			b.multiply(rows, alpha, acc)
		}
	}
	b.scratch.used = mark
}

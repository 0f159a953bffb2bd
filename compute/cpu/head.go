package cpu

import (
	"math"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// The head's logits z = x·Wᵀ exist one tile at a time: some rows times headColumns of the
// vocabulary, in a thread's scratch. A tile leaves behind, for each row, what softmax needs of it;
// these partial results are combined in the order of the vocabulary.

const (
	headColumns = gemmItemColumns // of the vocabulary, in a tile
	headRows    = 1024            // asked rows worked on at a time: the gradient's sums are cut here too
	headSpan    = 1536            // columns of the vocabulary whose gradients are stored at a time
)

// headPart is one row's softmax over one tile.
type headPart struct {
	max    float32
	sum    float32 // Σ exp(z − max)
	sumZ   float32 // Σ z·exp(z − max)
	argmax int32
}

// headJob computes tiles of logits and reduces them. Its items are those of the multiplication.
type headJob struct {
	g      *gemmKernels
	mul    *multiplication
	vocab  int
	rows   int       // of this chunk
	first  int       // its first row among those asked for
	z      []float32 // a thread's tile, and 16 floats more
	target compute.Tensor

	// forward
	parts   []headPart // [tiles of the vocabulary][rows]
	targetZ []float32  // [rows]
	argmax  bool

	// backward: gradients of the logits
	grad       []float32 // [rows][gradStride]; nil: forward
	gradStride int
	from       int // the first column of grad
	lse, coef  compute.Tensor
}

// headTileFloats is a thread's part of z: a tile, and room for lanes before it.
func (g *gemmKernels) headTileFloats() int { return g.itemTiles()*g.heights[0]*headColumns + 16 }

func (h *headJob) do(thread, item int) {
	x := h.mul
	c, i0, i1 := x.part(item)
	j0 := c * x.chunk
	j1 := min(j0+x.chunk, x.g.panelsOf(x.outs[0].cols))
	size := h.g.headTileFloats()
	z := h.z[thread*size : (thread+1)*size]
	first, _ := h.g.tile(i0, x.m)
	end, _ := h.g.tile(i1, x.m)
	col := j0 * h.g.nr

	o := x.outs[0]
	o.y, o.stride, o.dt = unsafe.Pointer(&z[16]), headColumns*4, compute.F32
	o.row0, o.col0 = first, col
	x.item(&o, i0, i1, j0, j1, unsafe.Pointer(&x.partial[thread*h.g.partialFloats()]))

	cols := min(x.outs[0].cols-col, headColumns)
	for r := first; r < end; r++ {
		line := z[16+(r-first)*headColumns:][:headColumns]
		if h.grad != nil {
			h.gradient(line, r, col, cols)
		} else {
			h.reduce(line, r, c, col, cols, z[:16])
		}
	}
}

// reduce is one row's part of the forward operation. lanes has room for 16 floats.
func (h *headJob) reduce(z []float32, r, tile, col, cols int, lanes []float32) {
	n := (cols + 7) / 8
	for i := cols; i < 8*n; i++ {
		z[i] = -math.MaxFloat32 // has no weight: its exponential is 0
	}
	p := &h.parts[tile*h.rows+r]
	out := unsafe.Pointer(&lanes[0])
	h.g.maxLanes(n, unsafe.Pointer(&z[0]), out)
	best := [8]float32(lanes)
	p.max = best[0]
	for _, v := range best[1:] {
		p.max = max(p.max, v)
	}
	h.g.expSumLanes(n, unsafe.Pointer(&z[0]), out, h.g.table, p.max)
	p.sum, p.sumZ = 0, 0
	for i := range 8 {
		p.sum += lanes[i]
		p.sumZ += lanes[8+i]
	}
	if h.argmax {
		p.argmax = int32(col + indexOf(z[:cols], best, p.max))
	}
	if t := int(row[int32](h.target, h.first+r)[0]) - col; t >= 0 && t < cols {
		h.targetZ[r] = z[t]
	}
}

// indexOf is the index of the first z that is top, 0 where there is none (NaN). lanes are the maxima of
// z's lanes: only those that hold top are looked through.
func indexOf(z []float32, lanes [8]float32, top float32) int {
	at := len(z)
	for j, v := range lanes {
		if v != top {
			continue
		}
		for i := j; i < at; i += 8 {
			if z[i] == top {
				at = i
			}
		}
	}
	return at % len(z)
}

// gradient sets one row's part of ∂loss/∂z = coef·(onehot(target) − softmax(z)).
func (h *headJob) gradient(z []float32, r, col, cols int) {
	i := h.first + r
	coef, lse := row[float32](h.coef, i)[0], row[float32](h.lse, i)[0]
	g := h.grad[r*h.gradStride+col:]
	h.g.expScale((cols+7)/8, unsafe.Pointer(&z[0]), unsafe.Pointer(&g[0]), h.g.table, lse, -coef)
	if t := int(row[int32](h.target, i)[0]) - h.from - col; t >= 0 && t < cols {
		g[t] += coef
	}
}

// headCombine is the job that puts the parts of each row together. Its items are blocks of rows.
type headCombine struct {
	h                          *headJob
	tiles                      int
	logp, lse, entropy, argmax compute.Tensor
}

const combineRows = 16

func (c *headCombine) do(_, item int) {
	h := c.h
	for r := item * combineRows; r < min((item+1)*combineRows, h.rows); r++ {
		best := h.parts[r]
		for t := 1; t < c.tiles; t++ {
			if p := h.parts[t*h.rows+r]; p.max > best.max {
				best = p
			}
		}
		var sum, sumZ float64
		for t := range c.tiles {
			p := h.parts[t*h.rows+r]
			scale := math.Exp(float64(p.max) - float64(best.max))
			sum += scale * float64(p.sum)
			sumZ += scale * float64(p.sumZ)
		}
		lse := float64(best.max) + math.Log(sum)
		i := h.first + r
		row[float32](c.lse, i)[0] = float32(lse)
		row[float32](c.logp, i)[0] = float32(float64(h.targetZ[r]) - lse)
		if !c.entropy.Absent() {
			row[float32](c.entropy, i)[0] = float32(lse - sumZ/sum)
		}
		if !c.argmax.Absent() {
			row[int32](c.argmax, i)[0] = best.argmax
		}
	}
}

// headScatter is the job that adds the asked rows' gradients up to dx, in their order. Its items
// are blocks of dx's rows.
type headScatter struct {
	g     *gemmKernels
	dx    compute.Tensor
	grads []float32 // [n][C]
	next  []int32   // of an asked row, the next one of the same row of dx; −1: none
	head  []int32   // [T]: the first one
	sum   []float32 // a thread's row
}

func (s *headScatter) do(thread, item int) {
	cols := s.dx.Cols
	for t := item * combineRows; t < min((item+1)*combineRows, s.dx.Rows); t++ {
		sum := s.sum[thread*cols : (thread+1)*cols]
		i := s.head[t]
		switch {
		case i < 0:
			clear(sum)
		case s.next[i] < 0:
			sum = s.grads[int(i)*cols : (int(i)+1)*cols]
		default:
			copy(sum, s.grads[int(i)*cols:])
			for i = s.next[i]; i >= 0; i = s.next[i] {
				for c, v := range s.grads[int(i)*cols : (int(i)+1)*cols] {
					sum[c] += v
				}
			}
		}
		to := unsafe.Add(memoryOf(s.dx).base, (s.dx.Off+t*s.dx.Stride)*s.dx.DType.Size())
		s.g.convert(to, s.dx.DType, unsafe.Pointer(&sum[0]), compute.F32, cols)
	}
}

// headJobs are a Backend's.
type headJobs struct {
	tile    headJob
	combine headCombine
	scatter headScatter
}

// headScratch is the scratch of the head's operations, besides begin's.
func (b *Backend) headScratch(l compute.Limits) int64 {
	if l.Vocab == 0 || l.HeadRows == 0 {
		return 0
	}
	g, threads := &b.k.gemm, b.pool.threads
	rows, c := min(l.HeadRows, headRows), l.Width
	tiles := (l.Vocab + headColumns - 1) / headColumns
	need := scratchBytes(rows*c, 4) + g.aBytes(double, rows, c+1) + scratchBytes(threads*g.headTileFloats(), 4)
	forward := scratchBytes(rows*tiles, 16) + scratchBytes(rows, 4)
	backward := int64(0)
	if l.Train {
		backward = scratchBytes(l.HeadRows*c, 4) + scratchBytes(rows*(headSpan+8), 4) +
			g.aBytes(double, rows, headSpan) + g.aBytes(double, headSpan, rows+1) +
			scratchBytes(g.panelsOf(c)*g.panelBytes(single, rows)/4, 4) +
			scratchBytes(headSpan*c, 4) + scratchBytes(g.panelsOf(c)*g.panelBytes(single, headSpan)/4, 4) + // unpacked
			scratchBytes(l.Tokens, 4) + scratchBytes(l.HeadRows, 4) + scratchBytes(threads*c, 4)
	}
	return need + max(forward, backward)
}

// headBegin checks what lies inside the index tensors, and begins.
func (b *Backend) headBegin(x, rows, target compute.Tensor, w compute.Weight) *weight {
	p := b.weightOf(w)
	checkIndex("rows of the head", rows, x.Rows)
	checkIndex("target of the head", target, p.out)
	b.begin()
	return p
}

// headTiles prepares the tile job for rows [first, first+n) of those asked for. It gathers and
// packs them, and returns where they lie gathered.
func (b *Backend) headTiles(p *weight, x, rows, target compute.Tensor, first, n int) matrix {
	g, h := &b.k.gemm, &b.head.tile
	*h = headJob{g: g, mul: &b.gemm.mul, vocab: p.out, rows: n, first: first, target: target}
	size := x.DType.Size()
	line := p.in * size
	gathered := unsafe.Pointer(unsafe.SliceData(take[float32](&b.scratch, (n*line+3)/4)))
	for i := range n {
		from := unsafe.Add(memoryOf(x).base, (x.Off+int(row[int32](rows, first+i)[0])*x.Stride)*size)
		copy(unsafe.Slice((*byte)(unsafe.Add(gathered, i*line)), line), unsafe.Slice((*byte)(from), line))
	}
	h.z = take[float32](&b.scratch, b.pool.threads*g.headTileFloats())
	return matrix{p: gathered, stride: p.in, dt: x.DType, along: true}
}

// HeadLogProb computes log-probabilities of targets; see compute.Backend.
func (b *Backend) HeadLogProb(logp, lse, entropy, argmax, x, rows, target compute.Tensor, w compute.Weight) {
	compute.CheckHeadLogProb(logp, lse, entropy, argmax, x, rows, target, w)
	b.own(logp, lse, entropy, argmax, x, rows, target)
	p := b.headBegin(x, rows, target, w)
	g, n := &b.k.gemm, rows.Rows
	mark := b.scratch.used
	fa, fb, block, kernels := g.formsOf(p.dt, p.dt)
	for first := 0; first < n; first += headRows {
		b.scratch.used = mark
		count := min(headRows, n-first)
		m := b.headTiles(p, x, rows, target, first, count)
		packed := b.packedA(m, fa, 0, count, count, p.in)
		b.runPacking()
		h := &b.head.tile
		tiles := (p.out + headColumns - 1) / headColumns
		parts := take[uint64](&b.scratch, 2*count*tiles)
		h.parts = unsafe.Slice((*headPart)(unsafe.Pointer(unsafe.SliceData(parts))), count*tiles)
		h.targetZ = take[float32](&b.scratch, count)
		h.argmax = !argmax.Absent()
		b.logits(p.out, term{
			a: packed, aPanel: g.aPanel(fa, p.in), aGroup: fa.dwords() * 4,
			b: p.forward.base, bPanel: p.forwardPanel(), groups: fb.groups(p.in), block: evenBlock(fb.groups(p.in), block), kernels: kernels,
		})
		c := &b.head.combine
		*c = headCombine{h: h, tiles: tiles, logp: logp, lse: lse, entropy: entropy, argmax: argmax}
		b.pool.run((count+combineRows-1)/combineRows, c)
	}
}

// logits runs the tile job over cols columns.
func (b *Backend) logits(cols int, t term) {
	x, g := &b.gemm.mul, &b.k.gemm
	x.alpha, x.acc = 1, false
	x.outs = append(x.outs[:0], output{cols: cols})
	x.terms = x.terms[:0]
	b.term(t)
	b.pool.run(x.cut(g, b.head.tile.rows, headColumns/g.nr), &b.head.tile)
	x.outs, x.terms = x.outs[:0], x.terms[:0]
}

// HeadLogProbBackward computes the gradients of HeadLogProb; see compute.Backend.
func (b *Backend) HeadLogProbBackward(dx, dw, coef, lse, x, rows, target compute.Tensor, w compute.Weight) {
	compute.CheckHeadLogProbBackward(dx, dw, coef, lse, x, rows, target, w)
	b.own(dx, dw, coef, lse, x, rows, target)
	p := b.headBegin(x, rows, target, w)
	n := rows.Rows
	grads := take[float32](&b.scratch, n*p.in)
	clear(grads)
	mark := b.scratch.used
	for first := 0; first < n; first += headRows {
		b.scratch.used = mark
		b.headGradients(p, dw, coef, lse, x, rows, target, first, min(headRows, n-first), grads)
	}
	b.scratch.used = mark
	b.headScatter(dx, rows, grads)
}

// headGradients does rows [first, first+n) of those asked for: span by span of the vocabulary, the
// logits and their gradients, then what these add to grads and to dw.
func (b *Backend) headGradients(p *weight, dw, coef, lse, x, rows, target compute.Tensor, first, n int, grads []float32) {
	g, h := &b.k.gemm, &b.head.tile
	m := b.headTiles(p, x, rows, target, first, n)
	fa, fb, block, kernels := g.formsOf(p.dt, p.dt)
	packed := b.packedA(m, fa, 0, n, n, p.in)
	var packedX unsafe.Pointer
	if !dw.Absent() {
		across := m
		across.along = false
		packedX = b.packedB(across, fb, 0, p.in, p.in, n)
	}
	b.runPacking()
	h.lse, h.coef = lse, coef
	h.gradStride = headSpan + 8
	h.grad = take[float32](&b.scratch, n*h.gradStride)
	mark := b.scratch.used
	ga, gb, gblock, gkernels := g.formsOf(compute.F32, p.dt)
	for from := 0; from < p.out; from += headSpan {
		span := min(headSpan, p.out-from)
		h.from = from
		b.logits(span, term{
			a: packed, aPanel: g.aPanel(fa, p.in), aGroup: fa.dwords() * 4,
			b: unsafe.Add(p.forward.base, from/g.nr*p.forwardPanel()), bPanel: p.forwardPanel(),
			groups: fb.groups(p.in), block: evenBlock(fb.groups(p.in), block), kernels: kernels,
		})
		b.scratch.used = mark
		dz := matrix{p: unsafe.Pointer(&h.grad[0]), stride: h.gradStride, dt: compute.F32, along: true}
		rowsA := b.packedA(dz, ga, 0, n, n, span)
		var columnsA unsafe.Pointer
		if !dw.Absent() {
			dz.along = false
			columnsA = b.packedA(dz, ga, 0, span, span, n)
		}
		back, backPanel := unsafe.Pointer(nil), 0
		if p.backward != nil {
			back, backPanel = unsafe.Add(p.backward.base, gb.groups(from)*g.nr*4), p.backwardPanel()
		} else {
			back, backPanel = b.packedB(b.unpacked(p, from, span), gb, 0, p.in, p.in, span), g.panelBytes(gb, span)
		}
		b.runPacking()
		b.outputAt(unsafe.Pointer(&grads[first*p.in]), p.in, p.in)
		b.term(term{
			a: rowsA, aPanel: g.aPanel(ga, span), aGroup: ga.dwords() * 4,
			b: back, bPanel: backPanel, groups: gb.groups(span), block: gblock, kernels: gkernels,
		})
		b.multiply(n, 1, true)
		if !dw.Absent() {
			b.output(dw, from)
			b.term(term{
				a: columnsA, aPanel: g.aPanel(ga, n), aGroup: ga.dwords() * 4,
				b: packedX, bPanel: g.panelBytes(fb, n), groups: gb.groups(n), block: gblock, kernels: gkernels,
			})
			b.multiply(span, 1, true)
		}
	}
}

// unpacked copies rows [from, from+n) of a weight that has no backward panels to scratch.
func (b *Backend) unpacked(w *weight, from, n int) matrix {
	size := w.dt.Size()
	rows := unsafe.Pointer(unsafe.SliceData(take[float32](&b.scratch, (n*w.in*size+3)/4)))
	for r := range n {
		for c := range w.in {
			to, cell := unsafe.Add(rows, (r*w.in+c)*size), w.cell(false, from+r, c)
			if size == 2 {
				*(*uint16)(to) = *(*uint16)(cell)
			} else {
				*(*uint32)(to) = *(*uint32)(cell)
			}
		}
	}
	return matrix{p: rows, stride: w.in, dt: w.dt}
}

// outputAt lists F32 rows in scratch as a result.
func (b *Backend) outputAt(y unsafe.Pointer, stride, cols int) {
	x := &b.gemm.mul
	x.outs = append(x.outs, output{y: y, stride: stride * 4, dt: compute.F32, cols: cols, from: len(x.terms)})
}

// headScatter adds grads up to dx.
func (b *Backend) headScatter(dx, rows compute.Tensor, grads []float32) {
	s, n := &b.head.scatter, rows.Rows
	*s = headScatter{
		g: &b.k.gemm, dx: dx, grads: grads,
		head: take[int32](&b.scratch, dx.Rows), next: take[int32](&b.scratch, n),
		sum: take[float32](&b.scratch, b.pool.threads*dx.Cols),
	}
	for t := range s.head {
		s.head[t] = -1
	}
	for i := n - 1; i >= 0; i-- { // lists in the order of i
		t := row[int32](rows, i)[0]
		s.next[i], s.head[t] = s.head[t], int32(i)
	}
	b.pool.run((dx.Rows+combineRows-1)/combineRows, s)
}

//go:build cuda

package cuda

import "github.com/seed-8780d58e/spin/compute"

// withinHead panics where the head is asked for more than was reserved.
func (b *Backend) withinHead(op string, n int, m *weight) {
	b.within(op, "rows", n, b.limits.HeadRows)
	b.within(op, "columns", m.in, b.limits.Width)
	b.within(op, "vocabulary", m.out, b.limits.Vocab)
}

// headLogits makes the logits of the rows of x that are asked for, and returns these rows as well.
func (b *Backend) headLogits(x, asked compute.Tensor, m *weight) (z, picked compute.Tensor) {
	z = b.scratch.tensor(compute.F32, b.scratch.logits, asked.Rows, m.out)
	picked = b.scratch.tensor(x.DType, b.scratch.x, asked.Rows, m.in)
	b.Gather(picked, x, asked)
	b.product(z, b.rowsOf(picked), matrix{uint64(m.mem.ptr), m.in, 1, m.dt}, m.in, 1, false)
	return z, picked
}

// HeadLogProb takes log-probabilities by chunks of rows; see compute.Backend.
func (b *Backend) HeadLogProb(logp, lse, entropy, argmax, x, asked, target compute.Tensor, w compute.Weight) {
	compute.CheckHeadLogProb(logp, lse, entropy, argmax, x, asked, target, w)
	m := b.weight(w)
	b.withinHead("HeadLogProb", asked.Rows, m)
	for from := 0; from < asked.Rows; from += headRows {
		to := min(from+headRows, asked.Rows)
		z, _ := b.headLogits(x, asked.Slice(from, to), m)
		b.launch(b.k.headLogProb, rows(to-from), b.address(logp.Slice(from, to)), stride(logp), b.address(lse.Slice(from, to)), stride(lse),
			b.address(entropy.Slice(from, to)), stride(entropy), b.address(argmax.Slice(from, to)), stride(argmax),
			b.address(z), b.address(target.Slice(from, to)), stride(target), integer(m.out))
	}
}

// HeadLogProbBackward is HeadLogProb's backward operation, from logits made again; see compute.Backend.
func (b *Backend) HeadLogProbBackward(dx, dw, coef, lse, x, asked, target compute.Tensor, w compute.Weight) {
	compute.CheckHeadLogProbBackward(dx, dw, coef, lse, x, asked, target, w)
	m := b.weight(w)
	b.withinTrain("HeadLogProbBackward")
	b.withinHead("HeadLogProbBackward", asked.Rows, m)
	parts := b.scratch.tensor(compute.F32, b.scratch.dx, asked.Rows, m.in)
	for from := 0; from < asked.Rows; from += headRows {
		to := min(from+headRows, asked.Rows)
		z, picked := b.headLogits(x, asked.Slice(from, to), m)
		b.launch(b.k.headDZ, rows(to-from), b.address(z), b.address(coef.Slice(from, to)), stride(coef), b.address(lse.Slice(from, to)), stride(lse),
			b.address(target.Slice(from, to)), stride(target), integer(m.out))
		b.product(parts.Slice(from, to), b.rowsOf(z), matrix{uint64(m.mem.ptr), 1, m.in, m.dt}, m.out, 1, false)
		if !dw.Absent() {
			b.product(dw, b.columnsOf(z), b.columnsOf(picked), to-from, 1, true)
		}
	}
	b.launch(b.k.headDX.of(dx.DType), rows(dx.Rows), b.address(dx), stride(dx), b.address(parts), b.address(asked), stride(asked), integer(asked.Rows), integer(m.in))
}

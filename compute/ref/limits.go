package ref

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute"
)

// Reserve needs no scratch; it remembers what may be asked.
func (b *backend) Reserve(l compute.Limits) int64 {
	b.limits = b.limits.Max(l)
	return 0
}

// within panics where an operation is asked for more than was reserved.
func within(op, what string, n, limit int) {
	if n > limit {
		panic(fmt.Sprintf("compute: %s: %d %s, reserved %d", op, n, what, limit))
	}
}

func (b *backend) withinTrain(op string) {
	if !b.limits.Train {
		panic("compute: " + op + ": not reserved for training")
	}
}

func (b *backend) withinLinear(op string, rows, in, out int) {
	within(op, "tokens", rows, max(b.limits.Tokens, b.limits.HeadRows))
	within(op, "columns", max(in, out), max(b.limits.Width, b.limits.Vocab))
}

func (b *backend) withinAttention(op string, p *plan, h compute.Heads) {
	within(op, "tokens", len(p.seen), b.limits.Tokens)
	within(op, "segments", p.segments, b.limits.Segments)
	within(op, "positions", p.context, b.limits.Context)
	within(op, "query heads", h.Q, b.limits.Heads.Q)
	within(op, "key heads", h.KV, b.limits.Heads.KV)
	within(op, "columns a head", h.Dim, b.limits.Heads.Dim)
}

func (b *backend) withinHead(op string, n, width, vocab int) {
	within(op, "rows", n, b.limits.HeadRows)
	within(op, "columns", width, b.limits.Width)
	within(op, "vocabulary", vocab, b.limits.Vocab)
}

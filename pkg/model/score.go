package model

import (
	"fmt"
	"slices"
)

// Scored is one answer's statistics under the model.
type Scored struct {
	Logps   []float32 // log p of each token, in nats
	Entropy float64   // mean entropy of the distributions that predicted them, in nats per token
	Greedy  bool      // each token is the most probable one: what decoding at temperature 0 gives
}

// Score runs trees forward, as many at a time as the pass holds, and calls yield for each answer in
// order. Its Logps are valid until yield returns. The bits are those of training: how trees are
// cut into batches does not change them.
func (p *Pass) Score(trees []Tree, yield func(tree, answer int, s Scored)) error {
	var b Batch
	next := 0
	for next < len(trees) {
		from, tokens, targets, segments := next, 0, 0, 1
		for ; next < len(trees); next++ {
			t := trees[next]
			if next > from && (tokens+t.Tokens() > p.cfg.Tokens || targets+t.Targets() > p.cfg.Targets || segments+1+len(t.Answers) > p.cfg.Segments) {
				break
			}
			tokens, targets, segments = tokens+t.Tokens(), targets+t.Targets(), segments+1+len(t.Answers)
		}
		if err := b.Pack(trees[from:next]); err != nil {
			return fmt.Errorf("trees from %d: %w", from, err)
		}
		logps, err := p.LogProbs(&b)
		if err != nil {
			return fmt.Errorf("trees from %d: %w", from, err)
		}
		i := 0
		for t := from; t < next; t++ {
			for a := range trees[t].Answers {
				span := b.Answers[i]
				yield(t, a, p.scored(&b, logps, span))
				i++
			}
		}
	}
	return nil
}

// scored is the statistics of one answer. Logps are exact: F32 is what the device computed.
func (p *Pass) scored(b *Batch, logps []float64, span Span) Scored {
	h := p.hostF32[span.From:span.To]
	sum := 0.0
	greedy := slices.Equal(p.Argmax()[span.From:span.To], b.Targets[span.From:span.To])
	for i := range h {
		h[i] = float32(logps[span.From+i])
		sum += p.entropies[span.From+i]
	}
	return Scored{Logps: h, Entropy: sum / float64(len(h)), Greedy: greedy}
}

// Scored is Score's statistics of one answer of the last LogProbs' batch.
func (p *Pass) Scored(b *Batch, answer int) Scored {
	return p.scored(b, p.logps[:p.targets], b.Answers[answer])
}

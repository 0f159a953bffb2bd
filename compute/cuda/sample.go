//go:build cuda

package cuda

import "github.com/seed-8780d58e/spin/compute"

// Sample draws a token a row; see compute.Backend and compute.Sampling.
func (b *Backend) Sample(ids, logp, logits compute.Tensor, s *compute.Sampling) {
	compute.CheckSample(ids, logp, logits, s)
	b.within("Sample", "vocabulary", logits.Cols, min(b.limits.Vocab, sampleVocab))
	b.launch(b.k.sample, rows(logits.Rows), b.address(ids), stride(ids), b.address(logp), stride(logp), b.address(logits), stride(logits),
		b.address(s.Key), stride(s.Key), b.address(s.Counter), stride(s.Counter), b.address(s.Temperature), stride(s.Temperature),
		b.address(s.TopP), stride(s.TopP), b.address(s.TopK), stride(s.TopK), integer(logits.Cols))
}

// sampleVocab keeps the kernel's sums of 2⁻⁴⁰ below 2⁶³.
const sampleVocab = 1 << 22

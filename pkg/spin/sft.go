package spin

import "fmt"

// SFT is supervised fine-tuning on the real responses alone: equation (3.1),
//
//	L_SFT(θ) = −E[ log p_θ(y|x) ]
//
// taken per token, as PyTorch, transformers and TRL do: the mean of −log p over all
// response tokens of a batch, so that a long answer weighs more than a short one. It
// makes the θ0 that SPIN starts from, and it is the control that SPIN has to beat.
// The zero value is empty; it collects one batch.
type SFT struct {
	tokens int
	sum    float64
}

// SFTCoefficient returns ∂L/∂(log-probability of a response token), the same for each
// of the n response tokens of a whole batch: −1/n.
func SFTCoefficient(n int) float64 {
	if n <= 0 {
		panic("spin: a batch needs a response token")
	}
	return -1 / float64(n)
}

// Add counts one response by its token log-probabilities. The error, if any, wraps
// ErrNotFinite, and nothing was counted.
func (s *SFT) Add(tokenLogps []float32) error {
	logp := LogP(tokenLogps)
	if !finite(logp) {
		return fmt.Errorf("%w: policy logp of the real response is %v", ErrNotFinite, logp)
	}
	s.tokens += len(tokenLogps)
	s.sum -= logp
	return nil
}

// Tokens returns how many response tokens were added.
func (s *SFT) Tokens() int { return s.tokens }

// Loss returns the mean negative log-likelihood, in nats per token; 0 while empty.
func (s *SFT) Loss() float64 {
	if s.tokens == 0 {
		return 0
	}
	return s.sum / float64(s.tokens)
}

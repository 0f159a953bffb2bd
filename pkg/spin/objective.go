package spin

import (
	"errors"
	"fmt"
	"math"
)

// ErrNotFinite is what Eval and SFT.Add wrap where a log-probability, a reward or a
// loss is NaN or infinite: the numbers upstream are broken, or the run has diverged.
var ErrNotFinite = errors.New("not a finite number")

// Pair is what the objective knows of one real and one generated response to the
// same prompt: each one's log-probability ([LogP]) under the policy and under the
// opponent. Natural logarithms throughout.
type Pair struct {
	PolicyReal, PolicyGenerated     float64 // log p_θ(y|x), log p_θ(y'|x)
	OpponentReal, OpponentGenerated float64 // log p_θt(y|x), log p_θt(y'|x)
}

// Objective is equation (4.7) for one iteration.
type Objective struct {
	Loss Loss
	// Beta is the paper's λ: 0.1 in its first iterations, 5 in its last. For the
	// logistic loss Theorem 5.4 gives p_θt+1 ∝ p_θt · (p_data/p_θt)^(1/β): a small
	// beta moves far.
	Beta float64
}

// Validate reports a setting that cannot be trained with.
func (o Objective) Validate() error {
	if int(o.Loss) >= len(names) {
		return fmt.Errorf("loss %d: unknown", uint8(o.Loss))
	}
	if !(o.Beta > 0) || math.IsInf(o.Beta, 0) {
		return fmt.Errorf("beta %v: want a positive number", o.Beta)
	}
	return nil
}

// Result is one pair under the objective.
type Result struct {
	Pair
	RewardReal, RewardGenerated float64 // β · (logp − opponent_logp)
	Margin                      float64 // RewardReal − RewardGenerated
	Loss                        float64 // ℓ(Margin)
	// Correct tells whether RewardReal > RewardGenerated. A tie counts as wrong, as in
	// the reference and in TRL: the accuracy of the first step of an iteration is 0.
	Correct bool

	slope float64 // β·ℓ'(Margin) = ∂Loss/∂PolicyReal = −∂Loss/∂PolicyGenerated
}

// Eval plays one pair. The error, if any, wraps ErrNotFinite and shows the numbers.
func (o Objective) Eval(p Pair) (Result, error) {
	r := Result{
		Pair: p,
		// the conversions keep arm64 from fusing a product with the subtraction below
		RewardReal:      float64(o.Beta * (p.PolicyReal - p.OpponentReal)),
		RewardGenerated: float64(o.Beta * (p.PolicyGenerated - p.OpponentGenerated)),
	}
	r.Margin = r.RewardReal - r.RewardGenerated
	r.Loss = o.Loss.Value(r.Margin)
	r.Correct = r.RewardReal > r.RewardGenerated
	r.slope = o.Beta * o.Loss.Derivative(r.Margin)
	if !finite(p.PolicyReal, p.PolicyGenerated, p.OpponentReal, p.OpponentGenerated, r.Margin, r.Loss, r.slope) {
		return Result{}, fmt.Errorf("%w: %s loss %v at margin %v, from logps: policy real %v, generated %v; opponent real %v, generated %v",
			ErrNotFinite, o.Loss, r.Loss, r.Margin, p.PolicyReal, p.PolicyGenerated, p.OpponentReal, p.OpponentGenerated)
	}
	return r, nil
}

// Coefficients returns ∂L/∂(policy logp of the real response) and
// ∂L/∂(policy logp of the generated response), where L is the mean loss over a batch
// of n pairs. Since logp is a sum over tokens, they are also the derivatives with
// respect to each token's log-probability. They cancel: the objective only compares.
//
// A game with several draws has one real response in several pairs; its coefficient
// is the sum of theirs. n is the size of the whole batch, not of the micro-batch, so
// accumulated gradients need no rescaling.
func (r Result) Coefficients(n int) (real, generated float64) {
	if n <= 0 {
		panic("spin: a batch needs a pair")
	}
	c := r.slope / float64(n)
	return c, -c
}

func finite(values ...float64) bool {
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

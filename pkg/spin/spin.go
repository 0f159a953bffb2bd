// Package spin is the objective of self-play fine-tuning (SPIN, Chen et al.,
// "Self-Play Fine-Tuning Converts Weak Language Models to Strong Language Models",
// arXiv 2401.01335), in float64 and the standard library alone. It knows no
// tensors, text or services: log-probabilities come in, a loss and its derivatives
// go out. Equation and theorem numbers below are the paper's.
//
// One iteration t plays a two-player game. The opponent p_θt answers each prompt x
// with y' ~ p_θt(·|x); the policy p_θ, which starts at θt, learns to tell the real
// answer y ~ p_data(·|x) from y'. The policy's test function is taken from the
// class that makes the opponent's best reply the policy itself (4.4, 4.5),
//
//	f(x, y) = β · log( p_θ(y|x) / p_θt(y|x) )
//
// so that one minimisation does both players' moves (4.7):
//
//	L(θ, θt) = E[ ℓ( f(x, y) − f(x, y') ) ],   θt+1 = argmin L(θ, θt)
//
// with ℓ convex and decreasing; see [Loss]. β is the paper's λ. The code calls
// f(x, y) the reward of y, and the argument of ℓ the margin, as the reference
// implementation (uclaml/SPIN) does:
//
//	reward = beta × (logp − opponent_logp),   margin = reward_real − reward_generated
//
// where logp is the sum, not the mean, of the log-probabilities of a response's
// tokens, its end-of-turn token included where it was produced ([LogP]).
//
// A training step is, for each pair of a batch of n:
//
//	r, err := objective.Eval(spin.Pair{…})   // rewards, margin, loss
//	real, generated := r.Coefficients(n)     // ∂(mean loss)/∂logp: what the backward pass starts from
//	metrics.Add(r)                           // the batch's means, under the reference's names
//
// The first step of each iteration has θ = θt, so every margin is exactly 0 and the
// loss exactly ℓ(0): ln 2 for logistic, 1 for the others. Whatever else it is, it
// tells that the policy and the opponent were not scored alike.
package spin

// LogP returns log p(y|x): the sum of a response's token log-probabilities, in
// token order and in float64. Whoever sums a response, for the policy or for the
// opponent, sums it here: the same tokens then give the same bits.
func LogP(tokenLogps []float32) float64 {
	sum := 0.0
	for _, v := range tokenLogps {
		sum += float64(v)
	}
	return sum
}

// PerIteration is a setting that may change from one iteration to the next: entry t
// is for iteration t, and the last entry holds for all that follow. The paper
// raises beta, lowers the learning rate and changes nothing else between iterations.
type PerIteration[T any] []T

// At returns the setting of iteration t ≥ 0. It panics if the list is empty.
func (p PerIteration[T]) At(t int) T {
	if len(p) == 0 {
		panic("spin: empty per-iteration list")
	}
	return p[min(t, len(p)-1)]
}

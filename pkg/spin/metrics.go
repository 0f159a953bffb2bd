package spin

import "iter"

// Metrics collects the means of a batch, of an epoch or of a held-out set. The zero
// value is empty. Means are plain sums in the order of Add: add pairs in training
// order, and equal batches give equal bits.
type Metrics struct {
	pairs, correct                            int
	loss, rewardReal, rewardGenerated, margin float64
	policyReal, policyGenerated               float64
	opponentReal, opponentGenerated           float64
}

// Add counts one pair.
func (m *Metrics) Add(r Result) {
	m.pairs++
	if r.Correct {
		m.correct++
	}
	m.loss += r.Loss
	m.rewardReal += r.RewardReal
	m.rewardGenerated += r.RewardGenerated
	m.margin += r.Margin
	m.policyReal += r.PolicyReal
	m.policyGenerated += r.PolicyGenerated
	m.opponentReal += r.OpponentReal
	m.opponentGenerated += r.OpponentGenerated
}

// Pairs returns how many pairs were added.
func (m *Metrics) Pairs() int { return m.pairs }

// Correct returns how many of them were told apart: see Result.Correct.
func (m *Metrics) Correct() int { return m.correct }

// Loss returns the mean loss. Like all means here it is 0 while there are no pairs.
func (m *Metrics) Loss() float64 { return m.mean(m.loss) }

// Margin returns the mean of reward_real − reward_generated.
func (m *Metrics) Margin() float64 { return m.mean(m.margin) }

// Accuracy returns the share of pairs with reward_real > reward_generated.
func (m *Metrics) Accuracy() float64 { return m.mean(float64(m.correct)) }

// RewardReal returns the mean reward of the real responses.
func (m *Metrics) RewardReal() float64 { return m.mean(m.rewardReal) }

// RewardGenerated returns the mean reward of the generated responses.
func (m *Metrics) RewardGenerated() float64 { return m.mean(m.rewardGenerated) }

// LogPReal returns the mean policy logp of the real responses.
func (m *Metrics) LogPReal() float64 { return m.mean(m.policyReal) }

// LogPGenerated returns the mean policy logp of the generated responses.
func (m *Metrics) LogPGenerated() float64 { return m.mean(m.policyGenerated) }

// OpponentLogPReal returns the mean opponent logp of the real responses.
func (m *Metrics) OpponentLogPReal() float64 { return m.mean(m.opponentReal) }

// OpponentLogPGenerated returns the mean opponent logp of the generated responses.
func (m *Metrics) OpponentLogPGenerated() float64 { return m.mean(m.opponentGenerated) }

// All yields the means under the names that uclaml/SPIN logs them by, in its order.
// It prints the opponent's logps but does not name them; those names are ours.
func (m *Metrics) All() iter.Seq2[string, float64] {
	return func(yield func(string, float64) bool) {
		_ = yield("loss", m.Loss()) &&
			yield("rewards/real", m.RewardReal()) &&
			yield("rewards/generated", m.RewardGenerated()) &&
			yield("rewards/accuracies", m.Accuracy()) &&
			yield("rewards/margins", m.Margin()) &&
			yield("logps/generated", m.LogPGenerated()) &&
			yield("logps/real", m.LogPReal()) &&
			yield("opponent_logps/generated", m.OpponentLogPGenerated()) &&
			yield("opponent_logps/real", m.OpponentLogPReal())
	}
}

func (m *Metrics) mean(sum float64) float64 {
	if m.pairs == 0 {
		return 0
	}
	return sum / float64(m.pairs)
}

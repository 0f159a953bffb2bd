package run

// PairsPerGame is how many (real, draw) pairs a game of iteration t has when nothing is missing: draws, and as many kept ones where mixed.
func (s Spec) PairsPerGame(t int) int {
	if s.Mixes(t) {
		return 2 * s.Draws
	}
	return s.Draws
}

// Mixes reports whether iteration t trains on the draws of t−1 too.
func (s Spec) Mixes(t int) bool { return t > 0 && s.SPIN.MixPrevious.At(t) }

// GamesPerStep is the global batch in games; a game is the unit of shuffling.
func (s Spec) GamesPerStep(t int) int { return s.SPIN.Batch / s.PairsPerGame(t) }

// ChunkSize is how many games one task has at most: a quarter of a global batch, so that the trainer does not wait for one generator.
func (s Spec) ChunkSize(t int) int { return max(1, s.GamesPerStep(t)/4) }

// StepsPerEpoch of iteration t; the last batch may be short.
func (s Spec) StepsPerEpoch(t int) int {
	size := s.GamesPerStep(t)
	return (s.Data.Prompts + size - 1) / size
}

// Steps of iteration t.
func (s Spec) Steps(t int) int { return s.StepsPerEpoch(t) * s.SPIN.Epochs.At(t) }

// HorizonSteps is what the learning-rate schedule of iteration t is made for.
func (s Spec) HorizonSteps(t int) int {
	if h := s.SPIN.Horizon.At(t); h > 0 {
		return s.StepsPerEpoch(t) * h
	}
	return s.Steps(t)
}

// SFTSteps is how many steps make θ_0.
func (s Spec) SFTSteps() int {
	return (s.Data.Prompts + s.SFT.Batch - 1) / s.SFT.Batch * s.SFT.Epochs
}

// Expected is what an iteration must come to.
type Expected struct {
	Games   int // messages: played games, held-out ones included
	Samples int // rows: draws of this iteration, held-out ones included
	Pairs   int // trained on in one epoch
}

// Expected counts iteration t with its holes: now, training and held-out games skipped in this iteration; before, training games skipped in t−1 and not
// now, which have no kept draws.
//
//	pairs(t) = prompts × draws × (1 + mixed) − holes
func (s Spec) Expected(t int, now, heldoutNow, before int) Expected {
	train := s.Data.Prompts - now
	games := train + s.Data.Heldout - heldoutNow
	e := Expected{Games: games, Samples: games * s.Draws, Pairs: train * s.PairsPerGame(t)}
	if s.Mixes(t) {
		e.Pairs -= before * s.Draws
	}
	return e
}

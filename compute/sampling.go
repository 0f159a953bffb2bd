package compute

// Sampling is how Sample draws, a row each. The draw of a row depends on its logits and on the
// fields of that row alone.
//
// With z the row's logits: Temperature 0 takes the largest z (lowest id of a tie). Otherwise z is
// divided by Temperature; TopK > 0 keeps the ids whose z is at least the TopK-th largest (ties
// stay); TopP < 1 then keeps the most probable ids until their probabilities, renormalised after
// TopK, add up to TopP or more (ties with the last one kept stay). The draw is the first id, in id
// order, at which the cumulative probability of the kept ids exceeds u.
//
// u = ((w0·2³² + w1) >> 12 + ½)·2⁻⁵² of Philox(Counter, Key): so it depends on (seed, iteration,
// prompt, draw, position) and on nothing else.
type Sampling struct {
	Key         Tensor // I32 [n, 2]: the run's seed, low and high half
	Counter     Tensor // I32 [n, 4]: iteration, prompt, draw, position
	Temperature Tensor // F32 [n, 1], ≥ 0
	TopP        Tensor // F32 [n, 1], in (0, 1]; 1: off
	TopK        Tensor // I32 [n, 1]; 0: off
}

// Philox is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
func Philox(counter [4]uint32, key [2]uint32) [4]uint32 {
	const m0, m1, w0, w1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85
	for range 10 {
		p0, p1 := uint64(counter[0])*m0, uint64(counter[2])*m1
		counter = [4]uint32{
			uint32(p1>>32) ^ counter[1] ^ key[0], uint32(p1),
			uint32(p0>>32) ^ counter[3] ^ key[1], uint32(p0),
		}
		key[0] += w0
		key[1] += w1
	}
	return counter
}

// Uniform is the u of Sampling, in (0, 1).
func Uniform(counter [4]uint32, key [2]uint32) float64 {
	w := Philox(counter, key)
	return (float64((uint64(w[0])<<32|uint64(w[1]))>>12) + 0.5) * 0x1p-52
}

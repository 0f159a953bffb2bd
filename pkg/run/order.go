package run

import (
	"encoding/binary"
	"math/bits"
)

// Order is the order in which an epoch uses n games: a permutation of 0…n−1 that depends on the arguments and on nothing else, in every version of
// Go. epoch counts from 1.
//
// It is Fisher and Yates's shuffle (Knuth, TAOCP 2, 3.4.2, algorithm P) on SplitMix64, with Lemire's unbiased bounded numbers (arXiv 1805.10941).
func Order(seed uint64, stage Stage, iteration, epoch, n int) []int {
	r := newStream(seed, stage, iteration, epoch)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := int(r.below(uint64(i) + 1))
		order[i], order[j] = order[j], order[i]
	}
	return order
}

// splitMix64 is the generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
type splitMix64 uint64

func (s *splitMix64) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	return mix64(uint64(*s))
}

func mix64(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number in [0, n), each with the same probability.
func (s *splitMix64) below(n uint64) uint64 {
	high, low := bits.Mul64(s.next(), n)
	if low < n {
		for threshold := -n % n; low < threshold; {
			high, low = bits.Mul64(s.next(), n)
		}
	}
	return high
}

// newStream seeds a generator by everything that names the epoch; the state is mixed after each word, so that no two names meet by arithmetic.
func newStream(seed uint64, stage Stage, iteration, epoch int) *splitMix64 {
	var name [8]byte
	copy(name[:], stage)
	s := splitMix64(seed)
	for _, word := range []uint64{binary.LittleEndian.Uint64(name[:]), uint64(iteration), uint64(epoch)} {
		s = splitMix64(s.next() ^ word)
	}
	return &s
}

// Batches cuts an order into steps of size games. Holes are left out in place, so that no other batch moves; a batch of holes only is empty.
func Batches(order []int, size int, hole func(game int) bool) [][]int {
	var batches [][]int
	for start := 0; start < len(order); start += size {
		batch := []int{}
		for _, game := range order[start:min(start+size, len(order))] {
			if hole == nil || !hole(game) {
				batch = append(batch, game)
			}
		}
		batches = append(batches, batch)
	}
	return batches
}

// PlannedChunk is one task before it is filled with prompts.
type PlannedChunk struct {
	Number  int
	Games   []int // positions among the training games, or among the held-out ones
	Heldout bool
}

// PlanChunks cuts the games of an iteration into tasks: the training games in the order in which epoch 1 uses them, size in one task, then the
// held-out games.
func PlanChunks(order []int, heldout, size int) []PlannedChunk {
	var chunks []PlannedChunk
	cut := func(games []int, held bool) {
		for start := 0; start < len(games); start += size {
			chunks = append(chunks, PlannedChunk{Number: len(chunks), Games: games[start:min(start+size, len(games))], Heldout: held})
		}
	}
	cut(order, false)
	rest := make([]int, heldout)
	for i := range rest {
		rest[i] = i
	}
	cut(rest, true)
	return chunks
}

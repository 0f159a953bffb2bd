package evaluate

import (
	"slices"
	"strings"

	"github.com/seed-8780d58e/spin/pkg/event"
)

// answers are measures of what an opponent said, beside what people said to the same prompts. They
// need no model: the games hold everything.
//
//   - length, length_real: tokens; finished, finished_real: share that ends with the end of turn
//   - entropy: of the next-token distributions on its own answers, nats per token
//   - distinct_1, distinct_2: different n-grams of tokens over all of them (arXiv 1510.03055)
//   - repetition: share of an answer's 4-grams that the answer has had before
//   - near_copy: share of draws whose tokens overlap with the human answer by 0.9 or more (Jaccard,
//     of 3-grams), or that are the human answer: those pairs carry no signal
func answers(games []*event.Game) []figure {
	var length, lengthReal, finished, finishedReal, entropy, entropyTokens, repetition, copies sample
	grams := [2]map[string]int{{}, {}}
	for _, g := range games {
		real := g.GetReal()
		lengthReal = append(lengthReal, float64(len(real.GetTokenIds())))
		finishedReal = append(finishedReal, share(real.GetFinishReason() == event.FinishReason_FINISH_REASON_STOP))
		for _, d := range g.GetDraws() {
			r := d.GetResponse()
			n := float64(len(r.GetTokenIds()))
			length = append(length, n)
			finished = append(finished, share(r.GetFinishReason() == event.FinishReason_FINISH_REASON_STOP))
			entropy, entropyTokens = append(entropy, float64(r.GetEntropy())*n), append(entropyTokens, n)
			repetition = append(repetition, repeated(ngrams(r.GetTokenIds(), 4)))
			copies = append(copies, share(slices.Equal(real.GetTokenIds(), r.GetTokenIds()) || overlap(ngrams(real.GetTokenIds(), 3), ngrams(r.GetTokenIds(), 3)) >= 0.9))
			for n := range grams {
				for _, x := range ngrams(r.GetTokenIds(), n+1) {
					grams[n][x]++
				}
			}
		}
	}
	return []figure{
		length.mean("length"), lengthReal.mean("length_real"), finished.mean("finished"), finishedReal.mean("finished_real"),
		perToken("entropy", entropy, entropyTokens), distinct("distinct_1", grams[0], len(length)), distinct("distinct_2", grams[1], len(length)),
		repetition.mean("repetition"), copies.mean("near_copy"),
	}
}

// distinct is the number of different n-grams over the number of n-grams.
func distinct(metric string, grams map[string]int, n int) figure {
	total := 0
	for _, c := range grams {
		total += c
	}
	f := figure{metric: metric, n: n}
	if total > 0 {
		f.value = float64(len(grams)) / float64(total)
	}
	return f
}

// ngrams are the runs of n tokens, as map keys.
func ngrams(tokens []uint32, n int) []string {
	var out []string
	var b strings.Builder
	for i := 0; i+n <= len(tokens); i++ {
		b.Reset()
		for _, t := range tokens[i : i+n] {
			for shift := 0; shift < 32; shift += 8 {
				b.WriteByte(byte(t >> shift))
			}
		}
		out = append(out, b.String())
	}
	return out
}

// repeated is the share of grams that came before in the list.
func repeated(grams []string) float64 {
	if len(grams) == 0 {
		return 0
	}
	seen := map[string]bool{}
	again := 0
	for _, g := range grams {
		if seen[g] {
			again++
		}
		seen[g] = true
	}
	return float64(again) / float64(len(grams))
}

// overlap is the Jaccard index of two sets of grams; 0 where either is empty.
func overlap(a, b []string) float64 {
	in := map[string]int{}
	for _, g := range a {
		in[g] |= 1
	}
	for _, g := range b {
		in[g] |= 2
	}
	both := 0
	for _, v := range in {
		if v == 3 {
			both++
		}
	}
	if len(a) == 0 || len(b) == 0 {
		return 0
	}
	return float64(both) / float64(len(in))
}

package evaluate

import (
	"slices"
	"strings"

	"github.com/seed-8780d58e/spin/pkg/event"
)

// answers are measures of what an opponent said, beside what people said to the same prompts. They
// need no model: the games hold everything.
//
//   - length, length_real: tokens; length_gap: by how many tokens a draw is longer than the human answer
//   - finished, finished_real: share that ends with the end of turn; finished_gap: their difference
//   - entropy: of the next-token distributions on its own answers, nats per token
//   - distinct_1 to distinct_3: different n-grams of tokens over all of them (arXiv 1510.03055). They fall
//     as answers are added, so that they compare only where as many were drawn; no interval
//   - repetition: share of an answer's 4-grams that the answer has had before
//   - copy: share of draws that are the human answer; near_copy: those too whose tokens overlap with it by
//     0.9 or more (Jaccard, of 3-grams): such pairs carry no signal. The last to be published
func answers(games []*event.Game) []figure {
	var length, lengthReal, lengthGap, finished, finishedReal, finishedGap, entropy, repetition, exact, copies tally
	grams := [3]map[string]int{{}, {}, {}}
	for i, g := range games {
		real := g.GetReal()
		realLength, realFinished := float64(len(real.GetTokenIds())), share(real.GetFinishReason() == event.FinishReason_FINISH_REASON_STOP)
		lengthReal.add(i, realLength, 1)
		finishedReal.add(i, realFinished, 1)
		for _, d := range g.GetDraws() {
			r := d.GetResponse()
			n, ended := float64(len(r.GetTokenIds())), share(r.GetFinishReason() == event.FinishReason_FINISH_REASON_STOP)
			length.add(i, n, 1)
			lengthGap.add(i, n-realLength, 1)
			finished.add(i, ended, 1)
			finishedGap.add(i, ended-realFinished, 1)
			entropy.add(i, float64(r.GetEntropy())*n, n)
			repetition.add(i, repeated(ngrams(r.GetTokenIds(), 4)), 1)
			same := slices.Equal(real.GetTokenIds(), r.GetTokenIds())
			exact.add(i, share(same), 1)
			copies.add(i, share(same || overlap(ngrams(real.GetTokenIds(), 3), ngrams(r.GetTokenIds(), 3)) >= 0.9), 1)
			for n := range grams {
				for _, x := range ngrams(r.GetTokenIds(), n+1) {
					grams[n][x]++
				}
			}
		}
	}
	b, drawn := newBootstrap(len(games)), len(length.values)
	return []figure{
		length.figure("length", b), lengthReal.figure("length_real", b), lengthGap.figure("length_gap", b),
		finished.figure("finished", b), finishedReal.figure("finished_real", b), finishedGap.figure("finished_gap", b),
		entropy.figure("entropy", b), distinct("distinct_1", grams[0], drawn), distinct("distinct_2", grams[1], drawn), distinct("distinct_3", grams[2], drawn),
		repetition.figure("repetition", b), exact.figure("copy", b), copies.figure("near_copy", b),
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
		f.low, f.high = f.value, f.value
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

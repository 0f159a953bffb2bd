package model

import (
	"math"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

// TestForestIsChains: a packed forest gives each answer the logps that it has as a sequence of its
// own.
func TestForestIsChains(t *testing.T) {
	for name, c := range toys() {
		t.Run(name, func(t *testing.T) {
			m := refModel(t, c, Options{})
			p := m.NewPass(PassConfig{Tokens: 64})
			defer p.Free()
			b := pack(t, toyTrees())
			got := logps(t, p, b)
			i := 0
			for _, tree := range toyTrees() {
				for _, a := range tree.Answers {
					alone := logps(t, p, pack(t, []Tree{{Prompt: tree.Prompt, Answers: [][]int32{a}}}))
					span := b.Answers[i]
					for j, want := range alone {
						if diff := math.Abs(got[span.From+j] - want); !(diff <= 1e-12) {
							t.Errorf("answer %d token %d: logp %v packed, %v alone", i, j, got[span.From+j], want)
						}
					}
					i++
				}
			}
		})
	}
}

// TestDecoderIsPass: feeding a sequence through the paged cache, in chunks and then token by token,
// gives the logps of the packed pass.
func TestDecoderIsPass(t *testing.T) {
	for name, c := range toys() {
		t.Run(name, func(t *testing.T) {
			m := refModel(t, c, Options{})
			p := m.NewPass(PassConfig{Tokens: 64})
			defer p.Free()
			prompt, answer := []int32{1, 2, 3, 4, 5, 6, 7}, []int32{8, 9, 10, 11, 12}
			want := logps(t, p, pack(t, []Tree{{Prompt: prompt, Answers: [][]int32{answer}}}))
			d := m.NewDecoder(DecoderConfig{Rows: 8, Sequences: 2, Pages: 8, PageTokens: 4})
			defer d.Free()
			seq := append(append([]int32(nil), prompt...), answer...)
			pages := [][]int32{{5, 2, 7}}
			ids, lps := make([]int32, 1), make([]float64, 1)
			fed := 0
			for _, n := range []int{4, 3, 1, 1, 1, 1} {
				s := Step{IDs: seq[fed : fed+n], Rows: []int32{int32(n - 1)}, Draws: []Draw{{TopP: 1}}}
				s.Layout = compute.Layout{Start: []int32{0, int32(n)}, Past: []int32{int32(fed)}, Pages: pages}
				for i := range n {
					s.Pos = append(s.Pos, int32(fed+i))
				}
				must(t, d.Advance(&s, ids, lps))
				fed += n
				if fed < len(prompt) {
					continue
				}
				logits := make([]float64, c.Vocab)
				must(t, compute.Read(d.be, logits, d.last[0]))
				next := fed - len(prompt)
				lp := logits[answer[next]] - logSumExp(logits)
				if diff := math.Abs(lp - want[next]); !(diff <= 1e-12) {
					t.Errorf("token %d: logp %v decoded, %v packed", next, lp, want[next])
				}
				if diff := math.Abs(lps[0] - (logits[ids[0]] - logSumExp(logits))); !(diff <= 1e-12) {
					t.Errorf("token %d: logp of the draw is off by %v", next, diff)
				}
			}
		})
	}
}

func logSumExp(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(v)
	}
	return math.Log(sum)
}

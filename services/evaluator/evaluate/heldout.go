package evaluate

import (
	"math"

	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/spin"
)

// figure is one metric with its standard error over n examples.
type figure struct {
	metric string
	value  float64
	stderr float64
	n      int
}

// sample collects one number an example.
type sample []float64

// mean is the figure of the mean: the standard error is s/√n, 0 with fewer than two examples.
func (s sample) mean(metric string) figure {
	f := figure{metric: metric, n: len(s)}
	if len(s) == 0 {
		return f
	}
	for _, x := range s {
		f.value += x
	}
	f.value /= float64(len(s))
	if len(s) > 1 {
		square := 0.0
		for _, x := range s {
			square += (x - f.value) * (x - f.value)
		}
		f.stderr = math.Sqrt(square / float64(len(s)-1) / float64(len(s)))
	}
	return f
}

// perToken is the figure of Σ sums / Σ tokens over examples of different lengths: a ratio, whose
// standard error is that of its linearisation (Cochran, Sampling Techniques, 2.30).
func perToken(metric string, sums, tokens sample) figure {
	f := figure{metric: metric, n: len(sums)}
	s, t := 0.0, 0.0
	for i := range sums {
		s, t = s+sums[i], t+tokens[i]
	}
	if t == 0 {
		return f
	}
	f.value = s / t
	if n := float64(len(sums)); n > 1 {
		square := 0.0
		for i := range sums {
			d := sums[i] - f.value*tokens[i]
			square += d * d
		}
		f.stderr = math.Sqrt(square/(n-1)*n) / t
	}
	return f
}

// scored is a held-out game under the weights that are evaluated: token log-probabilities of the
// human answer and of each draw.
type scored struct {
	game  *event.Game
	real  []float32
	draws [][]float32
}

// scoreGames runs the held-out games through the packed pass.
func scoreGames(pass *model.Pass, games []*event.Game) ([]scored, error) {
	trees := make([]model.Tree, len(games))
	out := make([]scored, len(games))
	for i, g := range games {
		out[i].game = g
		trees[i].Prompt = event.DecodeIDs(g.GetPromptIds())
		trees[i].Answers = append(trees[i].Answers, event.DecodeIDs(g.GetReal().GetTokenIds()))
		for _, d := range g.GetDraws() {
			trees[i].Answers = append(trees[i].Answers, event.DecodeIDs(d.GetResponse().GetTokenIds()))
		}
	}
	err := pass.Score(trees, func(tree, answer int, s model.Scored) {
		logps := append([]float32(nil), s.Logps...)
		if answer == 0 {
			out[tree].real = logps
		} else {
			out[tree].draws = append(out[tree].draws, logps)
		}
	})
	return out, err
}

// heldout are the self-play measures of weights θ on games that an opponent θ_t played and nobody
// trained on.
//
//   - accuracy: share of pairs whose margin is above 0 (ties are wrong, as in training)
//   - accuracy_equal_length: the same with both answers cut to the shorter one's tokens, so that
//     length and the end of turn give nothing away
//   - margin, reward_real, reward_generated: in units of β
//   - nll: of the human answers, nats per token
func heldout(games []scored, beta float64) []figure {
	var accuracy, equal, margin, real, generated, nll, tokens sample
	for _, g := range games {
		nll = append(nll, -spin.LogP(g.real))
		tokens = append(tokens, float64(len(g.real)))
		opponentReal := g.game.GetReal().GetTokenLogps()
		for d, draw := range g.draws {
			opponentDraw := g.game.GetDraws()[d].GetResponse().GetTokenLogps()
			rr := beta * (spin.LogP(g.real) - spin.LogP(opponentReal))
			rg := beta * (spin.LogP(draw) - spin.LogP(opponentDraw))
			real, generated, margin = append(real, rr), append(generated, rg), append(margin, rr-rg)
			accuracy = append(accuracy, share(rr > rg))
			n := min(len(g.real), len(draw))
			rr = spin.LogP(g.real[:n]) - spin.LogP(opponentReal[:n])
			rg = spin.LogP(draw[:n]) - spin.LogP(opponentDraw[:n])
			equal = append(equal, share(rr > rg))
		}
	}
	return []figure{
		accuracy.mean("accuracy"), equal.mean("accuracy_equal_length"), margin.mean("margin"),
		real.mean("reward_real"), generated.mean("reward_generated"), perToken("nll", nll, tokens),
	}
}

func share(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

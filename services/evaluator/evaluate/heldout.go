package evaluate

import (
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/spin"
)

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

// played are games under the weights that played them, which said so at the time.
func played(games []*event.Game) []scored {
	out := make([]scored, len(games))
	for i, g := range games {
		out[i] = scored{game: g, real: g.GetReal().GetTokenLogps()}
		for _, d := range g.GetDraws() {
			out[i].draws = append(out[i].draws, d.GetResponse().GetTokenLogps())
		}
	}
	return out
}

// heldout are the self-play measures of weights θ on games that an opponent θ_t played and nobody
// trained on.
//
//   - accuracy: share of pairs whose margin is above 0 (ties are wrong, as in training)
//   - accuracy_equal_length: the same with both answers cut to the shorter one's tokens, so that
//     length and the end of turn give nothing away
//   - margin, reward_real, reward_generated: in units of β; margin_p05 … margin_p95: how margins spread
//   - kl: of θ_t from θ, nats per token, estimated on the answers that θ_t drew:
//     E_{y'~θ_t} log(p_θt(y') / p_θ(y')). It is that of the sampling distribution where the
//     temperature is 1 and nothing is cut off, and noise may take it below 0
//   - nll_gain: how far the human answers' nll fell from θ_t to θ, answer by answer, so that its
//     standard error is that of the difference: what the stop rule asks
//   - nll: of the human answers, nats per token; the last to be published
func heldout(games []scored, beta float64) []figure {
	var accuracy, equal, margin, real, generated, kl, gain, nll tally
	for i, g := range games {
		opponentReal := g.game.GetReal().GetTokenLogps()
		tokens := float64(len(g.real))
		nll.add(i, -spin.LogP(g.real), tokens)
		gain.add(i, spin.LogP(g.real)-spin.LogP(opponentReal), tokens)
		for d, draw := range g.draws {
			opponentDraw := g.game.GetDraws()[d].GetResponse().GetTokenLogps()
			rr := beta * (spin.LogP(g.real) - spin.LogP(opponentReal))
			rg := beta * (spin.LogP(draw) - spin.LogP(opponentDraw))
			real.add(i, rr, 1)
			generated.add(i, rg, 1)
			margin.add(i, rr-rg, 1)
			accuracy.add(i, share(rr > rg), 1)
			kl.add(i, spin.LogP(opponentDraw)-spin.LogP(draw), float64(len(draw)))
			n := min(len(g.real), len(draw))
			rr = spin.LogP(g.real[:n]) - spin.LogP(opponentReal[:n])
			rg = spin.LogP(draw[:n]) - spin.LogP(opponentDraw[:n])
			equal.add(i, share(rr > rg), 1)
		}
	}
	b := newBootstrap(len(games))
	out := []figure{
		accuracy.figure("accuracy", b), equal.figure("accuracy_equal_length", b), margin.figure("margin", b),
		real.figure("reward_real", b), generated.figure("reward_generated", b),
	}
	out = append(out, margin.percentiles("margin", b, map[string]float64{"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95})...)
	return append(out, kl.figure("kl", b), gain.figure("nll_gain", b), nll.figure("nll", b))
}

func share(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

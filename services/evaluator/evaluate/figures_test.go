package evaluate

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/event"
)

const (
	stop   = event.FinishReason_FINISH_REASON_STOP
	length = event.FinishReason_FINISH_REASON_LENGTH
)

func game(real *event.Response, draws ...*event.Response) *event.Game {
	g := &event.Game{Real: real}
	for _, r := range draws {
		g.Draws = append(g.Draws, &event.Draw{Response: r})
	}
	return g
}

func under(logps ...float32) *event.Response { return &event.Response{TokenLogps: logps} }

func said(finish event.FinishReason, entropy float32, ids ...uint32) *event.Response {
	return &event.Response{TokenIds: ids, FinishReason: finish, Entropy: entropy}
}

// check compares figures with numbers worked out by hand.
func check(t *testing.T, got, want []figure) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d figures, want %d", len(got), len(want))
	}
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-12 }
	for i, w := range want {
		g := got[i]
		if !(g.low <= g.value && g.value <= g.high) || w.stderr > 0 && w.n > 3 && g.low == g.high {
			t.Errorf("%s: %v is not in its interval, %v to %v", g.metric, g.value, g.low, g.high)
		}
		if g.metric != w.metric || g.n != w.n || !near(g.value, w.value) || !near(g.stderr, w.stderr) {
			t.Errorf("got %+v, want %+v", g, w)
		}
	}
}

func TestHeldout(t *testing.T) {
	games := []scored{
		{ // rewards +1 and -1 nats; cut to two tokens both gain 1: a tie
			game: game(under(-1.5, -2.5), under(-1, -2, -2)),
			real: []float32{-1, -2}, draws: [][]float32{{-1, -1, -4}},
		},
		{ // rewards -1 and 0
			game: game(under(-2), under(-1)),
			real: []float32{-3}, draws: [][]float32{{-1}},
		},
	}
	check(t, heldout(games, 0.1), []figure{
		{metric: "accuracy", value: 0.5, stderr: 0.5, n: 2},
		{metric: "accuracy_equal_length", value: 0, stderr: 0, n: 2},
		{metric: "margin", value: 0.05, stderr: 0.15, n: 2},
		{metric: "reward_real", value: 0, stderr: 0.1, n: 2},
		{metric: "reward_generated", value: -0.05, stderr: 0.05, n: 2},
		{metric: "margin_p05", value: -0.1, n: 2}, {metric: "margin_p25", value: -0.1, n: 2}, {metric: "margin_p50", value: -0.1, n: 2},
		{metric: "margin_p75", value: 0.2, n: 2}, {metric: "margin_p95", value: 0.2, n: 2},
		{metric: "kl", value: 0.25, stderr: 0.125, n: 2},     // 1 nat over 4 tokens; residuals +0.25 and -0.25
		{metric: "nll_gain", value: 0, stderr: 2. / 3, n: 2}, // +1 and -1 over 3 tokens
		{metric: "nll", value: 2, stderr: 2. / 3, n: 2},      // 6 nats over 3 tokens; residuals -1 and +1
	})
}

// Weights are no better than themselves, and every figure is there: a stop rule waits for them.
func TestHeldoutOfTheOpponent(t *testing.T) {
	check(t, heldout(played([]*event.Game{game(under(-1, -2), under(-1))}), 0.1), []figure{
		{metric: "accuracy", n: 1}, {metric: "accuracy_equal_length", n: 1}, {metric: "margin", n: 1}, {metric: "reward_real", n: 1}, {metric: "reward_generated", n: 1},
		{metric: "margin_p05", n: 1}, {metric: "margin_p25", n: 1}, {metric: "margin_p50", n: 1}, {metric: "margin_p75", n: 1}, {metric: "margin_p95", n: 1},
		{metric: "kl", n: 1}, {metric: "nll_gain", n: 1}, {metric: "nll", value: 1.5, n: 1},
	})
}

func TestAnswers(t *testing.T) {
	games := []*event.Game{
		game(said(stop, 0, 1, 2, 3, 4), said(stop, 2, 1, 2, 3, 4)),
		game(said(length, 0, 5, 6), said(length, 0.5, 7, 7, 7, 7, 7, 7)),
	}
	third := 1. / 3
	check(t, answers(games), []figure{
		{metric: "length", value: 5, stderr: 1, n: 2},
		{metric: "length_real", value: 3, stderr: 1, n: 2},
		{metric: "length_gap", value: 2, stderr: 2, n: 2}, // 0 and 4
		{metric: "finished", value: 0.5, stderr: 0.5, n: 2},
		{metric: "finished_real", value: 0.5, stderr: 0.5, n: 2},
		{metric: "finished_gap", n: 2},
		{metric: "entropy", value: 1.1, stderr: 0.72, n: 2},       // (4·2 + 6·0.5) / 10; residuals ±3.6
		{metric: "distinct_1", value: 0.5, stderr: 0, n: 2},       // 1 2 3 4 7 of 10
		{metric: "distinct_2", value: 0.5, stderr: 0, n: 2},       // 12 23 34 77 of 8
		{metric: "distinct_3", value: 0.5, n: 2},                  // 123 234 777 of 6
		{metric: "repetition", value: third, stderr: third, n: 2}, // 0, and two of three 7777
		{metric: "copy", value: 0.5, stderr: 0.5, n: 2},
		{metric: "near_copy", value: 0.5, stderr: 0.5, n: 2},
	})
}

func TestNearCopy(t *testing.T) {
	for _, c := range []struct {
		real, draw []uint32
		want       float64
	}{
		{[]uint32{1, 2}, []uint32{1, 2}, 1}, // too short for a 3-gram, and a copy
		{[]uint32{1, 2}, []uint32{2, 1}, 0},
		{[]uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 1}, // 9 of 10 3-grams
		{[]uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 0},         // 8 of 9
		{[]uint32{1, 2, 3}, []uint32{4, 5, 6}, 0},
	} {
		all := answers([]*event.Game{game(said(stop, 0, c.real...), said(stop, 0, c.draw...))})
		if got := all[len(all)-1]; got.metric != "near_copy" || got.value != c.want {
			t.Errorf("%v beside %v: %+v, want near_copy %v", c.draw, c.real, got, c.want)
		}
	}
}

func TestFiguresOfNothing(t *testing.T) {
	for _, f := range append(heldout(nil, 0.1), answers(nil)...) {
		if f.value != 0 || f.stderr != 0 || f.n != 0 {
			t.Errorf("%+v of no games", f)
		}
	}
}

// The interval is that of the mean of games: two equal draws of a game say no more than one.
func TestBootstrap(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	var once, twice tally
	for g := range 200 {
		x := random.NormFloat64()
		once.add(g, x, 1)
		twice.add(g, x, 1)
		twice.add(g, x, 1)
	}
	b := newBootstrap(200)
	f, again, pairs := once.figure("x", b), once.figure("x", newBootstrap(200)), twice.figure("x", b)
	if f != again {
		t.Errorf("another interval of the same numbers: %+v, %+v", f, again)
	}
	if width := f.high - f.low; !(math.Abs(width/(2*1.96*f.stderr)-1) <= 0.15) {
		t.Errorf("an interval of %v to %v, with a standard error of %v", f.low, f.high, f.stderr)
	}
	if pairs.low != f.low || pairs.high != f.high {
		t.Errorf("draws of one game count as independent: %v to %v, want %v to %v", pairs.low, pairs.high, f.low, f.high)
	}
	median := once.percentiles("x", b, map[string]float64{"p50": 0.5, "p05": 0.05})
	if p5, p50 := median[0], median[1]; p5.metric != "x_p05" || p50.metric != "x_p50" || !(p5.value < -1.2 && p5.value > -2.2) || !(p50.low < 0.1 && p50.high > -0.1 && p50.low < p50.value && p50.value < p50.high) {
		t.Errorf("percentiles of a normal sample: %+v", median)
	}
}

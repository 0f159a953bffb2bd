package evaluate

import (
	"math"
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
		if g := got[i]; g.metric != w.metric || g.n != w.n || !near(g.value, w.value) || !near(g.stderr, w.stderr) {
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
		{"accuracy", 0.5, 0.5, 2},
		{"accuracy_equal_length", 0, 0, 2},
		{"margin", 0.05, 0.15, 2},
		{"reward_real", 0, 0.1, 2},
		{"reward_generated", -0.05, 0.05, 2},
		{"nll", 2, 2. / 3, 2}, // 6 nats over 3 tokens; residuals -1 and +1
	})
}

func TestHeldoutOfTheOpponent(t *testing.T) { // its own games: a likelihood and no pair
	g := game(under(-1, -2), under(-1))
	got := heldout([]scored{{game: g, real: g.GetReal().GetTokenLogps()}}, 0.1)
	check(t, keep(got, false), []figure{{"nll", 1.5, 0, 1}})
}

func TestAnswers(t *testing.T) {
	games := []*event.Game{
		game(said(stop, 0, 1, 2, 3, 4), said(stop, 2, 1, 2, 3, 4)),
		game(said(length, 0, 5, 6), said(length, 0.5, 7, 7, 7, 7, 7, 7)),
	}
	third := 1. / 3
	check(t, answers(games), []figure{
		{"length", 5, 1, 2},
		{"length_real", 3, 1, 2},
		{"finished", 0.5, 0.5, 2},
		{"finished_real", 0.5, 0.5, 2},
		{"entropy", 1.1, 0.72, 2},       // (4·2 + 6·0.5) / 10; residuals ±3.6
		{"distinct_1", 0.5, 0, 2},       // 1 2 3 4 7 of 10
		{"distinct_2", 0.5, 0, 2},       // 12 23 34 77 of 8
		{"repetition", third, third, 2}, // 0, and two of three 7777
		{"near_copy", 0.5, 0.5, 2},
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

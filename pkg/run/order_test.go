package run

import (
	"math"
	"slices"
	"testing"
)

// Values of the reference C implementation by Sebastiano Vigna (splitmix64.c) for the seed 1234567.
func TestSplitMix64(t *testing.T) {
	s := splitMix64(1234567)
	for i, want := range []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821} {
		if got := s.next(); got != want {
			t.Fatalf("number %d: got %d, want %d", i, got, want)
		}
	}
}

// The order is part of every run's digest: it may never change. Values of testdata/order.py.
func TestOrderIsFrozen(t *testing.T) {
	for _, c := range []struct {
		stage            Stage
		iteration, epoch int
		want             []int
	}{
		{SPINStage, 0, 1, []int{7, 3, 2, 0, 6, 1, 8, 5, 9, 4}},
		{SPINStage, 0, 2, []int{5, 9, 7, 1, 2, 0, 6, 4, 8, 3}},
		{SPINStage, 1, 1, []int{9, 0, 2, 7, 3, 1, 8, 6, 4, 5}},
		{SFTStage, 0, 1, []int{9, 4, 7, 3, 1, 0, 5, 6, 8, 2}},
	} {
		if got := Order(1, c.stage, c.iteration, c.epoch, 10); !slices.Equal(got, c.want) {
			t.Errorf("%s %d/%d: got %#v, want %#v", c.stage, c.iteration, c.epoch, got, c.want)
		}
	}
}

func TestOrderIsAPermutation(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 192, 1000} {
		order := Order(7, SPINStage, 1, 1, n)
		sorted := slices.Sorted(slices.Values(order))
		for i, v := range sorted {
			if i != v {
				t.Fatalf("%d games: %v", n, order)
			}
		}
	}
}

// χ² over the position of the first game: 9 degrees of freedom, 33.7 is exceeded once in ten thousand times.
func TestOrderIsUniform(t *testing.T) {
	const n, trials = 10, 20000
	var count [n]int
	for seed := range uint64(trials) {
		count[slices.Index(Order(seed, SPINStage, 0, 1, n), 0)]++
	}
	chi := 0.0
	for _, c := range count {
		chi += math.Pow(float64(c)-trials/n, 2) / (trials / n)
	}
	if !(chi < 33.7) {
		t.Errorf("χ² = %.1f: %v", chi, count)
	}
}

func TestBatchesKeepTheirPlaceAroundHoles(t *testing.T) {
	order := []int{5, 3, 0, 4, 1, 2, 6}
	hole := func(game int) bool { return game == 3 || game == 4 || game == 0 }
	got := Batches(order, 2, hole)
	want := [][]int{{5}, {}, {1, 2}, {6}}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("batch %d: got %v, want %v", i, got[i], want[i])
		}
	}
}

func TestPlanChunks(t *testing.T) {
	order := Order(1, SPINStage, 0, 1, 7)
	var train, held []int
	for i, c := range PlanChunks(order, 3, 2) {
		if c.Number != i || len(c.Games) == 0 || len(c.Games) > 2 {
			t.Errorf("chunk %d: %+v", i, c)
		}
		if c.Heldout {
			held = append(held, c.Games...)
		} else if train = append(train, c.Games...); len(held) > 0 {
			t.Error("a training game after a held-out one")
		}
	}
	if !slices.Equal(train, order) || !slices.Equal(held, []int{0, 1, 2}) {
		t.Errorf("got %v and %v, want the order %v", train, held, order)
	}
}

func TestPlan(t *testing.T) {
	s, err := Preset("default")
	if err != nil {
		t.Fatal(err)
	}
	s.Data.Prompts, s.SFT.Epochs = 192, 3 // 24 steps in iteration 0, 48 in iteration 1, which mixes; 72 of SFT
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"steps(0)", s.Steps(0), 24},
		{"steps(1)", s.Steps(1), 48},
		{"games a step, mixed", s.GamesPerStep(1), 4},
		{"chunk", s.ChunkSize(0), 2},
		{"chunk, mixed", s.ChunkSize(1), 1},
		{"sft", s.SFTSteps(), 72},
		{"samples", s.Expected(0, 0, 0, 0).Samples, 256},
		{"pairs(0)", s.Expected(0, 0, 0, 0).Pairs, 192},
		{"pairs(1)", s.Expected(1, 0, 0, 0).Pairs, 384},
		{"pairs(1) with a hole", s.Expected(1, 1, 0, 0).Pairs, 382},
		{"pairs(1) with a hole in 0", s.Expected(1, 0, 0, 1).Pairs, 383},
		{"games with holes", s.Expected(0, 1, 2, 0).Games, 253},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, c.got, c.want)
		}
	}
	paper, err := Preset("paper")
	if err != nil {
		t.Fatal(err)
	}
	if got := paper.StepsPerEpoch(0); got != 778 { // uclaml/SPIN issue 10
		t.Errorf("paper: %d steps an epoch, want 778", got)
	}
	if paper.HorizonSteps(0) != 6*778 || paper.Steps(0) != 2*778 {
		t.Errorf("paper: %d steps of %d", paper.Steps(0), paper.HorizonSteps(0))
	}
}

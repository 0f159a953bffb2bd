package optim

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

func readGolden(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// The golden: transformers' get_scheduler, see testdata/make_schedules.py. Linear and
// constant are equal to the bit; cosines of two libraries differ in the last one.
func TestAgainstTransformers(t *testing.T) {
	var golden struct {
		Cases []struct {
			Shape           Shape
			LR              float64
			Warmup, Horizon int
			Rates           []float64
		}
	}
	readGolden(t, "testdata/schedules.json", &golden)
	if len(golden.Cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range golden.Cases {
		s := Schedule{c.Shape, c.LR, c.Warmup, c.Horizon}
		if err := s.Validate(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
		for i, want := range c.Rates {
			got := s.At(i + 1)
			exact := c.Shape != Cosine
			if exact && got != want || !(math.Abs(got-want) <= 1e-15*c.LR) {
				t.Errorf("%+v: step %d has rate %v, want %v", s, i+1, got, want)
			}
		}
	}
}

func TestScheduleEnds(t *testing.T) {
	for _, tc := range []struct {
		name     string
		schedule Schedule
		step     int
		want     float64
	}{
		{"first step of a warm-up", Schedule{Linear, 1, 10, 100}, 1, 0},
		{"peak", Schedule{Linear, 1, 10, 100}, 11, 1},
		{"last step", Schedule{Linear, 1, 10, 100}, 100, 1. / 90},
		{"past the horizon", Schedule{Linear, 1, 10, 100}, 101, 0},
		{"cosine past the horizon", Schedule{Cosine, 1, 10, 100}, 150, 0},
		{"constant for ever", Schedule{Constant, 1, 10, 0}, 1000, 1},
		// SPIN's own: 6 epochs of 778 steps planned, 10 % warm-up, stopped after 2.
		{"the reference's stop", Schedule{Linear, 5e-7, WarmupSteps(0.1, 6*778), 6 * 778}, 2*778 + 1, 5e-7 * 3112. / 4201},
	} {
		if got := tc.schedule.At(tc.step); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
	if got := WarmupSteps(0.3, 24); got != 8 {
		t.Errorf("30 %% of 24 steps: %d, want 8 (rounded up)", got)
	}
}

func TestScheduleValidate(t *testing.T) {
	for _, s := range []Schedule{
		{Linear, 0, 0, 10}, {Linear, -1, 0, 10}, {Linear, math.NaN(), 0, 10}, {Linear, math.Inf(1), 0, 10},
		{Linear, 1, -1, 10}, {Linear, 1, 11, 10}, {Cosine, 1, 0, 0}, {Shape(3), 1, 0, 10},
	} {
		if s.Validate() == nil {
			t.Errorf("%+v passes", s)
		}
	}
}

func TestNames(t *testing.T) {
	for _, s := range []Shape{Linear, Cosine, Constant} {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back Shape
		if err := json.Unmarshal(text, &back); err != nil || back != s {
			t.Errorf("%v: came back from %s as %v, %v", s, text, back, err)
		}
	}
	if _, err := ParseShape("polynomial"); err == nil || err.Error() != `schedule "polynomial": want one of linear, cosine, constant` {
		t.Error(err)
	}
	if _, err := ParseRule("sgd"); err == nil || err.Error() != `optimizer "sgd": want rmsprop or adamw` {
		t.Error(err)
	}
}

func TestRules(t *testing.T) {
	for name, bytes := range map[string]int64{"rmsprop": 400, "adamw": 800} {
		rule, err := ParseRule(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := Validate(rule); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := StateBytes(rule.Kind, 100); got != bytes {
			t.Errorf("%s: %d bytes of state for 100 elements, want %d", name, got, bytes)
		}
	}
	for name, spoil := range map[string]func(*compute.Optimizer){
		"alpha 1":        func(r *compute.Optimizer) { r.Kind, r.Alpha = compute.RMSProp, 1 },
		"beta1 -1":       func(r *compute.Optimizer) { r.Beta1 = -1 },
		"beta2 NaN":      func(r *compute.Optimizer) { r.Beta2 = math.NaN() },
		"eps 0":          func(r *compute.Optimizer) { r.Eps = 0 },
		"decay negative": func(r *compute.Optimizer) { r.WeightDecay = -0.1 },
		"kind 7":         func(r *compute.Optimizer) { r.Kind = 7 },
	} {
		rule := AdamW()
		spoil(&rule)
		if Validate(rule) == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestMicroBatches(t *testing.T) {
	for _, tc := range []struct {
		tokens []int
		limit  int
		want   []int
	}{
		{nil, 10, nil},
		{[]int{3, 3, 3}, 10, []int{3}},
		{[]int{5, 5, 1}, 10, []int{2, 3}},
		{[]int{10, 10}, 10, []int{1, 2}},
		{[]int{6, 5, 4, 7, 3}, 10, []int{1, 3, 5}},
	} {
		got, err := MicroBatches(nil, tc.tokens, tc.limit)
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%v in %d: %v, %v, want %v", tc.tokens, tc.limit, got, err, tc.want)
		}
	}
	if _, err := MicroBatches(nil, []int{4, 11}, 10); err == nil {
		t.Error("an item above the limit passes")
	}
	for _, tc := range [][3]int{{0, 8, 0}, {1, 8, 1}, {192, 8, 24}, {193, 8, 25}} {
		if got := Steps(tc[0], tc[1]); got != tc[2] {
			t.Errorf("%d items in batches of %d: %d steps, want %d", tc[0], tc[1], got, tc[2])
		}
	}
}

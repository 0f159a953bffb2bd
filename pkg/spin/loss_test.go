package spin

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

var losses = []Loss{Logistic, Hinge, Exponential, Correlation}

// near tells whether got is within a relative tol of want (absolute below 1).
func near(got, want, tol float64) bool {
	return math.Abs(got-want) <= tol*max(1, math.Abs(want))
}

func TestLossAtZero(t *testing.T) {
	for _, tc := range []struct {
		loss              Loss
		value, derivative float64
	}{
		{Logistic, math.Ln2, -0.5},
		{Hinge, 1, -1},
		{Exponential, 1, -1},
		{Correlation, 1, -1},
	} {
		if got := tc.loss.Value(0); got != tc.value {
			t.Errorf("%v: ℓ(0) = %v, want exactly %v", tc.loss, got, tc.value)
		}
		if got := tc.loss.Derivative(0); got != tc.derivative {
			t.Errorf("%v: ℓ'(0) = %v, want exactly %v", tc.loss, got, tc.derivative)
		}
	}
}

func TestLossFarFromZero(t *testing.T) {
	inf := math.Inf(1)
	for _, tc := range []struct {
		loss                 Loss
		t, value, derivative float64
	}{
		{Logistic, 40, math.Exp(-40), -math.Exp(-40)}, // 1 + e^−40 = 1 in float64
		{Logistic, 700, math.Exp(-700), -math.Exp(-700)},
		{Logistic, 1e6, 0, 0},
		{Logistic, -1e6, 1e6, -1},
		{Logistic, -inf, inf, -1},
		{Hinge, 1, 0, 0},
		{Hinge, math.Nextafter(1, 0), 1 - math.Nextafter(1, 0), -1},
		{Hinge, -1e6, 1e6 + 1, -1},
		{Exponential, 1e6, 0, 0},
		{Exponential, -700, math.Exp(700), -math.Exp(700)},
		{Exponential, -1e6, inf, -inf},
		{Correlation, 1e6, 1 - 1e6, -1},
	} {
		value, derivative := tc.loss.Value(tc.t), tc.loss.Derivative(tc.t)
		if value != tc.value && !(math.Abs(value-tc.value) <= 1e-15*math.Abs(tc.value)) {
			t.Errorf("%v: ℓ(%v) = %v, want %v", tc.loss, tc.t, value, tc.value)
		}
		if derivative != tc.derivative && !(math.Abs(derivative-tc.derivative) <= 1e-15*math.Abs(tc.derivative)) {
			t.Errorf("%v: ℓ'(%v) = %v, want %v", tc.loss, tc.t, derivative, tc.derivative)
		}
	}
	for _, l := range losses {
		if v := l.Value(math.NaN()); !math.IsNaN(v) {
			t.Errorf("%v: ℓ(NaN) = %v", l, v)
		}
	}
}

// Assumption 5.1: ℓ is convex and decreasing. The derivative is the value's.
func TestLossShape(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, l := range losses {
		for range 10_000 {
			a, b := 20*rng.NormFloat64(), 20*rng.NormFloat64()
			a, b = min(a, b), max(a, b)
			if l.Value(a) < l.Value(b) {
				t.Fatalf("%v: ℓ(%v) < ℓ(%v): not decreasing", l, a, b)
			}
			if l.Derivative(a) > l.Derivative(b) || l.Derivative(b) > 0 {
				t.Fatalf("%v: ℓ'(%v) > ℓ'(%v), or positive: not convex and decreasing", l, a, b)
			}
			const h = 1e-5
			if l == Hinge && math.Abs(a-1) < 2*h {
				continue // no derivative there
			}
			numeric := (l.Value(a+h) - l.Value(a-h)) / (2 * h)
			if !near(l.Derivative(a), numeric, 1e-7) {
				t.Fatalf("%v: ℓ'(%v) = %v, finite difference %v", l, a, l.Derivative(a), numeric)
			}
		}
	}
}

func TestLossNames(t *testing.T) {
	for _, l := range losses {
		text, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		var back Loss
		if err := json.Unmarshal(text, &back); err != nil || back != l {
			t.Errorf("%v: came back from %s as %v, %v", l, text, back, err)
		}
	}
	if _, err := ParseLoss("sigmoid"); err == nil || err.Error() != `loss "sigmoid": want one of logistic, hinge, exponential, correlation` {
		t.Errorf("ParseLoss(sigmoid): %v", err)
	}
	if _, err := Loss(9).MarshalText(); err == nil {
		t.Error("Loss(9) marshals")
	}
}

// The golden: TRL's DPO loss and torch autograd, see testdata/make_losses.py.
func TestAgainstTRL(t *testing.T) {
	var golden struct {
		Beta  float64
		Cases []struct {
			Loss                                  Loss
			Pairs                                 [][4]float64 // policy real, generated; opponent real, generated
			Losses, RewardsReal, RewardsGenerated []float64
			Mean, Accuracy                        float64
			GradReal, GradGenerated               []float64
		}
	}
	text, err := os.ReadFile("testdata/losses.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Cases) != len(losses) {
		t.Fatalf("golden has %d losses, want %d", len(golden.Cases), len(losses))
	}
	for _, c := range golden.Cases {
		objective := Objective{Loss: c.Loss, Beta: golden.Beta}
		var metrics Metrics
		for i, p := range c.Pairs {
			r, err := objective.Eval(Pair{p[0], p[1], p[2], p[3]})
			if err != nil {
				t.Fatal(err)
			}
			metrics.Add(r)
			real, generated := r.Coefficients(len(c.Pairs))
			for _, v := range []struct {
				name      string
				got, want float64
			}{
				{"loss", r.Loss, c.Losses[i]},
				{"reward real", r.RewardReal, c.RewardsReal[i]},
				{"reward generated", r.RewardGenerated, c.RewardsGenerated[i]},
				{"gradient real", real, c.GradReal[i]},
				{"gradient generated", generated, c.GradGenerated[i]},
			} {
				if !near(v.got, v.want, 1e-12) {
					t.Errorf("%v, pair %d: %s %v, want %v", c.Loss, i, v.name, v.got, v.want)
				}
			}
		}
		if !near(metrics.Loss(), c.Mean, 1e-12) || metrics.Accuracy() != c.Accuracy {
			t.Errorf("%v: mean loss %v, accuracy %v, want %v, %v", c.Loss, metrics.Loss(), metrics.Accuracy(), c.Mean, c.Accuracy)
		}
	}
}

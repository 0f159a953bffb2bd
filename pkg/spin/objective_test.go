package spin

import (
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"testing"
)

func randomPair(rng *rand.Rand) Pair {
	logp := func() float64 { return -300 * rng.Float64() }
	return Pair{logp(), logp(), logp(), logp()}
}

// At θ = θt every margin is exactly 0, whatever the logps and beta.
func TestStartOfIteration(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, l := range losses {
		for range 1000 {
			real, generated := -300*rng.Float64(), -300*rng.Float64()
			r, err := Objective{l, 10 * rng.Float64()}.Eval(Pair{real, generated, real, generated})
			if err != nil {
				t.Fatal(err)
			}
			if r.Margin != 0 || r.RewardReal != 0 || r.RewardGenerated != 0 || r.Loss != l.Value(0) || r.Correct {
				t.Fatalf("%v: policy = opponent gave %+v", l, r)
			}
		}
	}
}

// The coefficients are the derivatives of the mean loss over a batch.
func TestCoefficients(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, l := range losses {
		objective := Objective{Loss: l, Beta: 0.1}
		mean := func(pairs []Pair) float64 {
			var m Metrics
			for _, p := range pairs {
				r, err := objective.Eval(p)
				if err != nil {
					t.Fatal(err)
				}
				m.Add(r)
			}
			return m.Loss()
		}
		for range 100 {
			pairs := make([]Pair, 5)
			for i := range pairs {
				pairs[i] = randomPair(rng)
				pairs[i].PolicyReal = pairs[i].OpponentReal + 10*rng.NormFloat64()
				pairs[i].PolicyGenerated = pairs[i].OpponentGenerated + 10*rng.NormFloat64()
			}
			i := rng.IntN(len(pairs))
			r, err := objective.Eval(pairs[i])
			if err != nil {
				t.Fatal(err)
			}
			real, generated := r.Coefficients(len(pairs))
			if real > 0 || real != -generated {
				t.Fatalf("%v: coefficients %v, %v: the real answer must not lose", l, real, generated)
			}
			const h = 1e-4
			if l == Hinge && math.Abs(r.Margin-1) < 2*h {
				continue
			}
			shifted := func(field *float64, by float64) float64 {
				was := *field
				*field += by
				v := mean(pairs)
				*field = was
				return v
			}
			for _, c := range []struct {
				field *float64
				want  float64
			}{{&pairs[i].PolicyReal, real}, {&pairs[i].PolicyGenerated, generated}} {
				numeric := (shifted(c.field, h) - shifted(c.field, -h)) / (2 * h)
				if !near(numeric, c.want, 1e-8) {
					t.Fatalf("%v: coefficient %v, finite difference %v, at %+v", l, c.want, numeric, r)
				}
			}
		}
	}
}

func TestMarginIsRewardDifference(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 1000 {
		r, err := Objective{Logistic, 0.1}.Eval(randomPair(rng))
		if err != nil {
			t.Fatal(err)
		}
		if r.Margin != r.RewardReal-r.RewardGenerated || r.Correct != (r.Margin > 0) {
			t.Fatalf("%+v", r)
		}
	}
}

func TestNotFinite(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for name, p := range map[string]Pair{
		"NaN policy":      {nan, -1, -1, -1},
		"NaN opponent":    {-1, -1, -1, nan},
		"impossible real": {-inf, -1, -1, -1},
		"both impossible": {-1, -inf, -1, -inf}, // Inf − Inf
		"infinite margin": {math.MaxFloat64, -math.MaxFloat64, -1, -1},
	} {
		for _, l := range losses {
			if r, err := (Objective{l, 10}).Eval(p); !errors.Is(err, ErrNotFinite) || r != (Result{}) {
				t.Errorf("%s, %v: %+v, %v", name, l, r, err)
			}
		}
	}
	far := Pair{-20_000, -1, -1, -1} // margin −2000 at beta 0.1
	for _, l := range losses {
		_, err := Objective{l, 0.1}.Eval(far)
		if overflows := l == Exponential; errors.Is(err, ErrNotFinite) != overflows {
			t.Errorf("%v at margin −2000: %v", l, err)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, beta := range []float64{0, -0.1, math.NaN(), math.Inf(1)} {
		if (Objective{Beta: beta}).Validate() == nil {
			t.Errorf("beta %v passes", beta)
		}
	}
	if (Objective{Loss: 4, Beta: 1}).Validate() == nil {
		t.Error("loss 4 passes")
	}
	if err := (Objective{Correlation, 5}).Validate(); err != nil {
		t.Error(err)
	}
}

// A language of few words, for which the theorems can be computed: expectation over
// all pairs (y, y') of the gradient of (4.7) with respect to the policy's logits.
func tabularGradient(t *testing.T, o Objective, data, opponent, logits []float64) []float64 {
	policy := softmax(logits)
	dlogp := make([]float64, len(logits))
	for y, py := range data {
		for g, pg := range opponent {
			r, err := o.Eval(Pair{math.Log(policy[y]), math.Log(policy[g]), math.Log(opponent[y]), math.Log(opponent[g])})
			if err != nil {
				t.Fatal(err)
			}
			real, generated := r.Coefficients(1)
			dlogp[y] += py * pg * real
			dlogp[g] += py * pg * generated
		}
	}
	total := 0.0
	for _, v := range dlogp {
		total += v
	}
	gradient := make([]float64, len(logits))
	for i := range gradient {
		gradient[i] = dlogp[i] - policy[i]*total
	}
	return gradient
}

func softmax(logits []float64) []float64 {
	p, sum := make([]float64, len(logits)), 0.0
	for i, v := range logits {
		p[i] = math.Exp(v)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

// Theorem 5.2: the game stops, for every ℓ and beta, once p_θt = p_data.
func TestTheorem52(t *testing.T) {
	data := []float64{0.5, 0.3, 0.15, 0.05}
	logits := make([]float64, len(data))
	for i, p := range data {
		logits[i] = math.Log(p)
	}
	for _, l := range losses {
		for _, beta := range []float64{0.1, 1, 5} {
			for _, g := range tabularGradient(t, Objective{l, beta}, data, data, logits) {
				if !(math.Abs(g) <= 1e-15) {
					t.Errorf("%v, beta %v: gradient %v at p_θt = p_data", l, beta, g)
				}
			}
		}
	}
}

// Theorem 5.4: with the logistic loss the next opponent is p_θt · (p_data/p_θt)^(1/β), normalised.
func TestTheorem54(t *testing.T) {
	data, start := []float64{0.4, 0.35, 0.2, 0.05}, []float64{0.1, 0.3, 0.25, 0.35}
	for _, beta := range []float64{0.5, 1, 5} {
		want, logits := make([]float64, len(data)), make([]float64, len(data))
		for i := range want {
			logits[i] = math.Log(start[i])
			want[i] = logits[i] + math.Log(data[i]/start[i])/beta
		}
		want = softmax(want)
		for range 20_000 {
			for i, g := range tabularGradient(t, Objective{Logistic, beta}, data, start, logits) {
				logits[i] -= 2 / (beta * beta) * g
			}
		}
		for i, got := range softmax(logits) {
			if !near(got, want[i], 1e-9) {
				t.Errorf("beta %v: p[%d] = %v, want %v", beta, i, got, want[i])
			}
		}
	}
}

func TestMetrics(t *testing.T) {
	var m Metrics
	if m.Loss() != 0 || m.Accuracy() != 0 {
		t.Error("empty metrics are not 0")
	}
	for _, p := range []Pair{{-10, -20, -11, -19}, {-30, -8, -20, -10}, {-5, -5, -5, -5}} {
		r, err := Objective{Correlation, 0.5}.Eval(p)
		if err != nil {
			t.Fatal(err)
		}
		m.Add(r)
	}
	want := map[string]float64{ // rewards real 0.5, −5, 0; generated −0.5, 1, 0
		"loss": 1 - (1.0-6)/3, "rewards/real": -1.5, "rewards/generated": 0.5 / 3, "rewards/accuracies": 1. / 3,
		"rewards/margins": -5. / 3, "logps/real": -15, "logps/generated": -11,
		"opponent_logps/real": -12, "opponent_logps/generated": -34. / 3,
	}
	got := maps.Collect(m.All())
	for name, v := range want {
		if !near(got[name], v, 1e-15) {
			t.Errorf("%s = %v, want %v", name, got[name], v)
		}
	}
	if len(got) != len(want) || m.Pairs() != 3 || m.Correct() != 1 {
		t.Errorf("%d names, %d pairs, %d correct", len(got), m.Pairs(), m.Correct())
	}
}

func TestSFT(t *testing.T) {
	var s SFT
	for _, r := range [][]float32{{-1, -2, -3}, {-6}} {
		if err := s.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Add([]float32{-1, float32(math.NaN())}); !errors.Is(err, ErrNotFinite) {
		t.Errorf("NaN: %v", err)
	}
	if s.Loss() != 3 || s.Tokens() != 4 || SFTCoefficient(s.Tokens()) != -0.25 {
		t.Errorf("loss %v over %d tokens, coefficient %v", s.Loss(), s.Tokens(), SFTCoefficient(s.Tokens()))
	}
}

func TestPerIteration(t *testing.T) {
	beta := PerIteration[float64]{0.1, 0.1, 0.1, 5}
	for i, want := range []float64{0.1, 0.1, 0.1, 5, 5, 5} {
		if beta.At(i) != want {
			t.Errorf("beta of iteration %d: %v, want %v", i, beta.At(i), want)
		}
	}
}

func TestEvalDoesNotAllocate(t *testing.T) {
	var m Metrics
	if n := testing.AllocsPerRun(100, func() {
		r, err := Objective{Logistic, 0.1}.Eval(Pair{-1, -2, -1.5, -1.5})
		if err != nil {
			t.Fatal(err)
		}
		m.Add(r)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

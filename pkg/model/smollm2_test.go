package model_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/pkg/checkpoint"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/spin"
)

// golden is testdata/goldens.json: SmolLM2-135M-Instruct in transformers and torch; see its README.
type golden struct {
	Beta  float64
	Pairs []struct {
		PromptIDs []int32 `json:"prompt_ids"`
		Human     goldenAnswer
		Self      goldenAnswer
	}
	Losses struct {
		OpponentIsPolicy  goldenLoss  `json:"opponent_is_policy"`
		OpponentPerturbed goldenLoss  `json:"opponent_perturbed"`
		AdamW             goldenTrace `json:"adamw_trace"`
		RMSProp           goldenTrace `json:"rmsprop_trace"`
	}
}

type goldenAnswer struct {
	IDs           []int32
	Logps         []float64
	LogpsF64      []float64 `json:"logps_f64"`
	LogpSumF64    float64   `json:"logp_sum_f64"`
	OpponentLogps []float64 `json:"opponent_logps"`
}

type goldenLoss struct {
	PerPair []float64 `json:"per_pair"`
	Mean    float64
	Grads   map[string]struct {
		Norm   float64
		MaxAbs float64 `json:"max_abs"`
		First4 []float64
	}
}

type goldenTrace struct {
	Losses    []float64 `json:"mean_loss_before_step_1_2_3_and_after"`
	Optimizer struct {
		LR, Alpha, Eps float64
		Betas          []float64
		WeightDecay    float64 `json:"weight_decay"`
	}
}

func readGolden(t testing.TB) (g golden, b *model.Batch) {
	t.Helper()
	raw, err := os.ReadFile("testdata/goldens.json")
	must(t, err)
	must(t, json.Unmarshal(raw, &g))
	var trees []model.Tree
	for _, p := range g.Pairs {
		trees = append(trees, model.Tree{Prompt: p.PromptIDs, Answers: [][]int32{p.Human.IDs, p.Self.IDs}})
	}
	b = &model.Batch{}
	must(t, b.Pack(trees))
	return g, b
}

// smollm2 loads the default model, which `make model` fetches.
func smollm2(t testing.TB, dev compute.Device, opt model.Options) *model.Model {
	t.Helper()
	dir := os.Getenv("SPIN_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		must(t, err)
		dir = filepath.Join(base, "spin")
	}
	path := filepath.Join(dir, "SmolLM2-135M-Instruct.Q4_1.gguf")
	if _, err := os.Stat(path); err != nil && os.Getenv("SPIN_MODEL_REQUIRED") == "" {
		t.Skipf("the default model is not there (%v): `make model` fetches it", err)
	}
	c, err := checkpoint.Open(path)
	must(t, err)
	defer c.Close()
	cfg, err := model.ParseConfig(c.Config())
	must(t, err)
	opt.MaxContext = 512
	m, err := model.New(dev, dev.NewBackend(), cfg, c, opt)
	must(t, err)
	t.Cleanup(m.Free)
	return m
}

func newCPU(t testing.TB) *cpu.Device {
	t.Helper()
	dev, err := cpu.New(cpu.Config{})
	must(t, err)
	t.Cleanup(func() { dev.Close() })
	return dev
}

// TestSmolLM2LogProbs: F32 gives transformers' log-probabilities of every token; BF16 is off by no
// more than 1.2 times what torch's bf16 autocast is.
func TestSmolLM2LogProbs(t *testing.T) {
	g, b := readGolden(t)
	t.Run("f32", func(t *testing.T) {
		got := score(t, smollm2(t, newCPU(t), model.Options{DType: compute.F32}), b)
		for i, p := range g.Pairs {
			for j, want := range []goldenAnswer{p.Human, p.Self} {
				s := b.Answers[2*i+j]
				sum := 0.0
				for k, lp := range got[s.From:s.To] {
					if diff := math.Abs(lp - want.Logps[k]); !(diff <= 1e-4+1e-4*math.Abs(want.Logps[k])) {
						t.Errorf("pair %d answer %d token %d: logp %v, want %v", i, j, k, lp, want.Logps[k])
					}
					sum += lp
				}
				if diff := math.Abs(sum - want.LogpSumF64); !(diff <= 1e-4*math.Abs(want.LogpSumF64)) {
					t.Errorf("pair %d answer %d: logp %v, want %v", i, j, sum, want.LogpSumF64)
				}
			}
		}
	})
	t.Run("bf16", func(t *testing.T) {
		var autocast struct {
			Eager struct {
				MeanAbs float64 `json:"mean_abs"`
			} `json:"autocast_eager"`
		}
		raw, err := os.ReadFile("testdata/bf16_autocast.json")
		must(t, err)
		must(t, json.Unmarshal(raw, &autocast))
		got := score(t, smollm2(t, newCPU(t), model.Options{DType: compute.BF16}), b)
		sum, n := 0.0, 0
		for i, p := range g.Pairs {
			for j, want := range []goldenAnswer{p.Human, p.Self} {
				s := b.Answers[2*i+j]
				for k, lp := range got[s.From:s.To] {
					sum += math.Abs(lp - want.LogpsF64[k])
					n++
				}
			}
		}
		t.Logf("mean |Δ logp| %.5f nats, torch's autocast %.5f", sum/float64(n), autocast.Eager.MeanAbs)
		if !(sum/float64(n) <= 1.2*autocast.Eager.MeanAbs) {
			t.Errorf("mean |Δ logp| %v, want at most 1.2 × %v", sum/float64(n), autocast.Eager.MeanAbs)
		}
	})
}

func score(t *testing.T, m *model.Model, b *model.Batch) []float64 {
	t.Helper()
	p := m.NewPass(model.PassConfig{Tokens: b.Tokens(), Targets: len(b.Targets)})
	defer p.Free()
	got, err := p.LogProbs(b)
	must(t, err)
	return append([]float64(nil), got...)
}

// lossCoefficients evaluates the golden pairs at these logps against opponent, and returns the mean
// loss and the coefficients of the backward pass.
func lossCoefficients(t *testing.T, g golden, b *model.Batch, logps []float64, opponent func(goldenAnswer) []float64) (float64, []float64) {
	t.Helper()
	coef := make([]float64, len(logps))
	objective := spin.Objective{Loss: spin.Logistic, Beta: g.Beta}
	mean := 0.0
	for i, p := range g.Pairs {
		real, generated := b.Answers[2*i], b.Answers[2*i+1]
		r, err := objective.Eval(spin.Pair{
			PolicyReal: sum(logps[real.From:real.To]), PolicyGenerated: sum(logps[generated.From:generated.To]),
			OpponentReal: sum(opponent(p.Human)), OpponentGenerated: sum(opponent(p.Self)),
		})
		must(t, err)
		mean += r.Loss / float64(len(g.Pairs))
		cr, cg := r.Coefficients(len(g.Pairs))
		for k := real.From; k < real.To; k++ {
			coef[k] = cr
		}
		for k := generated.From; k < generated.To; k++ {
			coef[k] = cg
		}
	}
	return mean, coef
}

func perturbed(a goldenAnswer) []float64 { return a.OpponentLogps }

// embedGradient is testdata/embed_gradient.json: what goldens.json's tied embedding leaves out, for
// transformers' padding_idx; see make_embed_gradient.py.
type embedGradient struct {
	Row   int
	Whole struct {
		F64 struct {
			Norm          float64
			MaxAbs        float64   `json:"max_abs"`
			RowFirst4     []float64 `json:"row_first4"`
			AllParameters float64   `json:"norm_all_parameters"`
		}
	}
}

// TestSmolLM2Gradients: torch's gradients of the mean loss, in F32.
func TestSmolLM2Gradients(t *testing.T) {
	g, b := readGolden(t)
	m := smollm2(t, newCPU(t), model.Options{DType: compute.F32, Full: true})
	p := m.NewPass(model.PassConfig{Tokens: b.Tokens(), Targets: len(b.Targets), Backward: true})
	defer p.Free()
	logps, err := p.LogProbs(b)
	must(t, err)
	loss, coef := lossCoefficients(t, g, b, logps, perturbed)
	if diff := math.Abs(loss - g.Losses.OpponentPerturbed.Mean); !(diff <= 1e-4) {
		t.Errorf("mean loss %v, want %v", loss, g.Losses.OpponentPerturbed.Mean)
	}
	p.Backward(coef)
	var embed embedGradient
	raw, err := os.ReadFile("testdata/embed_gradient.json")
	must(t, err)
	must(t, json.Unmarshal(raw, &embed))
	whole := embed.Whole.F64
	square := 0.0
	for _, name := range m.Trained() {
		grad := readGrad(t, m, name)
		norm := 0.0
		for _, x := range grad {
			norm += float64(x) * float64(x)
		}
		square += norm
		want, ok := g.Losses.OpponentPerturbed.Grads[name]
		if !ok {
			continue
		}
		if name == "model.embed_tokens.weight" {
			want.Norm = whole.Norm
			for i, x := range whole.RowFirst4 {
				if got := float64(grad[embed.Row*m.Hidden+i]); !(math.Abs(got-x) <= 1e-3*whole.MaxAbs) {
					t.Errorf("%s[%d, %d]: gradient %v, want %v", name, embed.Row, i, got, x)
				}
			}
		}
		if norm = math.Sqrt(norm); !(math.Abs(norm-want.Norm) <= 2e-4*want.Norm) {
			t.Errorf("%s: gradient norm %v, want %v", name, norm, want.Norm)
		}
		for i, x := range want.First4 {
			if !(math.Abs(float64(grad[i])-x) <= 1e-3*want.MaxAbs) {
				t.Errorf("%s[%d]: gradient %v, want %v", name, i, grad[i], x)
			}
		}
	}
	if want := whole.AllParameters; !(math.Abs(math.Sqrt(square)-want) <= 2e-4*want) {
		t.Errorf("gradient norm %v, want %v", math.Sqrt(square), want)
	}
}

func readGrad(t *testing.T, m *model.Model, name string) []float32 {
	t.Helper()
	shape, _ := m.Shape(name)
	n := 1
	for _, s := range shape {
		n *= s
	}
	grad := make([]float32, n)
	must(t, m.ReadGrad(name, grad))
	return grad
}

// TestSmolLM2Traces: three steps of torch's AdamW and RMSprop.
func TestSmolLM2Traces(t *testing.T) {
	g, b := readGolden(t)
	for name, trace := range map[string]goldenTrace{"adamw": g.Losses.AdamW, "rmsprop": g.Losses.RMSProp} {
		t.Run(name, func(t *testing.T) {
			rule, err := optim.ParseRule(name)
			must(t, err)
			o := trace.Optimizer
			rule.Alpha, rule.Eps, rule.WeightDecay = o.Alpha, o.Eps, o.WeightDecay
			if len(o.Betas) == 2 {
				rule.Beta1, rule.Beta2 = o.Betas[0], o.Betas[1]
			}
			m := smollm2(t, newCPU(t), model.Options{DType: compute.F32, Full: true})
			p := m.NewPass(model.PassConfig{Tokens: b.Tokens(), Targets: len(b.Targets), Backward: true, Memory: 64 << 20})
			defer p.Free()
			var params []optim.Parameter
			var bytes int64
			for _, w := range m.Params() {
				params = append(params, optim.Parameter{Name: w.Name, Weight: w.W, Master: w.Master, Grad: w.Grad})
				bytes += optim.StateBytes(rule.Kind, int64(w.Rows)*int64(w.Cols)) + 256
			}
			arena := m.Device().NewArena(bytes + 1024)
			defer arena.Free()
			opt, err := optim.New(p.Backend(), arena, params, rule, 0)
			must(t, err)
			for step, want := range trace.Losses {
				logps, err := p.LogProbs(b)
				must(t, err)
				loss, coef := lossCoefficients(t, g, b, logps, perturbed)
				if !(math.Abs(loss-want) <= 1e-3) {
					t.Errorf("loss before step %d: %v, want %v", step+1, loss, want)
				}
				p.Backward(coef)
				_, err = opt.Step(o.LR)
				must(t, err)
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sum(x []float64) float64 {
	s := 0.0
	for _, v := range x {
		s += v
	}
	return s
}

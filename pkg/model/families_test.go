package model

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/compute/ref"
	"github.com/seed-8780d58e/spin/pkg/safetensors"
	"github.com/seed-8780d58e/spin/pkg/spin"
)

// familyGolden is testdata/*/goldens.json, from transformers and torch autograd.
type familyGolden struct {
	Beta  float64
	Pairs []struct {
		PromptIDs       []int32 `json:"prompt_ids"`
		Real, Generated struct {
			IDs           []int32
			Logps         []float64 `json:"logps_f64"`
			OpponentLogps []float64 `json:"opponent_logps_f64"`
		}
	}
	Losses, Margins []float64
	Mean            float64
	Grads           map[string]struct {
		Norm   float64
		MaxAbs float64 `json:"max_abs"`
		First4 []float64
	}
}

// stored is a safetensors file as a Source.
type stored struct{ *safetensors.Model }

func (s stored) Shape(name string) ([]int, bool) {
	t, ok := s.Tensor(name)
	return t.Shape, ok
}

// TestFamilies: a model of each kind (sliding window, QKV bias, tied and untied head, RoPE scaling)
// gives transformers' log-probabilities and torch's gradients of the SPIN loss, on the oracle and
// on the CPU.
func TestFamilies(t *testing.T) {
	for _, family := range []string{"mistral", "qwen2", "llama3", "linear", "untied"} {
		t.Run(family+"/ref", func(t *testing.T) {
			// transformers keeps norms, softmax and the RoPE table in F32 even in its F64 run.
			checkFamily(t, family, ref.New(), compute.F64, 2e-5, 2e-4)
		})
		t.Run(family+"/cpu", func(t *testing.T) {
			dev, err := cpu.New(cpu.Config{Threads: 2})
			must(t, err)
			defer dev.Close()
			checkFamily(t, family, dev, compute.F32, 1e-4, 1e-3)
		})
	}
}

func checkFamily(t *testing.T, family string, dev compute.Device, dtype compute.DType, tolLogp, tolGrad float64) {
	dir := filepath.Join("testdata", family)
	raw, err := os.ReadFile(filepath.Join(dir, "goldens.json"))
	must(t, err)
	var g familyGolden
	must(t, json.Unmarshal(raw, &g))
	raw, err = os.ReadFile(filepath.Join(dir, "config.json"))
	must(t, err)
	c, err := ParseConfig(raw)
	must(t, err)
	src, err := safetensors.Open(filepath.Join(dir, "model.safetensors"))
	must(t, err)
	defer src.Close()
	m, err := New(dev, dev.NewBackend(), c, stored{src}, Options{DType: dtype, Full: true})
	must(t, err)
	defer m.Free()

	var trees []Tree
	for _, p := range g.Pairs {
		trees = append(trees, Tree{Prompt: p.PromptIDs, Answers: [][]int32{p.Real.IDs, p.Generated.IDs}})
	}
	b := pack(t, trees)
	p := m.NewPass(PassConfig{Tokens: b.Tokens(), Targets: len(b.Targets), Backward: true})
	defer p.Free()
	got := logps(t, p, b)
	coef := make([]float64, len(got))
	objective := spin.Objective{Loss: spin.Logistic, Beta: g.Beta}
	for i, pair := range g.Pairs {
		real, generated := b.Answers[2*i], b.Answers[2*i+1]
		checkLogps(t, i, "real", got[real.From:real.To], pair.Real.Logps, tolLogp)
		checkLogps(t, i, "generated", got[generated.From:generated.To], pair.Generated.Logps, tolLogp)
		r, err := objective.Eval(spin.Pair{
			PolicyReal: sum(got[real.From:real.To]), PolicyGenerated: sum(got[generated.From:generated.To]),
			OpponentReal: sum(pair.Real.OpponentLogps), OpponentGenerated: sum(pair.Generated.OpponentLogps),
		})
		must(t, err)
		if diff := math.Abs(r.Loss - g.Losses[i]); !(diff <= 50*tolLogp) {
			t.Errorf("pair %d: loss %v, want %v", i, r.Loss, g.Losses[i])
		}
		cr, cg := r.Coefficients(len(g.Pairs))
		fill(coef[real.From:real.To], cr)
		fill(coef[generated.From:generated.To], cg)
	}
	p.Backward(coef)
	for name, want := range g.Grads {
		checkGrad(t, m, name, want.Norm, want.MaxAbs, want.First4, tolGrad)
	}
}

// checkGrad holds a gradient to |Δ| ≤ tol·max|g| for its first values, and its norm to tol/5.
func checkGrad(t *testing.T, m *Model, name string, norm, maxAbs float64, first []float64, tol float64) {
	t.Helper()
	shape, ok := m.Shape(name)
	if !ok {
		t.Errorf("%s: no such weight", name)
		return
	}
	n := 1
	for _, s := range shape {
		n *= s
	}
	grad := make([]float32, n)
	must(t, m.ReadGrad(name, grad))
	square := 0.0
	for _, x := range grad {
		square += float64(x) * float64(x)
	}
	if diff := math.Abs(math.Sqrt(square) - norm); !(diff <= tol/5*norm) {
		t.Errorf("%s: gradient norm %v, want %v", name, math.Sqrt(square), norm)
	}
	for i, want := range first {
		if diff := math.Abs(float64(grad[i]) - want); !(diff <= tol*maxAbs) {
			t.Errorf("%s[%d]: gradient %v, want %v, largest %v", name, i, grad[i], want, maxAbs)
		}
	}
}

func checkLogps(t *testing.T, pair int, side string, got, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("pair %d %s: %d logps, want %d", pair, side, len(got), len(want))
	}
	for i := range want {
		if diff := math.Abs(got[i] - want[i]); !(diff <= tol+tol*math.Abs(want[i])) {
			t.Errorf("pair %d %s token %d: logp %v, want %v", pair, side, i, got[i], want[i])
		}
	}
}

func sum(x []float64) float64 {
	s := 0.0
	for _, v := range x {
		s += v
	}
	return s
}

func fill(x []float64, v float64) {
	for i := range x {
		x[i] = v
	}
}

package train

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/compute/ref"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/safetensors"
	"github.com/seed-8780d58e/spin/pkg/spin"
)

// trlGolden is testdata/trl.json, from TRL's DPOTrainer; see make_trl.py.
type trlGolden struct {
	Settings struct {
		Beta, LR, Alpha, Eps   float64
		Batch, Warmup, Horizon int
		MaxGradNorm            float64 `json:"max_grad_norm"`
	}
	IDs []struct{ Prompt, Real, Generated []int32 }
	// Steps take the games in order, starting again after the last.
	Steps []struct {
		Step            int
		Loss, LR        float64
		Chosen          float64   `json:"rewards/chosen"`
		Rejected        float64   `json:"rewards/rejected"`
		Accuracy        float64   `json:"rewards/accuracies"`
		PolicyReal      []float64 `json:"policy_real"`
		PolicyGenerated []float64 `json:"policy_generated"`
	}
	Weights map[string]struct {
		Norm, Moved float64
		First4      []float64
	}
}

type stored struct{ *safetensors.Model }

func (s stored) Shape(name string) ([]int, bool) {
	t, ok := s.Tensor(name)
	return t.Shape, ok
}

func tinyModel(t *testing.T, dev compute.Device, opt model.Options) *model.Model {
	t.Helper()
	raw, err := os.ReadFile("testdata/tiny/config.json")
	must(t, err)
	c, err := model.ParseConfig(raw)
	must(t, err)
	src, err := safetensors.Open(filepath.Join("testdata", "tiny", "model.safetensors"))
	must(t, err)
	defer src.Close()
	m, err := model.New(dev, dev.NewBackend(), c, stored{src}, opt)
	must(t, err)
	t.Cleanup(m.Free)
	return m
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readTRL(t *testing.T) (g trlGolden, games []Game) {
	t.Helper()
	raw, err := os.ReadFile("testdata/trl.json")
	must(t, err)
	must(t, json.Unmarshal(raw, &g))
	for _, ids := range g.IDs {
		games = append(games, Game{Prompt: ids.Prompt, Real: Answer{IDs: ids.Real}, Draws: []Draw{{Answer: Answer{IDs: ids.Generated}}}})
	}
	return g, games
}

// TestAgainstTRL: the same pairs in the same order give TRL's losses, rewards and weights, on the
// oracle and on the CPU.
func TestAgainstTRL(t *testing.T) {
	t.Run("ref", func(t *testing.T) { checkTRL(t, ref.New(), compute.F64) })
	t.Run("cpu", func(t *testing.T) {
		dev, err := cpu.New(cpu.Config{Threads: 2})
		must(t, err)
		defer dev.Close()
		checkTRL(t, dev, compute.F32)
	})
}

func checkTRL(t *testing.T, dev compute.Device, dtype compute.DType) {
	g, games := readTRL(t)
	m := tinyModel(t, dev, model.Options{DType: dtype, Full: true})
	rule := optim.RMSProp()
	rule.Alpha, rule.Eps = g.Settings.Alpha, g.Settings.Eps
	l, err := NewLearner(m, Settings{MicroTokens: 256, Rule: rule, MaxNorm: g.Settings.MaxGradNorm})
	must(t, err)
	defer l.Free()
	must(t, l.Score(games))
	schedule := optim.Schedule{Shape: optim.Linear, LR: g.Settings.LR, Warmup: g.Settings.Warmup, Horizon: g.Settings.Horizon}
	objective := spin.Objective{Loss: spin.Logistic, Beta: g.Settings.Beta}
	for i, want := range g.Steps {
		from := i * g.Settings.Batch % len(games)
		lr := schedule.At(want.Step)
		if !(math.Abs(lr-want.LR) <= 1e-12) {
			t.Fatalf("step %d: learning rate %v, want %v", want.Step, lr, want.LR)
		}
		out, err := l.Play(games[from:from+g.Settings.Batch], objective, lr)
		must(t, err)
		if i == 0 && (out.Loss != math.Ln2 || out.Margin() != 0) {
			t.Errorf("first loss %v, margin %v; want ln 2 and 0 exactly", out.Loss, out.Margin())
		}
		for name, v := range map[string][2]float64{
			"loss": {out.Loss, want.Loss}, "rewards/chosen": {out.RewardReal(), want.Chosen},
			"rewards/rejected": {out.RewardGenerated(), want.Rejected}, "accuracy": {out.Accuracy(), want.Accuracy},
		} {
			if !(math.Abs(v[0]-v[1]) <= 1e-3) {
				t.Errorf("step %d: %s %v, TRL has %v", want.Step, name, v[0], v[1])
			}
		}
		for j, tr := range out.Traces {
			if !(math.Abs(tr.PolicyReal-want.PolicyReal[j]) <= 1e-3*math.Abs(want.PolicyReal[j])) ||
				!(math.Abs(tr.PolicyGenerated-want.PolicyGenerated[j]) <= 1e-3*math.Abs(want.PolicyGenerated[j])) {
				t.Errorf("step %d pair %d: logps %v and %v, TRL has %v and %v", want.Step, j, tr.PolicyReal, tr.PolicyGenerated, want.PolicyReal[j], want.PolicyGenerated[j])
			}
		}
	}
	for name, want := range g.Weights {
		shape, _ := m.Shape(name)
		n := 1
		for _, s := range shape {
			n *= s
		}
		w := make([]float32, n)
		must(t, m.ReadF32(name, w))
		square := 0.0
		for _, x := range w {
			square += float64(x) * float64(x)
		}
		if !(math.Abs(math.Sqrt(square)-want.Norm) <= 1e-3*want.Norm) {
			t.Errorf("%s: norm %v, TRL's %v", name, math.Sqrt(square), want.Norm)
		}
		for i, x := range want.First4 {
			if !(math.Abs(float64(w[i])-x) <= 0.05*want.Moved) {
				t.Errorf("%s[%d]: %v, TRL's %v (the tensor moved by %v)", name, i, w[i], x, want.Moved)
			}
		}
	}
}

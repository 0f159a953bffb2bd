package train

import (
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/safetensors"
	"github.com/seed-8780d58e/spin/pkg/spin"
)

// masters plays two steps on the golden's games and returns every master and the step's figures.
func masters(t *testing.T, isa string, threads int, dtype compute.DType, lora bool, memory int64, sft bool) (map[string][]float32, []Outcome) {
	t.Helper()
	dev, err := cpu.New(cpu.Config{Threads: threads, ISA: isa})
	must(t, err)
	defer dev.Close()
	opt := model.Options{DType: dtype, Full: !lora}
	if lora {
		opt.LoRA = &model.LoRA{Rank: 4, Alpha: 8, Seed: 3, Targets: []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}}
	}
	m := tinyModel(t, dev, opt)
	l, err := NewLearner(m, Settings{MicroTokens: 160, Memory: memory, Rule: optim.RMSProp(), MaxNorm: 1})
	must(t, err)
	defer l.Free()
	_, games := readTRL(t)
	must(t, l.Score(games))
	var outs []Outcome
	for i := range 2 {
		batch := games[8*i : 8*i+8] // several micro-batches
		var out Outcome
		if sft {
			out, err = l.Imitate(batch, 1e-3)
		} else {
			out, err = l.Play(batch, spin.Objective{Loss: spin.Logistic, Beta: 0.1}, 1e-3)
		}
		must(t, err)
		out.Traces = slices.Clone(out.Traces)
		outs = append(outs, out)
	}
	all := map[string][]float32{}
	for _, p := range m.Params() {
		if p.Trainable() {
			all[p.Name] = make([]float32, p.Rows*p.Cols)
			must(t, m.ReadF32(p.Name, all[p.Name]))
		}
	}
	return all, outs
}

// instructions are the instruction sets of this machine, or the one that $SPIN_CPU forces.
func instructions() []string {
	if isa := os.Getenv("SPIN_CPU"); isa != "" {
		return []string{isa}
	}
	return cpu.Instructions()
}

// TestStepsDependOnTheGamesAlone: whole steps (score, play, clip, update) leave masters of the same
// bits, and the same figures, whatever the threads and the memory; the first loss is ln 2 exactly.
func TestStepsDependOnTheGamesAlone(t *testing.T) {
	for _, isa := range instructions() {
		for _, dtype := range []compute.DType{compute.F32, compute.BF16} {
			for _, objective := range []string{"spin", "lora", "sft"} {
				t.Run(fmt.Sprintf("%s/%v/%s", isa, dtype, objective), func(t *testing.T) {
					lora, sft := objective == "lora", objective == "sft"
					want, outs := masters(t, isa, 1, dtype, lora, 0, sft)
					if !sft && (outs[0].Loss != math.Ln2 || outs[0].Margin() != 0) {
						t.Errorf("first loss %v, margin %v; want ln 2 and 0 exactly", outs[0].Loss, outs[0].Margin())
					}
					if outs[1].Loss == outs[0].Loss {
						t.Error("the loss does not move")
					}
					for _, by := range []struct {
						threads int
						memory  int64
					}{{2, 0}, {1, 1}, {3, 400 << 10}} {
						got, o := masters(t, isa, by.threads, dtype, lora, by.memory, sft)
						for name := range want {
							if !slices.Equal(got[name], want[name]) {
								t.Errorf("%+v: %s differs", by, name)
							}
						}
						for i := range o {
							if o[i].Loss != outs[i].Loss || o[i].GradNorm != outs[i].GradNorm || !slices.Equal(o[i].Traces, outs[i].Traces) {
								t.Errorf("%+v: step %d: loss %v, gradient norm %v; want %v and %v", by, i+1, o[i].Loss, o[i].GradNorm, outs[i].Loss, outs[i].GradNorm)
							}
						}
					}
				})
			}
		}
	}
}

// TestMergedIsAdapters: the checkpoint of a model with adapters scores as the model itself does, but
// for the rounding of the merged weights.
func TestMergedIsAdapters(t *testing.T) {
	dev, err := cpu.New(cpu.Config{Threads: 2})
	must(t, err)
	defer dev.Close()
	src, err := safetensors.Open("testdata/tiny/model.safetensors")
	must(t, err)
	defer src.Close()
	targets := []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
	m := tinyModel(t, dev, model.Options{DType: compute.F32, LoRA: &model.LoRA{Rank: 4, Alpha: 8, Seed: 3, Targets: targets}})
	l, err := NewLearner(m, Settings{MicroTokens: 512, Rule: optim.RMSProp()})
	must(t, err)
	defer l.Free()
	_, games := readTRL(t)
	must(t, l.Score(games))
	start := games[0].Real.OpponentLogp
	for range 3 {
		_, err := l.Play(games[:8], spin.Objective{Loss: spin.Logistic, Beta: 0.1}, 1e-2)
		must(t, err)
	}
	must(t, l.Score(games))
	want := slices.Clone(games)
	whole, err := model.New(dev, dev.NewBackend(), m.Config, Weights(m, stored{src}), model.Options{DType: compute.F32, Full: true})
	must(t, err)
	defer whole.Free()
	again, err := NewLearner(whole, Settings{MicroTokens: 512, Rule: optim.RMSProp()})
	must(t, err)
	defer again.Free()
	must(t, again.Score(games))
	for i := range games {
		got, w := games[i].Real.OpponentLogp, want[i].Real.OpponentLogp
		if !(math.Abs(got-w) <= 1e-4*math.Abs(w)) {
			t.Errorf("game %d: logp %v merged, %v with adapters", i, got, w)
		}
	}
	if want[0].Real.OpponentLogp == start {
		t.Error("the adapters have learnt nothing")
	}
}

// TestSteadyTrainingAllocatesNothing: a whole step, from games to updated weights, takes no memory.
func TestSteadyTrainingAllocatesNothing(t *testing.T) {
	for _, dtype := range []compute.DType{compute.F32, compute.BF16} {
		for _, opt := range []model.Options{{Full: true}, {LoRA: &model.LoRA{Rank: 4, Alpha: 8, Targets: []string{"q_proj"}}}} {
			dev, err := cpu.New(cpu.Config{Threads: 2})
			must(t, err)
			defer dev.Close()
			opt.DType = dtype
			l, err := NewLearner(tinyModel(t, dev, opt), Settings{MicroTokens: 160, Rule: optim.RMSProp(), MaxNorm: 1})
			must(t, err)
			defer l.Free()
			_, games := readTRL(t)
			must(t, l.Score(games))
			for name, step := range map[string]func() error{
				"play": func() error {
					_, err := l.Play(games[:8], spin.Objective{Loss: spin.Logistic, Beta: 0.1}, 1e-5)
					return err
				},
				"imitate": func() error { _, err := l.Imitate(games[:8], 1e-5); return err },
			} {
				n := math.Inf(1)
				for try := 0; n != 0 && try < 10; try++ { // what earlier tests left running may allocate too
					n = min(n, testing.AllocsPerRun(2, func() { must(t, step()) }))
				}
				if n != 0 {
					t.Errorf("%v, lora=%v: %v allocations in a step of %s", dtype, opt.LoRA != nil, n, name)
				}
			}
		}
	}
}

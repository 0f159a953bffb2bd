package run

import "fmt"

// Presets by name.
var presetNames = [...]string{"default", "quick", "paper"}

// Preset returns the values that hold where a run file says nothing.
//
//   - default: sized for the default model of 135 M parameters on two cores; found by experiment (RATIONALE.md)
//   - quick: fewer prompts and one epoch of fine-tuning, for a first look
//   - paper: the official implementation's values (uclaml/SPIN at a12ba80, configs and scripts), for a model that is fine-tuned already
func Preset(name string) (Spec, error) {
	s := Spec{
		Preset: "default", Seed: 1, Iterations: 2, Draws: 1,
		Data:     Data{Prompts: 128, Heldout: 64, MaxPromptTokens: 256},
		Sampling: Sampling{MaxNewTokens: 64, Temperature: 1, TopP: 1},
		SFT: SFT{
			Epochs: 2, LR: 2e-5, Batch: 8, Warmup: 0.1, Schedule: "linear", MaxGradNorm: 1,
			Optimizer: Optimizer{Name: "adamw", Beta1: 0.9, Beta2: 0.999, Eps: 1e-8},
		},
		SPIN: SPIN{
			Loss: Each("logistic"), Beta: Each(0.1), LR: Each(2e-6, 1e-6), Epochs: Each(1), Horizon: Each(0), MixPrevious: Each(true),
			Batch: 8, Warmup: 0.3, Schedule: "linear", MaxGradNorm: 1, OpponentLogps: "generator",
			// No bias correction: the first step is ten times the rate, hence the long warm-up.
			Optimizer: Optimizer{Name: "rmsprop", Alpha: 0.99, Eps: 1e-8},
		},
		LoRA:    LoRA{Targets: []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}},
		Engine:  Engine{DType: "auto", Memory: 1 << 30, MicroTokens: 1024, Engines: []string{}},
		Control: "none", Retention: Retention{Last: 2, Best: true},
	}
	switch name {
	case "", "default":
	case "quick":
		s.Preset, s.Data.Prompts, s.Data.Heldout, s.SFT.Epochs = name, 40, 24, 1
	case "paper":
		s.Preset, s.Seed, s.Iterations = name, 42, 4
		s.Data.Prompts, s.Data.Heldout, s.Data.MaxPromptTokens = 49792, 500, 512
		s.Sampling = Sampling{MaxNewTokens: 256, Temperature: 0, TopP: 1} // generate.py passes no do_sample: greedy
		s.SFT.Epochs, s.Control = 0, "none"
		s.SPIN.LR, s.SPIN.Beta = Each(5e-7, 5e-7, 1e-7, 1e-7), Each(0.1, 0.1, 0.1, 5)
		s.SPIN.Epochs, s.SPIN.Horizon, s.SPIN.Warmup, s.SPIN.Batch = Each(2), Each(6), 0.1, 64
		s.Engine.Memory, s.Engine.MicroTokens = 0, 8192
	default:
		return Spec{}, fmt.Errorf("preset %q: want one of %v", name, presetNames)
	}
	return s, nil
}

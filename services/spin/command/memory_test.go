package command

import (
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/services/generator/generate"
)

// What trains on a GPU of 80 GB, by the same account that `spin plan` prints: a trainer in BF16 with F32
// masters, in micro-batches of some sequences of 1,024 tokens (64 pairs are a step by accumulation), and a
// generator beside it in the process. Weights count twice, as on a CPU, which packs them in two forms; a GPU
// needs one. The rows that do not fit keep the account honest.
func TestMemoryOfAGPU(t *testing.T) {
	const card = 80e9
	llama := model.Config{ModelType: "llama", Hidden: 2048, Intermediate: 8192, Layers: 24, Heads: 32, KVHeads: 32, HeadDim: 64, Vocab: 49152, Tied: true}
	mistral := model.Config{ModelType: "mistral", Hidden: 4096, Intermediate: 14336, Layers: 32, Heads: 32, KVHeads: 8, HeadDim: 128, Vocab: 32000}
	for _, tt := range []struct {
		name      string
		cfg       model.Config
		rank      int
		sequences int // of a micro-batch
		optimizer string
		params    int64 // at least: the shape is what the name says
		fits      bool
	}{
		{"llama 1.7B, all weights, rmsprop", llama, 0, 8, "rmsprop", 1.7e9, true},
		{"llama 1.7B, all weights, adamw", llama, 0, 8, "adamw", 1.7e9, true},
		{"mistral 7B, LoRA", mistral, 64, 4, "adamw", 7.2e9, true},
		{"mistral 7B, LoRA, large micro-batches", mistral, 64, 8, "adamw", 7.2e9, false},
		{"mistral 7B, all weights, adamw", mistral, 0, 4, "adamw", 7.2e9, false},
	} {
		spec := run.Spec{}
		spec.Engine.MicroTokens = tt.sequences * 1024
		spec.SPIN.Optimizer.Name = tt.optimizer
		spec.LoRA.Rank = tt.rank
		e := estimate{spec: spec, cfg: tt.cfg, dtype: compute.BF16}
		weights, acts, sampler := e.memory(generate.Config{CacheTokens: 64 * 1024})
		all := weights + acts + sampler
		t.Logf("%s: %.1f GB weights, masters, gradients and state, %.1f GB activations, %.1f GB to sample: %.1f GB", tt.name, weights/1e9, acts/1e9, sampler/1e9, all/1e9)
		if n := int64(tt.cfg.Parameters()); n < tt.params {
			t.Errorf("%s has %d parameters, want %d", tt.name, n, tt.params)
		}
		if !(weights > 0 && acts > 0 && sampler > 0) || (all <= card) != tt.fits {
			t.Errorf("%s takes %.1f GB of %.0f, want fits: %v", tt.name, all/1e9, card/1e9, tt.fits)
		}
	}
}

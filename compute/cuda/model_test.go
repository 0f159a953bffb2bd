//go:build cuda

package cuda_test

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/ref"
	"github.com/seed-8780d58e/spin/pkg/engine"
	"github.com/seed-8780d58e/spin/pkg/model"
)

// randomModel is a checkpoint of random weights, the same for the same name.
type randomModel map[string][]int

func (m randomModel) Shape(name string) ([]int, bool) { s, ok := m[name]; return s, ok }

func (m randomModel) ReadF32(name string, dst []float32) error {
	h := fnv.New64a()
	h.Write([]byte(name))
	random := rand.New(rand.NewPCG(3, h.Sum64()))
	for i := range dst {
		dst[i] = float32(random.NormFloat64() * 0.3)
	}
	return nil
}

func newRandomModel(c model.Config) randomModel {
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	m := randomModel{"model.embed_tokens.weight": {c.Vocab, c.Hidden}, "lm_head.weight": {c.Vocab, c.Hidden}, "model.norm.weight": {c.Hidden}}
	for i := range c.Layers {
		for name, shape := range map[string][]int{
			"self_attn.q_proj.weight": {q, c.Hidden}, "self_attn.k_proj.weight": {kv, c.Hidden}, "self_attn.v_proj.weight": {kv, c.Hidden}, "self_attn.o_proj.weight": {c.Hidden, q},
			"self_attn.q_proj.bias": {q}, "self_attn.k_proj.bias": {kv}, "self_attn.v_proj.bias": {kv},
			"mlp.gate_proj.weight": {c.Intermediate, c.Hidden}, "mlp.up_proj.weight": {c.Intermediate, c.Hidden}, "mlp.down_proj.weight": {c.Hidden, c.Intermediate},
			"input_layernorm.weight": {c.Hidden}, "post_attention_layernorm.weight": {c.Hidden},
		} {
			m[fmt.Sprintf("model.layers.%d.%s", i, name)] = shape
		}
	}
	return m
}

// TestEngine generates with the real engine and model, knowing nothing of GPUs: continuous batching,
// prompts read in chunks, shared pages copied before they are written. The draws are the oracle's.
func TestEngine(t *testing.T) {
	llama := model.Config{ModelType: "llama", Hidden: 12, Intermediate: 20, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 6, Vocab: 23, Eps: 1e-5, Context: 64, RoPE: model.RoPE{Theta: 1e4, Type: "default"}}
	mistral, qwen := llama, llama
	mistral.ModelType, mistral.Window, mistral.Hidden = "mistral", 5, 16
	qwen.ModelType, qwen.QKVBias = "qwen2", true
	for _, c := range []model.Config{llama, mistral, qwen} {
		t.Run(c.ModelType, func(t *testing.T) {
			d := device(t)
			defer d.Close()
			got, want := generate(t, d, c, compute.F32), generate(t, ref.New(), c, compute.F64)
			if len(want) != 8 {
				t.Fatalf("the oracle gives %d answers, want 8", len(want))
			}
			for i := range want {
				if !slices.Equal(got[i], want[i]) {
					t.Errorf("answer %d is %v, the oracle's %v", i, got[i], want[i])
				}
			}
		})
	}
}

func generate(t *testing.T, dev compute.Device, c model.Config, dt compute.DType) (answers [][]int32) {
	m, err := model.New(dev, dev.NewBackend(), c, newRandomModel(c), model.Options{DType: dt})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	decoder := m.NewDecoder(model.DecoderConfig{Rows: 16, Sequences: 6, Pages: 60, PageTokens: 4})
	defer decoder.Free()
	e := engine.New(decoder)
	for i := range 4 {
		if err := e.Submit(&engine.Request{Prompt: []int32{1, 2, 3, 4, 5, 6, int32(i), 3}, Draws: 2, MaxNew: 12, Temperature: 1, TopP: 0.95, Index: uint32(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for !e.Idle() {
		finished, err := e.Step()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range finished {
			for _, a := range r.Answers {
				answers = append(answers, a.IDs)
			}
		}
	}
	return answers
}

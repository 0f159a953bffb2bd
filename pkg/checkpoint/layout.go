package checkpoint

import (
	"fmt"
	"maps"
	"slices"
)

// A parameter is one weight of a model: what Hugging Face and llama.cpp call it, and its shape.
type parameter struct {
	name, gguf string
	shape      []int
	heads      int // Q and K: over how many heads the rows are spread; else 0
}

func (p parameter) len() int {
	n := 1
	for _, d := range p.shape {
		n *= d
	}
	return n
}

// parameters lists all weights in the order in which a forward pass meets them. Sources: modeling_llama.py,
// modeling_mistral.py and modeling_qwen2.py of transformers; gguf/tensor_mapping.py of llama.cpp.
func (c config) parameters() []parameter {
	var all []parameter
	add := func(name, gguf string, shape ...int) { all = append(all, parameter{name, gguf, shape, 0}) }

	hidden, q, kv := c.HiddenSize, c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	qkvBias := c.ModelType == "qwen2" || c.ModelType == "llama" && c.AttentionBias
	oBias := c.ModelType == "llama" && c.AttentionBias
	mlpBias := c.ModelType == "llama" && c.MLPBias

	add("model.embed_tokens.weight", "token_embd.weight", c.VocabSize, hidden)
	for i := range c.NumHiddenLayers {
		layer, block := fmt.Sprintf("model.layers.%d.", i), fmt.Sprintf("blk.%d.", i)
		linear := func(name, gguf string, out, in, heads int, bias bool) {
			all = append(all, parameter{layer + name + ".weight", block + gguf + ".weight", []int{out, in}, heads})
			if bias {
				all = append(all, parameter{layer + name + ".bias", block + gguf + ".bias", []int{out}, heads})
			}
		}
		add(layer+"input_layernorm.weight", block+"attn_norm.weight", hidden)
		linear("self_attn.q_proj", "attn_q", q, hidden, c.NumAttentionHeads, qkvBias)
		linear("self_attn.k_proj", "attn_k", kv, hidden, c.NumKeyValueHeads, qkvBias)
		linear("self_attn.v_proj", "attn_v", kv, hidden, 0, qkvBias)
		linear("self_attn.o_proj", "attn_output", hidden, q, 0, oBias)
		add(layer+"post_attention_layernorm.weight", block+"ffn_norm.weight", hidden)
		linear("mlp.gate_proj", "ffn_gate", c.IntermediateSize, hidden, 0, mlpBias)
		linear("mlp.up_proj", "ffn_up", c.IntermediateSize, hidden, 0, mlpBias)
		linear("mlp.down_proj", "ffn_down", hidden, c.IntermediateSize, 0, mlpBias)
	}
	add("model.norm.weight", "output_norm.weight", hidden)
	if !c.TieWordEmbeddings {
		add("lm_head.weight", "output.weight", c.VocabSize, hidden)
	}
	return all
}

// ggufRow is where a GGUF of the llama family keeps a row of Q or K. Hugging Face rotates the first half of a head's rows
// against the second; llama.cpp rotates neighbours, and its converter (LlamaModel.permute) interleaves the halves for it.
func (p parameter) ggufRow(row int) int {
	dim := p.shape[0] / p.heads
	head, r := row/dim*dim, row%dim
	return head + r%(dim/2)*2 + r/(dim/2)
}

// permutes says whether llama.cpp keeps a family's Q and K rows in its own order.
func (c config) permutes() bool { return c.ModelType != "qwen2" }

func byName(parameters []parameter) map[string]parameter {
	m := make(map[string]parameter, len(parameters))
	for _, p := range parameters {
		m[p.name] = p
	}
	return m
}

func sortedNames(parameters map[string]parameter) []string {
	return slices.Sorted(maps.Keys(parameters))
}

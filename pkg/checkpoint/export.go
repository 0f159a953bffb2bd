package checkpoint

import (
	"errors"
	"fmt"
	"strings"

	"github.com/seed-8780d58e/spin/pkg/gguf"
)

// WriteGGUF writes a model as one GGUF file that llama.cpp loads. config is a config.json whose weights src has; tokenizer
// has the pairs to carry over, of which those under "tokenizer." and "general." are taken: the metadata of the GGUF that
// the model came from, or what [Vocabulary] made.
//
// Matrices are stored as t: F32, F16, BF16 or Q8_0. Vectors (norms, biases) stay F32, and rows that are not whole
// blocks of Q8_0 are stored as F16, as llama.cpp does. The file appears when it is complete; one weight at a time is held
// in memory.
func WriteGGUF(path string, config []byte, tokenizer *gguf.Metadata, src Source, t gguf.Type) error {
	c, err := parseConfig(config)
	if err != nil {
		return fmt.Errorf("write %s: config.json: %w", path, err)
	}
	if err := checkSource(c, src); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	m, err := c.metadata(tokenizer, t)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	var tensors []gguf.Tensor
	parameters := make(map[string]parameter)
	for _, p := range c.parameters() {
		tensors = append(tensors, gguf.Tensor{Name: p.gguf, Type: p.storedAs(t), Shape: p.shape})
		parameters[p.gguf] = p
	}
	if c.RopeScaling != nil && c.RopeScaling.Type == "llama3" {
		tensors = append(tensors, gguf.Tensor{Name: ropeFactors, Type: gguf.F32, Shape: []int{c.HeadDim / 2}})
	}
	var rows []float32
	return gguf.Write(path, m, tensors, func(name string, dst []float32) error {
		p, ok := parameters[name]
		switch {
		case !ok:
			copy(dst, c.RopeScaling.llama3Factors(c.RopeTheta, c.HeadDim))
			return nil
		case p.heads == 0 || !c.permutes():
			return src.ReadF32(p.name, dst)
		}
		rows = append(rows[:0], dst...)
		if err := src.ReadF32(p.name, rows); err != nil {
			return err
		}
		cols := len(dst) / p.shape[0]
		for row := range p.shape[0] {
			copy(dst[p.ggufRow(row)*cols:][:cols], rows[row*cols:])
		}
		return nil
	})
}

func (p parameter) storedAs(t gguf.Type) gguf.Type {
	cols := p.shape[len(p.shape)-1]
	switch block, _ := t.Block(); {
	case len(p.shape) == 1:
		return gguf.F32
	case cols%block != 0:
		return gguf.F16
	}
	return t
}

// metadata makes the pairs that llama.cpp reads (gguf-py/gguf/constants.py; docs/gguf.md, "Standardized key-value pairs").
func (c config) metadata(tokenizer *gguf.Metadata, t gguf.Type) (*gguf.Metadata, error) {
	fileType, ok := map[gguf.Type]uint32{gguf.F32: 0, gguf.F16: 1, gguf.Q8_0: 7, gguf.BF16: 32}[t] // enum llama_ftype
	if !ok {
		return nil, fmt.Errorf("weights cannot be stored as %v: use F32, F16, BF16 or Q8_0", t)
	}
	if c.MaxPositionEmbeddings < 1 {
		return nil, fmt.Errorf("config.json: max_position_embeddings is %d: it must be at least 1", c.MaxPositionEmbeddings)
	}
	arch := "llama"
	if c.ModelType == "qwen2" {
		arch = "qwen2"
	}
	m := &gguf.Metadata{}
	m.Set("general.architecture", arch)
	for _, key := range tokenizer.Keys() {
		switch {
		case key == "general.architecture", key == "general.alignment", key == "general.file_type", key == "general.quantization_version":
		case strings.HasPrefix(key, "general."), strings.HasPrefix(key, "tokenizer."):
			m.Set(key, tokenizer.Value(key))
		}
	}
	m.Set("general.file_type", fileType)
	m.Set("general.quantization_version", uint32(2))

	set := func(key string, n int) { m.Set(arch+"."+key, uint32(n)) }
	set("block_count", c.NumHiddenLayers)
	set("context_length", c.MaxPositionEmbeddings)
	set("embedding_length", c.HiddenSize)
	set("feed_forward_length", c.IntermediateSize)
	set("vocab_size", c.VocabSize)
	set("attention.head_count", c.NumAttentionHeads)
	set("attention.head_count_kv", c.NumKeyValueHeads)
	set("attention.key_length", c.HeadDim)
	set("attention.value_length", c.HeadDim)
	set("rope.dimension_count", c.HeadDim)
	m.Set(arch+".attention.layer_norm_rms_epsilon", c.RMSNormEps)
	m.Set(arch+".rope.freq_base", c.RopeTheta)
	if c.ModelType == "mistral" && c.SlidingWindow != nil {
		set("attention.sliding_window", *c.SlidingWindow)
	}
	return m, c.RopeScaling.addTo(m, arch+".rope.scaling.")
}

// addTo says how positions are scaled. Llama 3.1's way is a tensor, not metadata.
func (r *rope) addTo(m *gguf.Metadata, prefix string) error {
	if r == nil {
		return nil
	}
	switch r.Type {
	case "llama3":
		return nil
	case "linear":
		m.Set(prefix+"type", "linear")
		m.Set(prefix+"factor", r.Factor)
	case "yarn":
		m.Set(prefix+"type", "yarn")
		m.Set(prefix+"factor", r.Factor)
		m.Set(prefix+"original_context_length", uint32(r.OriginalContext))
		if r.AttentionFactor != nil || r.BetaFast != nil || r.BetaSlow != nil {
			return errors.New("config.json: yarn with attention_factor, beta_fast or beta_slow cannot be stored in GGUF")
		}
	default:
		return fmt.Errorf("config.json: rope_type %q cannot be stored in GGUF: linear, yarn and llama3 can", r.Type)
	}
	return nil
}

package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/gguf"
)

// openGGUF opens a GGUF file of the llama or qwen2 architecture (mistral models are stored as llama).
func (c *Checkpoint) openGGUF(path string) error {
	var err error
	if c.gguf, err = gguf.Open(path); err != nil {
		return err
	}
	if err := c.readGGUF(); err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	return nil
}

func (c *Checkpoint) readGGUF() error {
	config, err := configOf(c.gguf)
	if err != nil {
		return err
	}
	if err := config.check(); err != nil {
		return err
	}
	if c.config, err = json.MarshalIndent(config, "", "  "); err != nil {
		return err
	}
	if c.generation, err = generationOf(c.gguf.Metadata); err != nil {
		return err
	}
	c.permuted = config.permutes()
	c.parameters = byName(config.parameters())
	return c.checkGGUF(config)
}

// checkGGUF checks that the weights are those of the configuration.
func (c *Checkpoint) checkGGUF(config config) error {
	known := map[string]bool{ropeFactors: true}
	for _, name := range c.Names() {
		p := c.parameters[name]
		known[p.gguf] = true
		t, ok := c.gguf.Tensor(p.gguf)
		if !ok {
			return fmt.Errorf("tensor %q is missing: a %s model with this metadata has it", p.gguf, config.ModelType)
		}
		if !slices.Equal(t.Shape, p.shape) {
			return fmt.Errorf("tensor %q has shape %v (outermost dimension first): the metadata asks for %v", p.gguf, t.Shape, p.shape)
		}
		if err := t.Readable(); err != nil {
			return err
		}
	}
	for _, t := range c.gguf.Tensors() {
		if !known[t.Name] && !(t.Name == "output.weight" && config.TieWordEmbeddings) {
			return fmt.Errorf("tensor %q has no place in a %s model with this metadata", t.Name, config.ModelType)
		}
	}
	return nil
}

// configOf makes a config.json from a GGUF's metadata and the shapes of its tensors.
func configOf(f *gguf.File) (config, error) {
	m := fields{Metadata: f.Metadata}
	arch := m.text("general.architecture")
	c := config{HiddenAct: "silu", TorchDType: "float32", ModelType: arch}
	switch {
	case m.err != nil:
		return c, m.err
	case arch != "llama" && arch != "mistral" && arch != "qwen2":
		return c, fmt.Errorf("architecture %q is not supported: llama, mistral and qwen2 are", arch)
	case m.int("split.count", 1) > 1:
		return c, fmt.Errorf("the model is split into %d files: merge them first (llama-gguf-split --merge)", m.int("split.count", 1))
	case m.int(arch+".expert_count", 0) > 0:
		return c, errors.New("mixtures of experts are not supported")
	}
	c.HiddenSize = m.int(arch+".embedding_length", required)
	c.IntermediateSize = m.int(arch+".feed_forward_length", required)
	c.NumHiddenLayers = m.int(arch+".block_count", required)
	c.NumAttentionHeads = m.int(arch+".attention.head_count", required)
	c.NumKeyValueHeads = m.int(arch+".attention.head_count_kv", c.NumAttentionHeads)
	c.MaxPositionEmbeddings = m.int(arch+".context_length", required)
	c.RMSNormEps = m.float(arch+".attention.layer_norm_rms_epsilon", math.NaN())
	c.RopeTheta = m.float(arch+".rope.freq_base", 10000)
	if m.err != nil {
		return c, m.err
	}
	if c.NumAttentionHeads < 1 {
		return c, fmt.Errorf("metadata %q is %d: it must be at least 1", arch+".attention.head_count", c.NumAttentionHeads)
	}
	rotated := m.int(arch+".rope.dimension_count", c.HiddenSize/c.NumAttentionHeads)
	c.HeadDim = m.int(arch+".attention.key_length", rotated)
	if value := m.int(arch+".attention.value_length", c.HeadDim); value != c.HeadDim || rotated != c.HeadDim {
		return c, fmt.Errorf("keys of %d elements, of which %d are rotated, and values of %d: only models where these are equal are supported",
			c.HeadDim, rotated, value)
	}
	if arch == "mistral" {
		c.ModelType = "llama" // the same without a window, which transformers gives a mistral model that has none
	}
	if window := m.int(arch+".attention.sliding_window", 0); window > 0 && arch != "qwen2" {
		c.ModelType, c.SlidingWindow = "mistral", &window
	}
	if embedding, ok := f.Tensor("token_embd.weight"); ok {
		c.VocabSize = embedding.Shape[0]
	} else {
		c.VocabSize = m.int(arch+".vocab_size", required)
	}
	_, head := f.Tensor("output.weight")
	c.TieWordEmbeddings = !head
	if c.ModelType == "llama" {
		_, c.AttentionBias = f.Tensor("blk.0.attn_q.bias")
		_, c.MLPBias = f.Tensor("blk.0.ffn_gate.bias")
	}
	c.Architectures = []string{c.architecture()}
	c.BOSTokenID, c.PadTokenID = m.id("tokenizer.ggml.bos_token_id"), m.id("tokenizer.ggml.padding_token_id")
	if eos := m.id("tokenizer.ggml.eos_token_id"); eos != nil {
		c.EOSTokenID = &ids{*eos}
	}
	if m.err != nil {
		return c, m.err
	}
	var err error
	c.RopeScaling, err = ropeOf(f, c)
	return c, err
}

// generationOf makes a generation_config.json: the ids that begin, end and fill texts. Models for chat may end a turn with
// another token than a text; llama.cpp stops at either, and so does transformers, given a list.
func generationOf(metadata *gguf.Metadata) ([]byte, error) {
	m := fields{Metadata: metadata}
	g := struct {
		BOS *int `json:"bos_token_id,omitempty"`
		EOS ids  `json:"eos_token_id,omitempty"`
		Pad *int `json:"pad_token_id,omitempty"`
	}{BOS: m.id("tokenizer.ggml.bos_token_id"), Pad: m.id("tokenizer.ggml.padding_token_id")}
	for _, key := range []string{"eos_token_id", "eot_token_id", "eom_token_id"} {
		if id := m.id("tokenizer.ggml." + key); id != nil && !slices.Contains(g.EOS, *id) {
			g.EOS = append(g.EOS, *id)
		}
	}
	if m.err != nil {
		return nil, m.err
	}
	return json.MarshalIndent(g, "", "  ")
}

// required stands for "no default".
const required = math.MinInt

// fields reads metadata and keeps the first error, so that it is looked at once.
type fields struct {
	*gguf.Metadata
	err error
}

func (m *fields) keep(err error) {
	if m.err == nil {
		m.err = err
	}
}

func (m *fields) text(key string) string {
	v, err := m.String(key)
	m.keep(err)
	return v
}

func (m *fields) int(key string, absent int) int {
	v, err := m.Int(key)
	if errors.Is(err, gguf.ErrNoKey) && absent != required {
		return absent
	}
	if err == nil && (v < 0 || v > math.MaxInt32) {
		err = fmt.Errorf("metadata %q is %d, which is out of range", key, v)
	}
	m.keep(err)
	return v
}

func (m *fields) float(key string, absent float64) float32 {
	v, err := m.Float(key)
	if errors.Is(err, gguf.ErrNoKey) && !math.IsNaN(absent) {
		return float32(absent)
	}
	m.keep(err)
	return float32(v)
}

// id returns a token id, or nil if the key is absent.
func (m *fields) id(key string) *int {
	if !m.Has(key) {
		return nil
	}
	v := m.int(key, required)
	return &v
}

// Package model is a decoder-only transformer of the llama family (llama, mistral, qwen2), driven
// by a Hugging Face config.json. It runs on any compute.Device and does three things: Pass scores
// and differentiates packed games, Decoder advances sequences over a paged cache, and Model.Step
// takes an optimizer step. It knows token ids only, no text.
//
// Read in this order: Config, Model (the weights), layer.go (one block, forward and backward),
// Batch (how games are packed), Pass, Decoder.
package model

import (
	"encoding/json"
	"fmt"
	"math"
)

// Config is the shape of a model: the fields of Hugging Face's config.json that decide the
// computation.
type Config struct {
	ModelType    string // llama, mistral or qwen2
	Hidden       int    // hidden_size
	Intermediate int    // intermediate_size
	Layers       int    // num_hidden_layers
	Heads        int    // num_attention_heads
	KVHeads      int    // num_key_value_heads
	HeadDim      int    // head_dim, else hidden_size / num_attention_heads
	Vocab        int    // vocab_size
	Eps          float64
	Context      int  // max_position_embeddings
	Window       int  // sliding_window; 0: none
	QKVBias      bool // qwen2, and llama with attention_bias
	OBias        bool // llama with attention_bias
	Tied         bool // tie_word_embeddings: the head is the embedding
	RoPE         RoPE
}

// RoPE says how positions rotate; see Tables.
type RoPE struct {
	Theta       float64
	Type        string // default, linear or llama3
	Factor      float64
	LowFreq     float64 // llama3: low_freq_factor
	HighFreq    float64 // llama3: high_freq_factor
	OrigContext int     // llama3: original_max_position_embeddings
}

// limits keep a hostile config.json from asking for absurd memory.
const (
	maxDim    = 1 << 17
	maxLayers = 1 << 10
	maxVocab  = 1 << 22
)

type ropeJSON struct {
	RopeType    string  `json:"rope_type"`
	Type        string  `json:"type"` // its older name
	Theta       float64 `json:"rope_theta"`
	Factor      float64 `json:"factor"`
	LowFreq     float64 `json:"low_freq_factor"`
	HighFreq    float64 `json:"high_freq_factor"`
	OrigContext int     `json:"original_max_position_embeddings"`
}

// ParseConfig reads a config.json. It refuses what this package would compute wrongly.
func ParseConfig(data []byte) (Config, error) {
	var j struct {
		ModelType     string          `json:"model_type"`
		Hidden        int             `json:"hidden_size"`
		Intermediate  int             `json:"intermediate_size"`
		Layers        int             `json:"num_hidden_layers"`
		Heads         int             `json:"num_attention_heads"`
		KVHeads       *int            `json:"num_key_value_heads"`
		HeadDim       *int            `json:"head_dim"`
		Vocab         int             `json:"vocab_size"`
		Eps           *float64        `json:"rms_norm_eps"`
		Context       int             `json:"max_position_embeddings"`
		Window        json.RawMessage `json:"sliding_window"`
		UseWindow     *bool           `json:"use_sliding_window"`
		AttentionBias bool            `json:"attention_bias"`
		MLPBias       bool            `json:"mlp_bias"`
		Tied          *bool           `json:"tie_word_embeddings"`
		Act           string          `json:"hidden_act"`
		Theta         *float64        `json:"rope_theta"`
		Scaling       *ropeJSON       `json:"rope_scaling"`
		Parameters    *ropeJSON       `json:"rope_parameters"` // transformers 5: scaling and theta together
	}
	if err := json.Unmarshal(data, &j); err != nil {
		return Config{}, fmt.Errorf("config.json: %w", err)
	}
	c := Config{
		ModelType: j.ModelType, Hidden: j.Hidden, Intermediate: j.Intermediate, Layers: j.Layers,
		Heads: j.Heads, KVHeads: j.Heads, Vocab: j.Vocab, Eps: 1e-6, Context: j.Context,
		RoPE: RoPE{Theta: 10000, Type: "default"},
	}
	switch j.ModelType {
	case "llama":
		c.QKVBias, c.OBias = j.AttentionBias, j.AttentionBias
	case "mistral":
		c.Window = 4096 // transformers' default where the field is absent; null means none
		if j.Window != nil {
			c.Window = 0
			if err := json.Unmarshal(j.Window, &c.Window); err != nil {
				return c, fmt.Errorf("config.json: sliding_window: %w", err)
			}
		}
	case "qwen2":
		c.QKVBias = true
		if j.UseWindow != nil && *j.UseWindow {
			return c, fmt.Errorf("config.json: use_sliding_window of qwen2 is not supported (its layers differ)")
		}
	default:
		return c, fmt.Errorf("config.json: model_type %q, want llama, mistral or qwen2", j.ModelType)
	}
	if j.Act != "" && j.Act != "silu" && j.Act != "swish" {
		return c, fmt.Errorf("config.json: hidden_act %q, want silu", j.Act)
	}
	if j.MLPBias {
		return c, fmt.Errorf("config.json: mlp_bias is not supported")
	}
	if j.KVHeads != nil {
		c.KVHeads = *j.KVHeads
	}
	if j.Eps != nil {
		c.Eps = *j.Eps
	}
	if j.Tied != nil {
		c.Tied = *j.Tied
	}
	if j.Theta != nil {
		c.RoPE.Theta = *j.Theta
	}
	if c.Heads > 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
	if j.HeadDim != nil && *j.HeadDim != 0 {
		c.HeadDim = *j.HeadDim
	}
	for _, s := range []*ropeJSON{j.Scaling, j.Parameters} {
		if s == nil {
			continue
		}
		if s.Theta != 0 {
			c.RoPE.Theta = s.Theta
		}
		kind := s.RopeType
		if kind == "" {
			kind = s.Type
		}
		if kind == "" {
			kind = "default"
		}
		c.RoPE.Type, c.RoPE.Factor = kind, s.Factor
		c.RoPE.LowFreq, c.RoPE.HighFreq, c.RoPE.OrigContext = s.LowFreq, s.HighFreq, s.OrigContext
	}
	return c, c.check()
}

func (c Config) check() error {
	for _, f := range []struct {
		name     string
		v, limit int
	}{
		{"hidden_size", c.Hidden, maxDim}, {"intermediate_size", c.Intermediate, maxDim},
		{"num_hidden_layers", c.Layers, maxLayers}, {"num_attention_heads", c.Heads, maxDim},
		{"num_key_value_heads", c.KVHeads, maxDim}, {"head_dim", c.HeadDim, maxDim},
		{"vocab_size", c.Vocab, maxVocab}, {"max_position_embeddings", c.Context, math.MaxInt32},
	} {
		if f.v < 1 || f.v > f.limit {
			return fmt.Errorf("config.json: %s is %d, want 1 to %d", f.name, f.v, f.limit)
		}
	}
	switch {
	case c.Heads%c.KVHeads != 0:
		return fmt.Errorf("config.json: %d attention heads do not divide into %d key/value heads", c.Heads, c.KVHeads)
	case c.HeadDim%2 != 0:
		return fmt.Errorf("config.json: head_dim %d is odd", c.HeadDim)
	case !(c.Eps > 0 && c.Eps < 1):
		return fmt.Errorf("config.json: rms_norm_eps is %v", c.Eps)
	case !(c.RoPE.Theta > 0 && c.RoPE.Theta < math.MaxFloat64):
		return fmt.Errorf("config.json: rope_theta is %v", c.RoPE.Theta)
	case c.Window < 0:
		return fmt.Errorf("config.json: sliding_window is %d", c.Window)
	}
	return c.RoPE.check()
}

// QueryWidth and KVWidth are the columns of q and of k and v.
func (c Config) QueryWidth() int { return c.Heads * c.HeadDim }

// KVWidth is the columns of k and of v.
func (c Config) KVWidth() int { return c.KVHeads * c.HeadDim }

// Parameters is the number of trainable numbers of the whole model.
func (c Config) Parameters() int64 {
	var n int64
	for _, s := range c.specs() {
		n += int64(s.rows) * int64(s.cols)
	}
	return n
}

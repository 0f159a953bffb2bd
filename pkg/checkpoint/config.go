package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
)

// A config is the part of config.json that decides which weights there are, and what a GGUF must say. Field names are
// Hugging Face's. Only what is known is written: the order of the fields is that of the file.
type config struct {
	Architectures         []string `json:"architectures,omitempty"`
	ModelType             string   `json:"model_type"`
	HiddenSize            int      `json:"hidden_size"`
	IntermediateSize      int      `json:"intermediate_size"`
	NumHiddenLayers       int      `json:"num_hidden_layers"`
	NumAttentionHeads     int      `json:"num_attention_heads"`
	NumKeyValueHeads      int      `json:"num_key_value_heads"`
	HeadDim               int      `json:"head_dim"`
	VocabSize             int      `json:"vocab_size"`
	MaxPositionEmbeddings int      `json:"max_position_embeddings"`
	HiddenAct             string   `json:"hidden_act"`
	RMSNormEps            float32  `json:"rms_norm_eps"`
	RopeTheta             float32  `json:"rope_theta"`
	RopeScaling           *rope    `json:"rope_scaling"`
	SlidingWindow         *int     `json:"sliding_window,omitempty"`
	UseSlidingWindow      *bool    `json:"use_sliding_window,omitempty"`
	AttentionBias         bool     `json:"attention_bias"`
	MLPBias               bool     `json:"mlp_bias"`
	TieWordEmbeddings     bool     `json:"tie_word_embeddings"`
	BOSTokenID            *int     `json:"bos_token_id,omitempty"`
	EOSTokenID            *ids     `json:"eos_token_id,omitempty"`
	PadTokenID            *int     `json:"pad_token_id,omitempty"`
	TorchDType            string   `json:"torch_dtype,omitempty"`
}

// A rope is rope_scaling, or rope_parameters of transformers 5, which has the base as well.
type rope struct {
	Type            string   `json:"rope_type"`
	OldType         string   `json:"type,omitempty"` // its name before transformers 4.43
	Theta           float32  `json:"rope_theta,omitempty"`
	Factor          float32  `json:"factor,omitempty"`
	LowFreqFactor   float32  `json:"low_freq_factor,omitempty"`
	HighFreqFactor  float32  `json:"high_freq_factor,omitempty"`
	OriginalContext int      `json:"original_max_position_embeddings,omitempty"`
	AttentionFactor *float32 `json:"attention_factor,omitempty"`
	BetaFast        *float32 `json:"beta_fast,omitempty"`
	BetaSlow        *float32 `json:"beta_slow,omitempty"`
}

// ids is one token id or a list of them.
type ids []int

func (i *ids) UnmarshalJSON(data []byte) error {
	var one int
	if err := json.Unmarshal(data, &one); err == nil {
		*i = ids{one}
		return nil
	}
	return json.Unmarshal(data, (*[]int)(i))
}

func (i ids) MarshalJSON() ([]byte, error) {
	if len(i) == 1 {
		return json.Marshal(i[0])
	}
	return json.Marshal([]int(i))
}

// Bounds far above any model, so that sizes computed from a hostile file do not overflow.
const (
	maxDim    = 1 << 20
	maxLayers = 1 << 12
	maxVocab  = 1 << 24
)

// parseConfig reads config.json. What is absent gets transformers' default.
func parseConfig(data []byte) (config, error) {
	if !strings.HasPrefix(strings.TrimSpace(string(data)), "{") {
		return config{}, errors.New("not a JSON object")
	}
	window := 4096 // what MistralConfig takes an absent sliding_window for; null is none
	c := config{HiddenAct: "silu", RMSNormEps: 1e-6, RopeTheta: 10000, SlidingWindow: &window}
	extra := struct {
		RopeParameters *rope `json:"rope_parameters"`
	}{}
	if err := json.Unmarshal(data, &c); err != nil {
		return config{}, err
	}
	if err := json.Unmarshal(data, &extra); err != nil {
		return config{}, err
	}
	if extra.RopeParameters != nil {
		c.RopeScaling = extra.RopeParameters
	}
	if r := c.RopeScaling; r != nil {
		if r.Theta != 0 {
			c.RopeTheta = r.Theta
		}
		if r.Type == "" {
			r.Type = r.OldType
		}
		if r.Type == "" || r.Type == "default" {
			c.RopeScaling = nil
		}
	}
	if c.ModelType != "mistral" {
		c.SlidingWindow = nil
	}
	if c.NumKeyValueHeads == 0 {
		c.NumKeyValueHeads = c.NumAttentionHeads
	}
	if c.HeadDim == 0 && c.NumAttentionHeads > 0 {
		c.HeadDim = c.HiddenSize / c.NumAttentionHeads
	}
	return c, c.check()
}

// check refuses what is not one of the known families, and sizes that no weights could have.
func (c config) check() error {
	switch c.ModelType {
	case "llama", "mistral", "qwen2":
	default:
		return fmt.Errorf("model_type %q is not supported: llama, mistral and qwen2 are", c.ModelType)
	}
	for _, n := range []struct {
		key        string
		value, max int
	}{
		{"hidden_size", c.HiddenSize, maxDim},
		{"intermediate_size", c.IntermediateSize, maxDim},
		{"num_hidden_layers", c.NumHiddenLayers, maxLayers},
		{"num_attention_heads", c.NumAttentionHeads, maxDim},
		{"num_key_value_heads", c.NumKeyValueHeads, maxDim},
		{"head_dim", c.HeadDim, maxDim},
		{"vocab_size", c.VocabSize, maxVocab},
	} {
		if n.value < 1 || n.value > n.max {
			return fmt.Errorf("%s is %d: it must be 1 to %d", n.key, n.value, n.max)
		}
	}
	switch {
	case c.NumAttentionHeads%c.NumKeyValueHeads != 0:
		return fmt.Errorf("num_attention_heads, %d, is not a multiple of num_key_value_heads, %d", c.NumAttentionHeads, c.NumKeyValueHeads)
	case c.HeadDim%2 != 0:
		return fmt.Errorf("head_dim is %d: it must be even", c.HeadDim)
	case !(c.RMSNormEps > 0) || math.IsInf(float64(c.RMSNormEps), 0):
		return fmt.Errorf("rms_norm_eps is %g: it must be above 0", c.RMSNormEps)
	case !(c.RopeTheta > 0) || math.IsInf(float64(c.RopeTheta), 0):
		return fmt.Errorf("rope_theta is %g: it must be above 0", c.RopeTheta)
	}
	return nil
}

// architecture is the class of transformers that runs the model.
func (c config) architecture() string {
	switch c.ModelType {
	case "mistral":
		return "MistralForCausalLM"
	case "qwen2":
		return "Qwen2ForCausalLM"
	}
	return "LlamaForCausalLM"
}

// derived says whether a tensor that is not a parameter may be there: older releases of transformers stored buffers, and
// some tools store the tied head a second time.
func (c config) derived(name string) bool {
	return strings.HasSuffix(name, ".rotary_emb.inv_freq") || name == "lm_head.weight" && c.TieWordEmbeddings
}

package model

import (
	"strings"
	"testing"
)

func TestParseConfigRefuses(t *testing.T) {
	const ok = `"model_type":"llama","hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,"vocab_size":100,"max_position_embeddings":128`
	if _, err := ParseConfig([]byte("{" + ok + "}")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, json, want string }{
		{"not an object", `[]`, "config.json"},
		{"other family", `{"model_type":"gpt2"}`, "want llama, mistral or qwen2"},
		{"activation", `{` + ok + `,"hidden_act":"gelu"}`, "want silu"},
		{"zero width", `{` + strings.Replace(ok, `"hidden_size":64`, `"hidden_size":0`, 1) + `}`, "hidden_size is 0"},
		{"absurd width", `{` + strings.Replace(ok, `"hidden_size":64`, `"hidden_size":99999999`, 1) + `}`, "hidden_size is 99999999"},
		{"negative vocabulary", `{` + strings.Replace(ok, `"vocab_size":100`, `"vocab_size":-1`, 1) + `}`, "vocab_size is -1"},
		{"key/value heads", `{` + ok + `,"num_key_value_heads":3}`, "do not divide"},
		{"odd head", `{` + ok + `,"head_dim":7}`, "odd"},
		{"theta", `{` + ok + `,"rope_theta":-1}`, "rope_theta"},
		{"scaling", `{` + ok + `,"rope_scaling":{"rope_type":"yarn","factor":2}}`, `"yarn"`},
		{"llama3 without bounds", `{` + ok + `,"rope_scaling":{"rope_type":"llama3","factor":8}}`, "low_freq_factor"},
		{"mlp bias", `{` + ok + `,"mlp_bias":true}`, "mlp_bias"},
		{"window", `{` + strings.Replace(ok, "llama", "mistral", 1) + `,"sliding_window":"x"}`, "sliding_window"},
	} {
		_, err := ParseConfig([]byte(c.json))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", c.name, err, c.want)
		}
	}
}

func TestWindow(t *testing.T) {
	const base = `"model_type":"mistral","hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,"vocab_size":100,"max_position_embeddings":128`
	for json, want := range map[string]int{"": 4096, `,"sliding_window":null`: 0, `,"sliding_window":7`: 7} {
		c, err := ParseConfig([]byte("{" + base + json + "}"))
		if err != nil || c.Window != want {
			t.Errorf("%q: window %d, %v, want %d", json, c.Window, err, want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"model_type":"llama","hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,"vocab_size":100,"max_position_embeddings":128}`))
	f.Add([]byte(`{"model_type":"qwen2","rope_scaling":{"rope_type":"llama3"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig(data)
		if err != nil {
			return
		}
		if c.QueryWidth() <= 0 || c.KVWidth() <= 0 || c.Parameters() <= 0 {
			t.Errorf("accepted %+v", c)
		}
	})
}

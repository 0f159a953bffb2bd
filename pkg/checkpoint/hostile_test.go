package checkpoint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/gguf"
	"github.com/seed-8780d58e/spin/pkg/safetensors"
)

// TestHostileFolder damages a good folder in one way each: one line that says what and where.
func TestHostileFolder(t *testing.T) {
	put := func(name, content string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// rewrite replaces the weights.
	rewrite := func(change func(w weights)) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			w := toy(t, toys["llama"])
			change(w)
			var tensors []safetensors.Tensor
			for _, name := range w.Names() {
				tensors = append(tensors, safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: w[name].shape})
			}
			if err := safetensors.Write(dir, tensors, safetensors.Options{}, w.ReadF32); err != nil {
				t.Fatal(err)
			}
		}
	}
	config := func(old, new string) func(t *testing.T, dir string) {
		return put("config.json", strings.Replace(toys["llama"], old, new, 1))
	}
	const norm = "model.norm.weight"
	for _, c := range []struct {
		name, want string
		damage     func(t *testing.T, dir string)
	}{
		{"no config", "config.json: no such file", remove("config.json")},
		{"config is empty", "config.json: not a JSON object", put("config.json", "")},
		{"config is an array", "config.json: not a JSON object", put("config.json", "[]")},
		{"config is null", "config.json: not a JSON object", put("config.json", "null")},
		{"config is cut", "config.json: unexpected end", put("config.json", `{"model_type":"llama"`)},
		{"config has text for a number", "config.json: json: cannot unmarshal", config(`"vocab_size":40`, `"vocab_size":"40"`)},
		{"family", `model_type "gpt2" is not supported: llama, mistral and qwen2 are`, config(`"llama"`, `"gpt2"`)},
		{"no size", "hidden_size is 0: it must be 1 to", config(`"hidden_size":64,`, ``)},
		{"huge", "num_hidden_layers is 1000000000: it must be 1 to", config(`"num_hidden_layers":2`, `"num_hidden_layers":1000000000`)},
		{"heads", "is not a multiple of", config(`"num_key_value_heads":2`, `"num_key_value_heads":3`)},
		{"odd heads", "head_dim is 15: it must be even", config(`"vocab_size"`, `"head_dim":15,"vocab_size"`)},
		{"no weights", "no weights: neither model.safetensors nor model.safetensors.index.json is there", remove("model.safetensors")},
		{"weights are a folder", "is not a regular file", func(t *testing.T, dir string) {
			remove("model.safetensors")(t, dir)
			if err := os.Mkdir(filepath.Join(dir, "model.safetensors"), 0o755); err != nil {
				t.Fatal(err)
			}
		}},
		{"weights are cut", "model.safetensors: file is truncated", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "model.safetensors"), 10000); err != nil {
				t.Fatal(err)
			}
		}},
		{"shard is absent", "model-2.safetensors: no such file", func(t *testing.T, dir string) {
			remove("model.safetensors")(t, dir)
			put("model.safetensors.index.json", `{"weight_map":{"a":"model-2.safetensors"}}`)(t, dir)
		}},
		{"weight is missing", `tensor "model.norm.weight" is missing: a llama model with this config.json has it`,
			rewrite(func(w weights) { delete(w, norm) })},
		{"weight is misshapen", `tensor "model.norm.weight" in model.safetensors has shape [8 8]: config.json asks for [64]`,
			rewrite(func(w weights) { e := w[norm]; e.shape = []int{8, 8}; w[norm] = e })},
		{"weight too many", `tensor "model.layers.2.x" has no place in a llama model`, rewrite(func(w weights) { w["model.layers.2.x"] = w[norm] })},
		{"fewer layers than weights", `has no place`, config(`"num_hidden_layers":2`, `"num_hidden_layers":1`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "model")
			if err := Write(dir, Files{Config: []byte(toys["llama"])}, toy(t, toys["llama"]), Options{}); err != nil {
				t.Fatal(err)
			}
			c.damage(t, dir)
			_, err := Open(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with the path and %q", err, c.want)
			}
		})
	}
}

// TestBuffers checks that what older tools store besides the parameters does no harm.
func TestBuffers(t *testing.T) {
	w := toy(t, toys["llama"])
	w["model.layers.0.self_attn.rotary_emb.inv_freq"] = w["model.norm.weight"]
	w["lm_head.weight"] = w["model.embed_tokens.weight"]
	dir := t.TempDir()
	var tensors []safetensors.Tensor
	for _, name := range w.Names() {
		tensors = append(tensors, safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: w[name].shape})
	}
	if err := safetensors.Write(dir, tensors, safetensors.Options{}, w.ReadF32); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(toys["llama"]), 0o644); err != nil {
		t.Fatal(err)
	}
	c := open(t, dir)
	if len(c.Names()) != len(w)-2 {
		t.Errorf("names %v", c.Names())
	}
	if string(c.GenerationConfig()) != "{}\n" || c.TokenizerJSON() != nil || c.TokenizerConfigJSON() != nil {
		t.Error("files that are not there were read")
	}
}

// TestHostileGGUF changes a good GGUF in one way each.
func TestHostileGGUF(t *testing.T) {
	for _, c := range []struct {
		name, want string
		key        string
		value      any // nil: leave the key out
		without    string
	}{
		{"no architecture", `"general.architecture": no such key`, "general.architecture", nil, ""},
		{"family", `architecture "gemma" is not supported: llama, mistral and qwen2 are`, "general.architecture", "gemma", ""},
		{"number for text", `"general.architecture" is of type uint8, not a string`, "general.architecture", uint8(1), ""},
		{"no layers", `"llama.block_count": no such key`, "llama.block_count", nil, ""},
		{"heads per layer", "is of type []uint32, not an integer", "llama.attention.head_count", []uint32{4, 4}, ""},
		{"no heads", "head_count\" is 0: it must be at least 1", "llama.attention.head_count", uint32(0), ""},
		{"negative", "out of range", "llama.block_count", int32(-1), ""},
		{"large", "num_hidden_layers is 1000000: it must be", "llama.block_count", uint32(1000000), ""},
		{"not a number", "is of type string, not a number", "llama.attention.layer_norm_rms_epsilon", "x", ""},
		{"experts", "mixtures of experts are not supported", "llama.expert_count", uint32(8), ""},
		{"split", "split into 3 files: merge them first", "split.count", uint16(3), ""},
		{"partial rotation", "only models where these are equal", "llama.rope.dimension_count", uint32(8), ""},
		{"scaling", `is "longrope": none, linear and yarn are supported`, "llama.rope.scaling.type", "longrope", ""},
		{"width", `has shape [40 64] (outermost dimension first): the metadata asks for [40 32]`, "llama.embedding_length", uint32(32), ""},
		{"weight is missing", `tensor "blk.1.ffn_up.weight" is missing: a llama model with this metadata has it`, "general.name", "x", "blk.1.ffn_up.weight"},
		{"weight too many", `tensor "blk.1.attn_norm.weight" has no place in a llama model`, "llama.block_count", uint32(1), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "model.gguf")
			if err := WriteGGUF(path, []byte(toys["llama"]), &gguf.Metadata{}, toy(t, toys["llama"]), gguf.F32); err != nil {
				t.Fatal(err)
			}
			good, err := gguf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer good.Close()
			m := &gguf.Metadata{}
			for _, key := range good.Metadata.Keys() {
				if key != c.key {
					m.Set(key, good.Metadata.Value(key))
				}
			}
			if c.value != nil {
				m.Set(c.key, c.value)
			}
			var tensors []gguf.Tensor
			for _, info := range good.Tensors() {
				if info.Name != c.without {
					tensors = append(tensors, info)
				}
			}
			bad := filepath.Join(t.TempDir(), "bad.gguf")
			if err := gguf.Write(bad, m, tensors, good.ReadF32); err != nil {
				t.Fatal(err)
			}
			_, err = Open(bad)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), bad) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with the path and %q", err, c.want)
			}
		})
	}
}

func TestWrongPath(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{
		"absent":            "no such file",
		"model.safetensors": "give the folder that it is in, or a GGUF file",
		"notes.txt":         `not a GGUF file: it does not start with "GGUF"`,
	} {
		path := filepath.Join(dir, name)
		if name != "absent" {
			if err := os.WriteFile(path, []byte("hello"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// FuzzConfig feeds bytes to the config.json parser; what it lets pass has weights of sane sizes.
func FuzzConfig(f *testing.F) {
	for _, config := range toys {
		f.Add([]byte(config))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data)
		if err != nil {
			return
		}
		c.NumHiddenLayers = min(c.NumHiddenLayers, 2)
		parameters := c.parameters()
		if len(parameters) != len(byName(parameters)) {
			t.Fatal("two weights have one name")
		}
		for _, p := range parameters {
			if p.len() < 1 {
				t.Fatalf("%v", p)
			}
			if p.heads > 0 && p.shape[0]%p.heads != 0 {
				t.Fatalf("%v", p)
			}
		}
		if _, err := withDType(data, safetensors.F32); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzVocabulary feeds bytes to the reader of tokenizer.json; what it lets pass has a kind for each token.
func FuzzVocabulary(f *testing.F) {
	f.Add([]byte(smallTokenizer), []byte(`{"bos_token":"<s>","eos_token":{"content":"</s>"}}`))
	f.Fuzz(func(t *testing.T, file, config []byte) {
		m, err := Vocabulary(file, config, "", 8)
		if err != nil {
			return
		}
		tokens, err := m.Strings("tokenizer.ggml.tokens")
		if err != nil {
			t.Fatal(err)
		}
		kinds, err := m.Ints("tokenizer.ggml.token_type")
		if err != nil || len(kinds) != len(tokens) {
			t.Fatalf("%d kinds for %d tokens (%v)", len(kinds), len(tokens), err)
		}
	})
}

const smallTokenizer = `{"added_tokens":[{"id":0,"content":"<s>","special":true},{"id":1,"content":"</s>","special":true}],
	"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},
	"model":{"type":"BPE","vocab":{"a":2,"b":3,"ab":4},"merges":["a b"]}}`

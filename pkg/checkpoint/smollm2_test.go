package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/gguf"
	"github.com/seed-8780d58e/spin/pkg/half"
	"github.com/seed-8780d58e/spin/pkg/safetensors"
)

// defaultModel opens the project's default model, which `make model` fetches. Where SPIN_MODEL_REQUIRED is set, as
// `make test` does, a missing file is a failure.
func defaultModel(tb testing.TB) *Checkpoint {
	tb.Helper()
	dir := os.Getenv("SPIN_CACHE")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			tb.Fatal(err)
		}
		dir = filepath.Join(cache, "spin")
	}
	path := filepath.Join(dir, "SmolLM2-135M-Instruct.Q4_1.gguf")
	if _, err := os.Stat(path); err != nil && os.Getenv("SPIN_MODEL_REQUIRED") == "" {
		tb.Skipf("the default model is not in the cache (make model fetches it): %v", err)
	}
	return open(tb, path)
}

func open(tb testing.TB, path string) *Checkpoint {
	tb.Helper()
	c, err := Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

func read(tb testing.TB, s Source, name string) []float32 {
	tb.Helper()
	shape, ok := s.Shape(name)
	if !ok {
		tb.Fatalf("no weight %q", name)
	}
	dst := make([]float32, parameter{shape: shape}.len())
	if err := s.ReadF32(name, dst); err != nil {
		tb.Fatal(err)
	}
	return dst
}

// TestSmolLM2 holds every weight of the GGUF to what transformers reads from it (testdata/make_weights.py).
func TestSmolLM2(t *testing.T) {
	c := defaultModel(t)
	var want map[string]struct {
		Shape  []int
		SHA256 string
	}
	data, err := os.ReadFile("testdata/smollm2_weights.json")
	if err == nil {
		err = json.Unmarshal(data, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Names()) != len(want) {
		t.Errorf("%d weights, want %d", len(c.Names()), len(want))
	}
	for name, w := range want {
		shape, _ := c.Shape(name)
		if !slices.Equal(shape, w.Shape) {
			t.Errorf("%s: shape %v, want %v", name, shape, w.Shape)
			continue
		}
		sum := sha256.Sum256(half.AppendF32(nil, read(t, c, name)))
		if got := hex.EncodeToString(sum[:]); got != w.SHA256 {
			t.Errorf("%s: SHA-256 %s, want %s", name, got, w.SHA256)
		}
	}
	const config = `{
  "architectures": [
    "LlamaForCausalLM"
  ],
  "model_type": "llama",
  "hidden_size": 576,
  "intermediate_size": 1536,
  "num_hidden_layers": 30,
  "num_attention_heads": 9,
  "num_key_value_heads": 3,
  "head_dim": 64,
  "vocab_size": 49152,
  "max_position_embeddings": 8192,
  "hidden_act": "silu",
  "rms_norm_eps": 0.00001,
  "rope_theta": 100000,
  "rope_scaling": null,
  "attention_bias": false,
  "mlp_bias": false,
  "tie_word_embeddings": true,
  "bos_token_id": 1,
  "eos_token_id": 2,
  "pad_token_id": 2,
  "torch_dtype": "float32"
}`
	if string(c.Config()) != config {
		t.Errorf("config.json is %s", c.Config())
	}
	if got := string(bytes.Join(bytes.Fields(c.GenerationConfig()), nil)); got != `{"bos_token_id":1,"eos_token_id":2,"pad_token_id":2}` {
		t.Errorf("generation_config.json is %s", got)
	}
}

// first is a model's embedding and first layers: writing all of it would only measure the disk.
type first struct {
	*Checkpoint
	layers int
}

func (f first) Names() []string {
	return slices.DeleteFunc(f.Checkpoint.Names(), func(name string) bool {
		var layer int
		_, err := fmt.Sscanf(name, "model.layers.%d.", &layer)
		return err == nil && layer >= f.layers
	})
}

// TestSmolLM2Written writes weights of the GGUF as a folder in shards and as GGUF, and reads the same back.
func TestSmolLM2Written(t *testing.T) {
	c := defaultModel(t)
	source := first{c, 1}
	config := bytes.Replace(c.Config(), []byte(`"num_hidden_layers": 30`), []byte(`"num_hidden_layers": 1`), 1)
	want, err := Digest(source)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "model")
	if err := Write(dir, Files{Config: config, GenerationConfig: c.GenerationConfig()}, source, Options{MaxShardBytes: 113 << 20}); err != nil {
		t.Fatal(err)
	}
	if got, err := Digest(open(t, dir)); err != nil || got != want {
		t.Errorf("digest of the folder is %s, want %s (%v)", got, want, err)
	}
	if shards, err := filepath.Glob(filepath.Join(dir, "model-*-of-00002.safetensors")); err != nil || len(shards) != 2 {
		t.Errorf("shards %v, want 2 (%v)", shards, err)
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := WriteGGUF(path, config, c.GGUF().Metadata, source, gguf.F32); err != nil {
		t.Fatal(err)
	}
	back := open(t, path)
	if got, err := Digest(back); err != nil || got != want {
		t.Errorf("digest of the GGUF is %s, want %s (%v)", got, want, err)
	}
	for _, key := range c.GGUF().Metadata.Keys() {
		value := c.GGUF().Metadata.Value(key)
		if key != "llama.block_count" && key != "general.file_type" && !reflect.DeepEqual(back.GGUF().Metadata.Value(key), value) {
			t.Errorf("metadata %s is %v, want %v", key, back.GGUF().Metadata.Value(key), value)
		}
	}
}

// BenchmarkRead reads all weights of the default model.
func BenchmarkRead(b *testing.B) {
	c := defaultModel(b)
	dir := filepath.Join(b.TempDir(), "model")
	if err := Write(dir, Files{Config: c.Config()}, c, Options{DType: safetensors.BF16}); err != nil {
		b.Fatal(err)
	}
	for name, source := range map[string]*Checkpoint{"gguf": c, "safetensors": open(b, dir)} {
		b.Run(name, func(b *testing.B) {
			dst := make(map[string][]float32)
			total := 0
			for _, weight := range source.Names() {
				dst[weight] = read(b, source, weight)
				total += len(dst[weight])
			}
			b.SetBytes(int64(4 * total))
			for b.Loop() {
				for weight, values := range dst {
					if err := source.ReadF32(weight, values); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkDigest names the default model's weights.
func BenchmarkDigest(b *testing.B) {
	c := defaultModel(b)
	for b.Loop() {
		if _, err := Digest(c); err != nil {
			b.Fatal(err)
		}
	}
}

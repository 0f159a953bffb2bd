package checkpoint

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/gguf"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/safetensors"
)

// weights is a Source in memory.
type weights map[string]struct {
	shape  []int
	values []float32
}

func (w weights) Names() []string {
	var names []string // in the map's order: nothing may depend on it
	for name := range w {
		names = append(names, name)
	}
	return names
}

func (w weights) Shape(name string) ([]int, bool) { s, ok := w[name]; return s.shape, ok }

func (w weights) ReadF32(name string, dst []float32) error {
	if copy(dst, w[name].values) != len(w[name].values) {
		return fmt.Errorf("%s: %d elements asked for", name, len(dst))
	}
	return nil
}

// toy makes random weights for a configuration, which BF16 can hold.
func toy(tb testing.TB, config string) weights {
	tb.Helper()
	c, err := parseConfig([]byte(config))
	if err != nil {
		tb.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	w := make(weights)
	for _, p := range c.parameters() {
		values := make([]float32, p.len())
		for i := range values {
			values[i] = float32(rng.IntN(255)-127) / 64
		}
		entry := w[p.name]
		entry.shape, entry.values = p.shape, values
		w[p.name] = entry
	}
	return w
}

// sizes are those of all toys; 64 is a whole number of Q8_0's blocks, 48 is not.
const sizes = `"hidden_size":64,"intermediate_size":48,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,
	"vocab_size":40,"max_position_embeddings":128`

var toys = map[string]string{
	"llama":   `{"model_type":"llama","tie_word_embeddings":true,` + sizes + `}`,
	"untied":  `{"model_type":"llama","torch_dtype":"bfloat16","rope_theta":500000,` + sizes + `}`,
	"biases":  `{"model_type":"llama","attention_bias":true,"mlp_bias":true,` + sizes + `}`,
	"mistral": `{"model_type":"mistral","head_dim":32,"sliding_window":64,` + sizes + `}`,
	"window":  `{"model_type":"mistral","tie_word_embeddings":true,` + sizes + `}`,
	"qwen2":   `{"model_type":"qwen2","tie_word_embeddings":true,"rms_norm_eps":1e-06,` + sizes + `}`,
	"linear":  `{"model_type":"llama","rope_scaling":{"type":"linear","factor":2.0},` + sizes + `}`,
	"yarn":    `{"model_type":"qwen2","rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32},` + sizes + `}`,
	"llama3": `{"model_type":"llama","rope_parameters":{"rope_type":"llama3","rope_theta":500000.0,"factor":32.0,"low_freq_factor":1.0,
		"high_freq_factor":4.0,"original_max_position_embeddings":8192},` + sizes + `}`,
}

// TestRoundTrips writes each family as a folder and as GGUF, and reads the same model back.
func TestRoundTrips(t *testing.T) {
	for name, config := range toys {
		t.Run(name, func(t *testing.T) {
			source := toy(t, config)
			want, err := Digest(source)
			if err != nil {
				t.Fatal(err)
			}
			for _, dtype := range []safetensors.DType{safetensors.F32, safetensors.F16, safetensors.BF16} {
				dir := filepath.Join(t.TempDir(), "model")
				if err := Write(dir, Files{Config: []byte(config)}, source, Options{DType: dtype, MaxShardBytes: 20000}); err != nil {
					t.Fatal(err)
				}
				c := open(t, dir)
				if got, err := Digest(c); err != nil || got != want {
					t.Errorf("%s: digest %s, want %s (%v)", dtype, got, want, err)
				}
				var file struct {
					DType string `json:"torch_dtype"`
				}
				if err := json.Unmarshal(c.Config(), &file); err != nil || !strings.HasSuffix(file.DType, string(dtype[len(dtype)-2:])) {
					t.Errorf("%s is written as %s in config.json", dtype, file.DType)
				}
			}
			for _, kind := range []gguf.Type{gguf.F32, gguf.F16, gguf.BF16} {
				path := filepath.Join(t.TempDir(), "model.gguf")
				if err := WriteGGUF(path, []byte(config), &gguf.Metadata{}, source, kind); err != nil {
					t.Fatal(err)
				}
				c := open(t, path)
				if got, err := Digest(c); err != nil || got != want {
					t.Errorf("%v: digest %s, want %s (%v)", kind, got, want, err)
				}
				sameConfig(t, c.Config(), config)
			}
		})
	}
}

// sameConfig compares what decides the computation.
func sameConfig(t *testing.T, got []byte, want string) {
	t.Helper()
	g, err := parseConfig(got)
	if err != nil {
		t.Fatal(err)
	}
	w, err := parseConfig([]byte(want))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*config{&g, &w} {
		if c.RopeScaling != nil {
			c.RopeScaling.Theta, c.RopeScaling.OldType = 0, ""
		}
		c.Architectures, c.TorchDType = nil, ""
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("config is\n%+v, want\n%+v", g, w)
	}
}

// TestQ8 checks the error of 8-bit export: half a step of a block's largest magnitude, and rows that are not whole blocks.
func TestQ8(t *testing.T) {
	source := toy(t, toys["llama"])
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := WriteGGUF(path, []byte(toys["llama"]), &gguf.Metadata{}, source, gguf.Q8_0); err != nil {
		t.Fatal(err)
	}
	c := open(t, path)
	for _, name := range c.Names() {
		got := read(t, c, name)
		for i, want := range source[name].values {
			if diff := math.Abs(float64(got[i] - want)); !(diff <= 127.0/64/127*0.51) {
				t.Fatalf("%s: element %d is %g, want %g", name, i, got[i], want)
			}
		}
	}
	for name, want := range map[string]gguf.Type{"blk.0.ffn_down.weight": gguf.F16, "blk.0.ffn_up.weight": gguf.Q8_0, "output_norm.weight": gguf.F32} {
		if info, ok := c.GGUF().Tensor(name); !ok || info.Type != want {
			t.Errorf("%s is stored as %v, want %v", name, info.Type, want)
		}
	}
}

// TestLlama3Factors compares with transformers: base over inv_freq of ROPE_INIT_FUNCTIONS["llama3"] for Llama 3.2 1B.
func TestLlama3Factors(t *testing.T) {
	r := rope{Type: "llama3", Factor: 32, LowFreqFactor: 1, HighFreqFactor: 4, OriginalContext: 8192}
	got := r.llama3Factors(500000, 64)
	for i, want := range map[int]float32{0: 1, 14: 1, 15: 1.6513291, 16: 3.2922628, 17: 9.6667305, 18: 32, 31: 32} {
		if !(math.Abs(float64(got[i]-want)) <= 1e-5*float64(want)) {
			t.Errorf("factor %d is %v, want %v", i, got[i], want)
		}
	}
}

// TestDigest pins the byte layout with a digest computed by hand in Python:
// hashlib.sha256(struct.pack("<I1sIQQ2f", 1, b"a", 2, 1, 2, 0.5, -1) + struct.pack("<I1sIQf", 1, b"b", 1, 1, 3)).
func TestDigest(t *testing.T) {
	w := weights{
		"b": {[]int{1}, []float32{3}},
		"a": {[]int{1, 2}, []float32{0.5, -1}},
	}
	const want = "1401e03a120c38561ca53e0a9628f0123e8346dffc7273d96bca6685cfd1a928"
	if got, err := Digest(w); err != nil || got != want {
		t.Errorf("%s, want %s (%v)", got, want, err)
	}
}

// TestWriteKeeps checks what Write does with what is there already, and that it leaves nothing half-written.
func TestWriteKeeps(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "model")
	first, second := toy(t, toys["llama"]), toy(t, toys["qwen2"])
	tokenizer := func(dir string) error { return os.WriteFile(filepath.Join(dir, "tokenizer.json"), []byte("{}"), 0o644) }
	if err := Write(dir, Files{Config: []byte(toys["llama"]), Tokenizer: tokenizer}, first, Options{}); err != nil {
		t.Fatal(err)
	}
	files := Files{Config: []byte(toys["qwen2"])}
	if err := Write(dir, files, second, Options{}); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("%v", err)
	}
	if c := open(t, dir); string(c.TokenizerJSON()) != "{}" {
		t.Errorf("tokenizer.json is %q", c.TokenizerJSON())
	}
	broken := Files{Config: []byte(toys["qwen2"]), Tokenizer: func(string) error { return fmt.Errorf("no tokenizer") }}
	if err := Write(dir, broken, second, Options{Replace: true}); err == nil || !strings.Contains(err.Error(), "no tokenizer") {
		t.Errorf("%v", err)
	}
	sameConfig(t, open(t, dir).Config(), toys["llama"])
	if err := Write(dir, files, second, Options{Replace: true}); err != nil {
		t.Fatal(err)
	}
	sameConfig(t, open(t, dir).Config(), toys["qwen2"])
	if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v (%v)", entries, err)
	}
}

// TestWriteRefuses gives Write and WriteGGUF weights that the configuration does not ask for.
func TestWriteRefuses(t *testing.T) {
	for want, change := range map[string]func(w weights){
		`"model.norm.weight" is missing`: func(w weights) { delete(w, "model.norm.weight") },
		`has shape [3]: config.json asks for [64]`: func(w weights) {
			e := w["model.norm.weight"]
			e.shape = []int{3}
			w["model.norm.weight"] = e
		},
		`"lm_head.weight" has no place`: func(w weights) { w["lm_head.weight"] = w["model.norm.weight"] },
	} {
		w := toy(t, toys["llama"])
		change(w)
		dir := t.TempDir()
		for _, err := range []error{
			Write(filepath.Join(dir, "model"), Files{Config: []byte(toys["llama"])}, w, Options{}),
			WriteGGUF(filepath.Join(dir, "model.gguf"), []byte(toys["llama"]), &gguf.Metadata{}, w, gguf.F32),
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// TestGGUFRow checks that llama.cpp's order of rows is a permutation that keeps heads apart.
func TestGGUFRow(t *testing.T) {
	p := parameter{shape: []int{12, 1}, heads: 2}
	var got []int
	for row := range 12 {
		got = append(got, p.ggufRow(row))
	}
	if want := []int{0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestModelAgrees holds the names and their order to those of pkg/model, which computes with them.
func TestModelAgrees(t *testing.T) {
	refused := []string{"yarn", "biases"} // what pkg/model does not compute
	for name, text := range toys {
		c, err := parseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range c.parameters() {
			names = append(names, p.name)
		}
		m, err := model.ParseConfig([]byte(text))
		if (err != nil) != slices.Contains(refused, name) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && name == "window" && (m.Window != 4096 || *c.SlidingWindow != 4096) {
			t.Errorf("%s: window %d, pkg/model has %d", name, *c.SlidingWindow, m.Window)
		}
		if err == nil && !slices.Equal(m.Names(), names) {
			t.Errorf("%s: names %v, pkg/model has %v", name, names, m.Names())
		}
	}
}

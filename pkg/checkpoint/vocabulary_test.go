package checkpoint_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/checkpoint"
	"github.com/seed-8780d58e/spin/pkg/gguf"
	"github.com/seed-8780d58e/spin/pkg/tokenizer"
)

// TestVocabulary stores the tokenizers of pkg/tokenizer's goldens as GGUF metadata, and holds what is read from it to
// the ids of the original.
func TestVocabulary(t *testing.T) {
	for name, model := range map[string]string{"gpt2": "gpt2", "smollm": "gpt2", "llama3": "gpt2", "qwen2": "gpt2", "llama2": "llama", "mistral": "llama"} {
		t.Run(name, func(t *testing.T) {
			base := filepath.Join("..", "tokenizer", "testdata", name)
			file, err := os.ReadFile(base + ".tokenizer.json")
			if err != nil {
				t.Fatal(err)
			}
			source, err := tokenizer.Parse(file)
			if err != nil {
				t.Fatal(err)
			}
			m, err := checkpoint.Vocabulary(file, nil, "", source.Size()+3)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := m.String("tokenizer.ggml.model"); err != nil || got != model {
				t.Errorf("model %q, want %q (%v)", got, model, err)
			}
			back, err := tokenizer.FromGGUF(m)
			if err != nil {
				t.Fatal(err)
			}
			var cases []struct {
				Text string
			}
			data, err := os.ReadFile(base + ".cases.json")
			if err == nil {
				err = json.Unmarshal(data, &cases)
			}
			if err != nil || len(cases) == 0 {
				t.Fatal(len(cases), err)
			}
			for _, c := range cases {
				if strings.Contains(c.Text, "<word>") || name == "mistral" && strings.HasPrefix(strings.ReplaceAll(c.Text, "▁", " "), " ") {
					continue // what GGUF has no place for: see Vocabulary
				}
				if want, got := source.Encode(c.Text), back.Encode(c.Text); !slices.Equal(got, want) {
					t.Errorf("%q: ids %v, want %v", c.Text, got, want)
				}
			}
		})
	}
}

// TestVocabularyOfDefault makes the default model's tokenizer.json, and from it the metadata that the model came with.
func TestVocabularyOfDefault(t *testing.T) {
	path := filepath.Join(os.Getenv("SPIN_CACHE"), "SmolLM2-135M-Instruct.Q4_1.gguf")
	if os.Getenv("SPIN_CACHE") == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(cache, "spin", "SmolLM2-135M-Instruct.Q4_1.gguf")
	}
	f, err := gguf.Open(path)
	if err != nil && os.Getenv("SPIN_MODEL_REQUIRED") == "" {
		t.Skipf("the default model is not in the cache (make model fetches it): %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	source, err := tokenizer.FromGGUF(f.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := source.Save(dir); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(dir, "tokenizer_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := checkpoint.Vocabulary(file, config, source.ChatTemplate, source.Size())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range f.Metadata.Keys() {
		if strings.HasPrefix(key, "tokenizer.") && !reflect.DeepEqual(got.Value(key), f.Metadata.Value(key)) {
			t.Errorf("%s differs", key)
		}
	}
}

func TestVocabularyErrors(t *testing.T) {
	const good = `{"added_tokens":[],"pre_tokenizer":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}}`
	for _, c := range []struct{ old, new, config, want string }{
		{"", "", ``, ""},
		{`"BPE"`, `"WordPiece"`, ``, `model type "WordPiece" cannot be stored in GGUF: BPE can`},
		{`"ByteLevel"`, `"Whitespace"`, ``, "has no name in GGUF"},
		{`["a","b"]`, `["a b","c"]`, ``, "has a space"},
		{`["a","b"]`, `"ab"`, ``, "is not two tokens"},
		{`"ab":2`, `"ab":9`, ``, `token "ab" has id 9, and the model has 3 embeddings`},
		{`"ab":2`, `"ab":1`, ``, "both have id 1"},
		{`{"added`, `["added`, ``, "tokenizer.json: "},
		{"", "", `{"bos_token":"<s>"}`, `bos token "<s>" is not in tokenizer.json`},
		{"", "", `[]`, "tokenizer_config.json: "},
	} {
		_, err := checkpoint.Vocabulary([]byte(strings.Replace(good, c.old, c.new, 1)), []byte(c.config), "", 3)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/gguf"
)

// The cases of testdata/make_goldens.py.
type golden struct {
	Text    string
	Bytes   []byte  // instead of Text: not UTF-8
	IDs     []int32 // control tokens are read
	Plain   []int32 // control tokens are text; nil: not known
	Decoded *string // of IDs, control tokens spelled out
	Clean   *string // of IDs, without them
}

func (g *golden) UnmarshalJSON(data []byte) error {
	var c struct {
		Text           string
		Bytes          []int
		IDs, Plain     []int32
		Decoded, Clean *string
	}
	err := json.Unmarshal(data, &c)
	*g = golden{Text: c.Text, IDs: c.IDs, Plain: c.Plain, Decoded: c.Decoded, Clean: c.Clean}
	if g.Plain == nil && g.Decoded != nil {
		g.Plain = g.IDs
	}
	for _, b := range c.Bytes {
		g.Bytes = append(g.Bytes, byte(b))
	}
	if g.Bytes != nil {
		g.Text = string(g.Bytes)
	}
	return err
}

func readGolden(t testing.TB, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// shape reads one of the small tokenizers of testdata.
func shape(t testing.TB, name string) *Tokenizer {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

var shapes = []string{"gpt2", "smollm", "llama3", "qwen2", "regex", "llama2", "llama2-normalized", "mistral", "metaspace"}

func TestGoldens(t *testing.T) {
	for _, name := range shapes {
		t.Run(name, func(t *testing.T) {
			tok := shape(t, name)
			var cases []golden
			readGolden(t, name+".cases.json", &cases)
			check(t, tok, cases)
		})
	}
}

func check(t *testing.T, tok *Tokenizer, cases []golden) {
	t.Helper()
	if len(cases) < 16 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		if got := tok.EncodeWithSpecials(c.Text); !slices.Equal(got, c.IDs) {
			t.Errorf("EncodeWithSpecials(%q) =\n%v %q, want\n%v %q", c.Text, got, spell(tok, got), c.IDs, spell(tok, c.IDs))
		}
		if got := tok.Encode(c.Text); c.Plain != nil && !slices.Equal(got, c.Plain) {
			t.Errorf("Encode(%q) =\n%v %q, want\n%v %q", c.Text, got, spell(tok, got), c.Plain, spell(tok, c.Plain))
		}
		if got := tok.DecodeWithSpecials(c.IDs); c.Decoded != nil && got != *c.Decoded {
			t.Errorf("DecodeWithSpecials of %q = %q, want %q", c.Text, got, *c.Decoded)
		}
		if got := tok.Decode(c.IDs); c.Clean != nil && got != *c.Clean {
			t.Errorf("Decode of %q = %q, want %q", c.Text, got, *c.Clean)
		}
	}
}

func spell(tok *Tokenizer, ids []int32) []string {
	var tokens []string
	for _, id := range ids {
		token, _ := tok.Token(id)
		tokens = append(tokens, token)
	}
	return tokens
}

// A GGUF vocabulary with scores gives the ids of the tokenizer.json that transformers makes of it, which are those of
// sentencepiece itself.
func TestSentencePiece(t *testing.T) {
	var file struct{ Cases []golden }
	readGolden(t, "sentencepiece.json", &file)
	tok, err := FromGGUF(scored(t))
	if err != nil {
		t.Fatal(err)
	}
	var cases []golden
	readGolden(t, "llama2.cases.json", &cases)
	check(t, tok, cases)
	if len(file.Cases) < 40 {
		t.Fatalf("only %d cases", len(file.Cases))
	}
	for _, c := range file.Cases {
		if got := tok.Encode(c.Text); !slices.Equal(got, c.IDs) {
			t.Errorf("Encode(%q) = %q, sentencepiece: %q", c.Text, spell(tok, got), spell(tok, c.IDs))
		}
	}
}

// defaultModel opens the model that `make model` fetches.
func defaultModel(t testing.TB) *gguf.File {
	t.Helper()
	dir := os.Getenv("SPIN_CACHE")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skip(err)
		}
		dir = filepath.Join(cache, "spin")
	}
	path := filepath.Join(dir, "SmolLM2-135M-Instruct.Q4_1.gguf")
	if _, err := os.Stat(path); err != nil && os.Getenv("SPIN_MODEL_REQUIRED") == "" {
		t.Skipf("%v: `make model` fetches it", err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestSmolLM2(t *testing.T) {
	tok, err := FromGGUF(defaultModel(t).Metadata)
	if err != nil {
		t.Fatal(err)
	}
	var cases []golden
	readGolden(t, "smollm2-135m.cases.json", &cases)
	check(t, tok, cases)
	if tok.Size() != 49152 || tok.BOS != 1 || tok.EOS != 2 || !slices.Equal(tok.EndIDs, []int32{2}) || tok.ContextLength != 8192 {
		t.Errorf("configuration: size %d, %+v", tok.Size(), tok.Config)
	}
	if !strings.Contains(tok.ChatTemplate, "<|im_start|>") {
		t.Errorf("chat template %q", tok.ChatTemplate)
	}
	again := reopen(t, tok)
	check(t, again, cases)
	if again.EOS != tok.EOS || again.Pad != tok.Pad || again.ChatTemplate != tok.ChatTemplate || again.ContextLength != tok.ContextLength {
		t.Errorf("saved and opened: %+v, want %+v", again.Config, tok.Config)
	}
}

// reopen saves a tokenizer and opens what it wrote.
func reopen(t *testing.T, tok *Tokenizer) *Tokenizer {
	t.Helper()
	dir := t.TempDir()
	if err := tok.Save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

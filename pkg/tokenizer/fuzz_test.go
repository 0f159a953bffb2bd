package tokenizer

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/gguf"
)

// A tokenizer.json from anywhere is refused or works.
func FuzzParse(f *testing.F) {
	for _, name := range shapes {
		data, err := os.ReadFile("testdata/" + name + ".tokenizer.json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"<0x0A>":3},"merges":["a b"],"byte_fallback":true},"added_tokens":[{"id":4,"content":"x","lstrip":true}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := Parse(data)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
			return
		}
		for _, id := range append(tok.Encode("ab a\n b's 12  é x\xff"), tok.EncodeWithSpecials("abx x")...) {
			if _, ok := tok.Token(id); !ok {
				t.Errorf("id %d has no token", id)
			}
		}
		tok.Decode([]int32{0, 1, 2, -1, 1 << 30})
	})
}

func FuzzRoundTrip(f *testing.F) {
	tokenizers := map[string]*Tokenizer{}
	for _, name := range shapes {
		tokenizers[name] = shape(f, name)
	}
	for _, text := range append(slices.Clone(scraps), "Hello, world!", "  two  spaces\n\tand tab", "x\n\n3 y\t 7", "<|im_start|>user\nhi<|im_end|>\n") {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name, tok := range tokenizers {
			roundTrip(t, name, tok, text)
		}
	})
}

// Any list of pieces and scores in a GGUF is refused or works.
func FuzzGGUF(f *testing.F) {
	f.Add("a\nb\nab\n<unk>\n▁\n<0x0A>", []byte{1, 2, 3, 4, 5, 6}, []byte{1, 1, 1, 2, 1, 6}, true)
	f.Add("a\nb\nab\n<s>", []byte{1, 2, 3, 4}, []byte{1, 1, 1, 3}, false)
	f.Fuzz(func(t *testing.T, tokens string, scores, kinds []byte, scored bool) {
		m := &gguf.Metadata{}
		m.Set("tokenizer.ggml.tokens", strings.Split(tokens, "\n"))
		floats, ints := make([]float32, len(scores)), make([]int32, len(kinds))
		for i, s := range scores {
			floats[i] = float32(int8(s))
		}
		for i, k := range kinds {
			ints[i] = int32(k)
		}
		m.Set("tokenizer.ggml.scores", floats)
		m.Set("tokenizer.ggml.token_type", ints)
		m.Set("tokenizer.ggml.bos_token_id", uint32(len(kinds)%3))
		m.Set("tokenizer.ggml.merges", []string{"a b"})
		m.Set("tokenizer.ggml.pre", "smollm")
		m.Set("tokenizer.ggml.model", map[bool]string{true: "llama", false: "gpt2"}[scored])
		if tok, err := FromGGUF(m); err == nil {
			tok.Decode(tok.Encode(tokens))
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	tok, err := FromGGUF(defaultModel(b).Metadata)
	if err != nil {
		b.Fatal(err)
	}
	prose := strings.Repeat("The quick brown fox, aged 12, doesn't jump over the lazy dog's 3 naïve friends. ", 100)
	spaced := shape(b, "llama2")
	for name, run := range map[string]func(){
		"byte-level":    func() { tok.Encode(prose) },
		"SentencePiece": func() { spaced.Encode(prose) },
		"one word":      func() { tok.Encode(strings.Repeat("ab", 4000)) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(prose)))
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
		})
	}
}

func BenchmarkFromGGUF(b *testing.B) {
	m := defaultModel(b).Metadata
	for b.Loop() {
		if _, err := FromGGUF(m); err != nil {
			b.Fatal(err)
		}
	}
}

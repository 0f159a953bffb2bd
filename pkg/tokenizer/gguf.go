package tokenizer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/seed-8780d58e/spin/pkg/gguf"
)

// Kinds of tokens in tokenizer.ggml.token_type (enum llama_token_type of llama.h).
const (
	kindUnknown = 2
	kindControl = 3
	kindUser    = 4
	kindByte    = 6
)

// metaspace stands for a space in SentencePiece vocabularies.
const metaspace = "▁"

// maxScored bounds pieces of vocabularies with scores, whose merges are found by trying every cut.
const maxScored = 256

// FromGGUF reads the tokenizer of a GGUF file (its tokenizer.ggml.* metadata; GGUF specification, section
// "Standardized key-value pairs"). It first writes the tokenizer.json that the model's authors would have published,
// then parses that, so that [Tokenizer.Save] saves what was tested here.
func FromGGUF(m *gguf.Metadata) (*Tokenizer, error) {
	t, err := fromGGUF(m)
	if err != nil {
		return nil, fmt.Errorf("tokenizer of GGUF: %w", err)
	}
	return t, nil
}

func fromGGUF(m *gguf.Metadata) (*Tokenizer, error) {
	v := vocabulary{}
	var err error
	if v.tokens, err = m.Strings("tokenizer.ggml.tokens"); err != nil {
		return nil, err
	}
	if v.kinds, err = optional(m.Ints("tokenizer.ggml.token_type")); err != nil {
		return nil, err
	}
	if err := v.check(); err != nil {
		return nil, err
	}
	config := Config{}
	for key, id := range map[string]*int32{
		"bos_token_id": &config.BOS, "eos_token_id": &config.EOS,
		"unknown_token_id": &config.Unknown, "padding_token_id": &config.Pad,
	} {
		if *id, err = v.id(m, "tokenizer.ggml."+key); err != nil {
			return nil, err
		}
	}
	family, err := m.String("tokenizer.ggml.model")
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	switch family {
	case "gpt2":
		doc, err = v.byteLevel(m, config)
	case "llama":
		doc, err = v.sentencePiece(m, config)
	default:
		err = fmt.Errorf("tokenizer.ggml.model %.40q isn't supported (supported: gpt2, llama)", family)
	}
	if err != nil {
		return nil, err
	}
	data, err := marshal(doc)
	if err != nil {
		return nil, err
	}
	t, err := Parse(data)
	if err != nil {
		return nil, err
	}
	t.Config = config
	for _, key := range []string{"eot_token_id", "eom_token_id"} {
		id, err := v.id(m, "tokenizer.ggml."+key)
		if err != nil {
			return nil, err
		}
		t.setEnds(id)
	}
	if t.ChatTemplate, err = optional(m.String("tokenizer.chat_template")); err != nil {
		return nil, err
	}
	if architecture, err := m.String("general.architecture"); err == nil {
		if t.ContextLength, err = optional(m.Int(architecture + ".context_length")); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// optional makes an absent key the zero value.
func optional[T any](value T, err error) (T, error) {
	if errors.Is(err, gguf.ErrNoKey) {
		return *new(T), nil
	}
	return value, err
}

// vocabulary is the list of tokens of a GGUF file.
type vocabulary struct {
	tokens []string
	kinds  []int // by id; empty: all normal
}

func (v vocabulary) kind(id int) int {
	if len(v.kinds) == 0 {
		return 1
	}
	return v.kinds[id]
}

func (v vocabulary) check() error {
	if len(v.tokens) == 0 || len(v.tokens) > maxTokens {
		return fmt.Errorf("%d tokens, want 1 to %d", len(v.tokens), maxTokens)
	}
	if len(v.kinds) > 0 && len(v.kinds) != len(v.tokens) {
		return fmt.Errorf("%d token types for %d tokens", len(v.kinds), len(v.tokens))
	}
	seen := make(map[string]int, len(v.tokens))
	for id, token := range v.tokens {
		if !utf8.ValidString(token) {
			return fmt.Errorf("token %d isn't UTF-8", id)
		}
		if first, ok := seen[token]; ok {
			return fmt.Errorf("tokens %d and %d are both %.40q", first, id, token)
		}
		seen[token] = id
	}
	return nil
}

// id reads a token id, -1 where the key is absent.
func (v vocabulary) id(m *gguf.Metadata, key string) (int32, error) {
	if !m.Has(key) {
		return -1, nil
	}
	id, err := m.Int(key)
	if err != nil {
		return 0, err
	}
	if id < 0 || id >= len(v.tokens) {
		return 0, fmt.Errorf("metadata %q is %d, want 0 to %d", key, id, len(v.tokens)-1)
	}
	return int32(id), nil
}

// document returns a tokenizer.json without its pre-tokenizer, normalizer and decoder.
func (v vocabulary) document(model map[string]any) map[string]any {
	vocab := make(map[string]int, len(v.tokens))
	added := []addedToken{}
	for id, token := range v.tokens {
		vocab[token] = id
		if kind := v.kind(id); kind == kindControl || kind == kindUnknown || kind == kindUser {
			added = append(added, addedToken{ID: int32(id), Content: token, Special: kind != kindUser})
		}
	}
	model["type"], model["vocab"], model["dropout"] = "BPE", vocab, nil
	model["continuing_subword_prefix"], model["end_of_word_suffix"] = nil, nil
	return map[string]any{"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added,
		"normalizer": nil, "pre_tokenizer": nil, "post_processor": nil, "decoder": nil, "model": model}
}

// byteLevel is tokenizer.ggml.model "gpt2": merges are listed, tokenizer.ggml.pre names the pre-tokenizer.
func (v vocabulary) byteLevel(m *gguf.Metadata, config Config) (map[string]any, error) {
	lines, err := m.Strings("tokenizer.ggml.merges")
	if err != nil {
		return nil, err
	}
	merges := make([][2]string, len(lines))
	for i, line := range lines {
		left, right, ok := strings.Cut(line, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return nil, fmt.Errorf("merge %d, %.40q, isn't two tokens with a space between", i, line)
		}
		merges[i] = [2]string{left, right}
	}
	name, err := optional(m.String("tokenizer.ggml.pre"))
	if err != nil {
		return nil, err
	}
	prefix, err := optional(m.Bool("tokenizer.ggml.add_space_prefix"))
	if err != nil {
		return nil, err
	}
	gpt2 := map[string]any{"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true}
	plain := map[string]any{"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": false}
	sequence := func(steps ...any) any { return map[string]any{"type": "Sequence", "pretokenizers": steps} }
	split := func(expr string) any {
		return map[string]any{"type": "Split", "pattern": map[string]any{"Regex": expr}, "behavior": "Isolated", "invert": false}
	}
	var pre, normalizer any
	whole := false
	switch name {
	case "gpt-2", "gpt2", "olmo", "phi-2", "roberta-bpe":
		pre = gpt2
	case "smollm", "starcoder", "refact", "command-r":
		pre = sequence(map[string]any{"type": "Digits", "individual_digits": true}, gpt2)
	case "llama-bpe", "llama3", "llama-v3", "falcon3":
		pre, whole = sequence(split(patternLlama3), plain), true
	case "smaug-bpe", "dbrx":
		pre = sequence(split(patternLlama3), plain)
	case "qwen2", "deepseek-r1-qwen", "megrez":
		pre, normalizer = sequence(split(patternQwen2), plain), map[string]any{"type": "NFC"}
	case "stablelm2":
		pre = sequence(split(patternQwen2), plain)
	default:
		return nil, fmt.Errorf("tokenizer.ggml.pre %.40q isn't known (known: gpt-2, smollm, starcoder, llama-bpe, smaug-bpe, dbrx, qwen2, stablelm2 and their kin)", name)
	}
	doc := v.document(map[string]any{"merges": merges, "unk_token": nil, "fuse_unk": false, "byte_fallback": false, "ignore_merges": whole})
	doc["normalizer"], doc["pre_tokenizer"], doc["decoder"] = normalizer, pre, gpt2
	return doc, v.addBOS(m, doc, config, whole)
}

// sentencePiece is tokenizer.ggml.model "llama": pieces have scores, and the merge that makes the piece of the highest
// score goes first. As merges it is the form that Llama 2 and Mistral publish.
func (v vocabulary) sentencePiece(m *gguf.Metadata, config Config) (map[string]any, error) {
	scores, err := m.Floats("tokenizer.ggml.scores")
	if err != nil {
		return nil, err
	}
	if len(scores) != len(v.tokens) {
		return nil, fmt.Errorf("%d scores for %d tokens", len(scores), len(v.tokens))
	}
	merges, err := v.mergesOf(scores)
	if err != nil {
		return nil, err
	}
	prefix := true
	if m.Has("tokenizer.ggml.add_space_prefix") {
		if prefix, err = m.Bool("tokenizer.ggml.add_space_prefix"); err != nil {
			return nil, err
		}
	}
	var unknown any
	if config.Unknown >= 0 {
		unknown = v.tokens[config.Unknown]
	}
	replace := func(from, to string) any {
		return map[string]any{"type": "Replace", "pattern": map[string]any{"String": from}, "content": to}
	}
	normalizers := []any{replace(" ", metaspace)}
	decoders := []any{replace(metaspace, " "), map[string]any{"type": "ByteFallback"}, map[string]any{"type": "Fuse"}}
	if prefix {
		normalizers = slices.Insert(normalizers, 0, any(map[string]any{"type": "Prepend", "prepend": metaspace}))
		decoders = append(decoders, map[string]any{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	doc := v.document(map[string]any{"merges": merges, "unk_token": unknown, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false})
	doc["normalizer"] = map[string]any{"type": "Sequence", "normalizers": normalizers}
	doc["decoder"] = map[string]any{"type": "Sequence", "decoders": decoders}
	return doc, v.addBOS(m, doc, config, true)
}

// mergesOf returns the merges that scores mean, best first: for each piece every cut into two pieces. The order is that
// of generate_merges in transformers' convert_slow_tokenizer.py.
func (v vocabulary) mergesOf(scores []float32) ([][2]string, error) {
	type cut struct {
		left, right   string
		leftID        int
		rightID       int
		score         float32
		leftN, rightN int // characters
	}
	ids := make(map[string]int, len(v.tokens))
	for id, token := range v.tokens {
		if k := v.kind(id); k != kindControl && k != kindUnknown && k != kindByte {
			ids[token] = id
		}
	}
	var cuts []cut
	for id, token := range v.tokens {
		if _, ok := ids[token]; !ok {
			continue
		}
		if len(token) > maxScored {
			return nil, fmt.Errorf("token %d has %d bytes, want at most %d", id, len(token), maxScored)
		}
		if scores[id] != scores[id] {
			return nil, fmt.Errorf("token %d has no number as its score", id)
		}
		from, n := len(cuts), utf8.RuneCountInString(token)
		chars := 0
		for i := range token {
			left, okLeft := ids[token[:i]]
			right, okRight := ids[token[i:]]
			if okLeft && okRight && i > 0 {
				cuts = append(cuts, cut{token[:i], token[i:], left, right, scores[id], chars, n - chars})
			}
			chars++
		}
		slices.SortFunc(cuts[from:], func(a, b cut) int {
			if a.leftID != b.leftID {
				return a.leftID - b.leftID
			}
			return a.rightID - b.rightID
		})
		if len(cuts) > maxMerges {
			return nil, fmt.Errorf("more than %d merges", maxMerges)
		}
	}
	slices.SortStableFunc(cuts, func(a, b cut) int {
		switch {
		case a.score > b.score || a.score == b.score && (a.leftN > b.leftN || a.leftN == b.leftN && a.rightN > b.rightN):
			return -1
		case a.score == b.score && a.leftN == b.leftN && a.rightN == b.rightN:
			return 0
		}
		return 1
	})
	merges := make([][2]string, len(cuts))
	for i, c := range cuts {
		merges[i] = [2]string{c.left, c.right}
	}
	return merges, nil
}

// addBOS makes the file put the beginning-of-sequence token before each text that asks for special tokens, where the
// GGUF says so or, silent, its family does. Encode never adds it: chat templates write it themselves.
func (v vocabulary) addBOS(m *gguf.Metadata, doc map[string]any, config Config, byDefault bool) error {
	add := byDefault
	if m.Has("tokenizer.ggml.add_bos_token") {
		var err error
		if add, err = m.Bool("tokenizer.ggml.add_bos_token"); err != nil {
			return err
		}
	}
	if !add || config.BOS < 0 {
		return nil
	}
	token := v.tokens[config.BOS]
	bos := func(kind int) any {
		return map[string]any{"SpecialToken": map[string]any{"id": token, "type_id": kind}}
	}
	text := func(name string, kind int) any {
		return map[string]any{"Sequence": map[string]any{"id": name, "type_id": kind}}
	}
	doc["post_processor"] = map[string]any{
		"type":           "TemplateProcessing",
		"single":         []any{bos(0), text("A", 0)},
		"pair":           []any{bos(0), text("A", 0), bos(1), text("B", 1)},
		"special_tokens": map[string]any{token: map[string]any{"id": token, "ids": []int32{config.BOS}, "tokens": []string{token}}},
	}
	return nil
}

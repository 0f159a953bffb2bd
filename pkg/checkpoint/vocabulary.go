package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-8780d58e/spin/pkg/gguf"
)

// Kinds of tokens (enum llama_token_type of llama.h).
const (
	tokenNormal  int32 = 1
	tokenUnknown int32 = 2
	tokenControl int32 = 3
	tokenUser    int32 = 4
	tokenUnused  int32 = 5
	tokenByte    int32 = 6
)

// A tokenizerFile is what is needed of a tokenizer.json.
type tokenizerFile struct {
	AddedTokens []struct {
		ID      int    `json:"id"`
		Content string `json:"content"`
		Special bool   `json:"special"`
	} `json:"added_tokens"`
	Normalizer    *step `json:"normalizer"`
	PreTokenizer  *step `json:"pre_tokenizer"`
	PostProcessor *step `json:"post_processor"`
	Model         struct {
		Type         string         `json:"type"`
		Vocab        map[string]int `json:"vocab"`
		Merges       []merge        `json:"merges"`
		UnkToken     *string        `json:"unk_token"`
		ByteFallback bool           `json:"byte_fallback"`
		IgnoreMerges bool           `json:"ignore_merges"`
	} `json:"model"`
}

// A step is one component of the pipeline, or a sequence of them.
type step struct {
	Type             string `json:"type"`
	Normalizers      []step `json:"normalizers"`
	Pretokenizers    []step `json:"pretokenizers"`
	Processors       []step `json:"processors"`
	UseRegex         *bool  `json:"use_regex"`
	AddPrefixSpace   bool   `json:"add_prefix_space"`
	IndividualDigits bool   `json:"individual_digits"`
	Behavior         string `json:"behavior"`
	Invert           bool   `json:"invert"`
	PrependScheme    string `json:"prepend_scheme"`
	Pattern          struct{ Regex string }
	Single           []struct {
		SpecialToken *struct {
			ID string `json:"id"`
		}
	} `json:"single"`
}

// A merge is "left right", or, since tokenizers 0.20, ["left", "right"].
type merge [2]string

func (m *merge) UnmarshalJSON(data []byte) error {
	var line string
	if err := json.Unmarshal(data, &line); err != nil {
		return json.Unmarshal(data, (*[2]string)(m))
	}
	left, right, ok := strings.Cut(line, " ")
	if !ok {
		return fmt.Errorf("merge %q is not two tokens", line)
	}
	*m = merge{left, right}
	return nil
}

// tokenText is a token in tokenizer_config.json: its text, or an object that has it.
type tokenText string

func (t *tokenText) UnmarshalJSON(data []byte) error {
	var object struct{ Content string }
	if err := json.Unmarshal(data, (*string)(t)); err == nil {
		return nil
	}
	err := json.Unmarshal(data, &object)
	*t = tokenText(object.Content)
	return err
}

// Vocabulary makes the tokenizer.* metadata of a GGUF from tokenizer.json and tokenizer_config.json, as llama.cpp's
// converter does: byte-level BPE whose pre-tokenizer has a name in llama.cpp, and SentencePiece-style BPE with byte
// fallback. template is the chat template, or empty. vocabSize is the model's, config.json's vocab_size: ids that no token
// has are filled with unused ones.
//
// GGUF has no place for two things: that an added token is found only as a word of its own, and Mistral's rule that no
// space is put before text that begins with one. llama.cpp does without, and so does what is read back.
func Vocabulary(tokenizerJSON, tokenizerConfigJSON []byte, template string, vocabSize int) (*gguf.Metadata, error) {
	var t tokenizerFile
	if err := json.Unmarshal(tokenizerJSON, &t); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	m, err := t.metadata(vocabSize)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	if err := t.addSpecials(m, tokenizerConfigJSON); err != nil {
		return nil, fmt.Errorf("tokenizer_config.json: %w", err)
	}
	if template != "" {
		m.Set("tokenizer.chat_template", template)
	}
	return m, nil
}

func (t *tokenizerFile) metadata(vocabSize int) (*gguf.Metadata, error) {
	if t.Model.Type != "BPE" {
		return nil, fmt.Errorf("model type %q cannot be stored in GGUF: BPE can", t.Model.Type)
	}
	tokens, kinds, err := t.tokens(vocabSize)
	if err != nil {
		return nil, err
	}
	m := &gguf.Metadata{}
	if t.Model.ByteFallback {
		m.Set("tokenizer.ggml.model", "llama")
		m.Set("tokenizer.ggml.pre", "default")
		m.Set("tokenizer.ggml.tokens", tokens)
		m.Set("tokenizer.ggml.scores", t.scores(tokens))
		m.Set("tokenizer.ggml.token_type", kinds)
		m.Set("tokenizer.ggml.add_space_prefix", t.addsSpace())
		return m, nil
	}
	pre, prefix, err := t.preTokenizer()
	if err != nil {
		return nil, err
	}
	merges := make([]string, len(t.Model.Merges))
	for i, pair := range t.Model.Merges {
		if strings.Contains(pair[0]+pair[1], " ") {
			return nil, fmt.Errorf("merge %d, %q, has a space, which GGUF cannot store", i, pair)
		}
		merges[i] = pair[0] + " " + pair[1]
	}
	m.Set("tokenizer.ggml.model", "gpt2")
	m.Set("tokenizer.ggml.pre", pre)
	m.Set("tokenizer.ggml.tokens", tokens)
	m.Set("tokenizer.ggml.token_type", kinds)
	m.Set("tokenizer.ggml.merges", merges)
	m.Set("tokenizer.ggml.add_space_prefix", prefix)
	return m, nil
}

// tokens lists the tokens by id, with their kinds.
func (t *tokenizerFile) tokens(n int) ([]string, []int32, error) {
	tokens, kinds := make([]string, n), make([]int32, n)
	put := func(id int, token string, kind int32) error {
		if id < 0 || id >= n {
			return fmt.Errorf("token %q has id %d, and the model has %d embeddings", token, id, n)
		}
		if kinds[id] != 0 && tokens[id] != token {
			return fmt.Errorf("tokens %q and %q both have id %d", tokens[id], token, id)
		}
		tokens[id], kinds[id] = token, kind
		return nil
	}
	for token, id := range t.Model.Vocab {
		kind := tokenNormal
		if t.Model.ByteFallback && len(token) == 6 && strings.HasPrefix(token, "<0x") && token[5] == '>' {
			kind = tokenByte
		}
		if err := put(id, token, kind); err != nil {
			return nil, nil, err
		}
	}
	for _, a := range t.AddedTokens {
		kind := tokenUser
		switch {
		case t.Model.UnkToken != nil && a.Content == *t.Model.UnkToken && t.Model.ByteFallback:
			kind = tokenUnknown
		case a.Special:
			kind = tokenControl
		}
		if err := put(a.ID, a.Content, kind); err != nil {
			return nil, nil, err
		}
	}
	for id := range tokens {
		if kinds[id] == 0 {
			tokens[id], kinds[id] = fmt.Sprintf("[PAD%d]", id), tokenUnused
		}
	}
	return tokens, kinds, nil
}

// Pre-tokenizers of Llama 3 and Qwen2.
const (
	llama3Split = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Split  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// preTokenizer finds llama.cpp's name for what precedes the merges (llama_vocab_pre_type), and whether a space goes first.
func (t *tokenizerFile) preTokenizer() (name string, prefix bool, err error) {
	steps := t.PreTokenizer.flatten()
	last := step{}
	if len(steps) > 0 {
		last = steps[len(steps)-1]
		steps = steps[:len(steps)-1]
	}
	regex := last.UseRegex == nil || *last.UseRegex
	normalized := len(t.Normalizer.flatten()) > 0
	switch {
	case last.Type != "ByteLevel" || len(steps) > 1:
	case len(steps) == 0 && regex && !normalized:
		return "gpt-2", last.AddPrefixSpace, nil
	case len(steps) == 0:
	case steps[0].Type == "Digits" && steps[0].IndividualDigits && regex && !normalized:
		return "smollm", last.AddPrefixSpace, nil
	case steps[0].Type != "Split" || steps[0].Behavior != "Isolated" || steps[0].Invert || regex:
	case steps[0].Pattern.Regex == llama3Split && t.Model.IgnoreMerges && !normalized:
		return "llama-bpe", last.AddPrefixSpace, nil
	case steps[0].Pattern.Regex == llama3Split && !normalized:
		return "smaug-bpe", last.AddPrefixSpace, nil
	case steps[0].Pattern.Regex == qwen2Split && normalized && t.Normalizer.flatten()[0].Type == "NFC":
		return "qwen2", last.AddPrefixSpace, nil
	case steps[0].Pattern.Regex == qwen2Split && !normalized:
		return "stablelm2", last.AddPrefixSpace, nil
	}
	return "", false, errors.New("its pre-tokenizer has no name in GGUF: those of GPT-2, SmolLM, Llama 3, Smaug, Qwen2 and StableLM 2 do")
}

// scores gives the piece that an earlier merge makes the higher score: llama.cpp merges by scores alone.
func (t *tokenizerFile) scores(tokens []string) []float32 {
	rank := make(map[string]int, len(t.Model.Merges))
	for i, pair := range t.Model.Merges {
		if _, ok := rank[pair[0]+pair[1]]; !ok {
			rank[pair[0]+pair[1]] = i
		}
	}
	scores := make([]float32, len(tokens))
	for id, token := range tokens {
		if i, ok := rank[token]; ok {
			scores[id] = -float32(i)
		}
	}
	return scores
}

// addsSpace says whether text begins with a space that is not there, as SentencePiece's does.
func (t *tokenizerFile) addsSpace() bool {
	isPrepend := func(s step) bool { return s.Type == "Prepend" }
	isMetaspace := func(s step) bool {
		return s.Type == "Metaspace" && (s.PrependScheme == "first" || s.PrependScheme == "always" || s.PrependScheme == "" && s.AddPrefixSpace)
	}
	return slices.ContainsFunc(t.Normalizer.flatten(), isPrepend) || slices.ContainsFunc(t.PreTokenizer.flatten(), isMetaspace)
}

// flatten returns the components of a sequence, or the one there is.
func (s *step) flatten() []step {
	switch {
	case s == nil:
		return nil
	case s.Type == "Sequence":
		return slices.Concat(s.Normalizers, s.Pretokenizers, s.Processors)
	}
	return []step{*s}
}

// addSpecials names the tokens that begin, end and fill texts, and says whether the first is added to each.
func (t *tokenizerFile) addSpecials(m *gguf.Metadata, tokenizerConfigJSON []byte) error {
	var c struct {
		BOS    *tokenText `json:"bos_token"`
		EOS    *tokenText `json:"eos_token"`
		Unk    *tokenText `json:"unk_token"`
		Pad    *tokenText `json:"pad_token"`
		AddBOS *bool      `json:"add_bos_token"`
	}
	if len(tokenizerConfigJSON) > 0 {
		if err := json.Unmarshal(tokenizerConfigJSON, &c); err != nil {
			return err
		}
	}
	tokens, err := m.Strings("tokenizer.ggml.tokens")
	if err != nil {
		return err
	}
	for _, s := range []struct {
		key   string
		token *tokenText
	}{{"bos", c.BOS}, {"eos", c.EOS}, {"unknown", c.Unk}, {"padding", c.Pad}} {
		if s.token == nil {
			continue
		}
		id := slices.Index(tokens, string(*s.token))
		if id < 0 {
			return fmt.Errorf("%s token %q is not in tokenizer.json", s.key, *s.token)
		}
		m.Set("tokenizer.ggml."+s.key+"_token_id", uint32(id))
	}
	add := c.AddBOS != nil && *c.AddBOS
	for _, s := range t.PostProcessor.flatten() {
		if s.Type == "TemplateProcessing" && len(s.Single) > 0 && s.Single[0].SpecialToken != nil && c.BOS != nil {
			add = s.Single[0].SpecialToken.ID == string(*c.BOS)
		}
	}
	m.Set("tokenizer.ggml.add_bos_token", add)
	return nil
}

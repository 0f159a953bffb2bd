package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Bounds on what a file may claim; the largest public vocabularies have 262,144 tokens and 514,906 merges.
const (
	maxFile   = 256 << 20
	maxTokens = 1 << 21
	maxMerges = 1 << 22
	maxAdded  = 1 << 16
	maxToken  = 4096 // bytes
)

// document is tokenizer.json, as far as ids depend on it.
type document struct {
	AddedTokens  []addedToken   `json:"added_tokens"`
	Normalizer   *component     `json:"normalizer"`
	PreTokenizer *component     `json:"pre_tokenizer"`
	Decoder      *component     `json:"decoder"`
	Around       *postProcessor `json:"post_processor"`
	Model        struct {
		Type         string           `json:"type"`
		Dropout      *float64         `json:"dropout"`
		Unknown      *string          `json:"unk_token"`
		Prefix       *string          `json:"continuing_subword_prefix"`
		Suffix       *string          `json:"end_of_word_suffix"`
		FuseUnknown  bool             `json:"fuse_unk"`
		ByteFallback bool             `json:"byte_fallback"`
		IgnoreMerges bool             `json:"ignore_merges"`
		Vocab        map[string]int32 `json:"vocab"`
		Merges       []mergeLine      `json:"merges"`
	} `json:"model"`
}

// mergeLine is "left right" or ["left", "right"].
type mergeLine struct{ left, right string }

func (m *mergeLine) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '[' {
		var parts []string
		if err := json.Unmarshal(data, &parts); err != nil {
			return err
		}
		if len(parts) != 2 {
			return fmt.Errorf("merge %.100q has %d parts, want 2", data, len(parts))
		}
		m.left, m.right = parts[0], parts[1]
		return nil
	}
	var line string
	if err := json.Unmarshal(data, &line); err != nil {
		return err
	}
	var ok bool
	if m.left, m.right, ok = strings.Cut(line, " "); !ok || strings.Contains(m.right, " ") {
		return fmt.Errorf("merge %.100q isn't two tokens with a space between", line)
	}
	return nil
}

// Parse reads a tokenizer.json (github.com/huggingface/tokenizers). The Tokenizer keeps data.
func Parse(data []byte) (*Tokenizer, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("tokenizer.json: %d bytes, want at most %d", len(data), maxFile)
	}
	var doc document
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	t, err := build(&doc)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	t.source = bytes.Clone(data)
	return t, nil
}

func build(doc *document) (*Tokenizer, error) {
	m := &doc.Model
	switch {
	case m.Type != "BPE" && (m.Type != "" || len(m.Merges) == 0):
		return nil, fmt.Errorf("model type %.40q isn't supported, want BPE", m.Type)
	case m.Dropout != nil && *m.Dropout != 0:
		return nil, fmt.Errorf("model has a dropout: its ids would be random")
	case m.Prefix != nil && *m.Prefix != "", m.Suffix != nil && *m.Suffix != "":
		return nil, fmt.Errorf("continuing_subword_prefix and end_of_word_suffix aren't supported")
	case len(m.Vocab) == 0:
		return nil, fmt.Errorf("model.vocab is empty")
	case len(m.Vocab) > maxTokens || len(m.Merges) > maxMerges || len(doc.AddedTokens) > maxAdded:
		return nil, fmt.Errorf("%d tokens, %d merges, %d added tokens, want at most %d, %d, %d",
			len(m.Vocab), len(m.Merges), len(doc.AddedTokens), maxTokens, maxMerges, maxAdded)
	}
	t := &Tokenizer{Config: Config{BOS: -1, EOS: -1, Unknown: -1, Pad: -1}, ids: make(map[string]int32, len(m.Vocab))}
	t.words.New = func() any { return new(merger) }
	var err error
	if t.normalize, err = newNormalizer(doc.Normalizer); err != nil {
		return nil, fmt.Errorf("normalizer: %w", err)
	}
	var byteLevel bool
	if t.split, byteLevel, err = newPretokenizer(doc.PreTokenizer); err != nil {
		return nil, fmt.Errorf("pre_tokenizer: %w", err)
	}
	if t.decoder, err = newDecoder(doc.Decoder); err != nil {
		return nil, fmt.Errorf("decoder: %w", err)
	}
	if byteLevel != t.decoder.byteLevel {
		return nil, fmt.Errorf("a ByteLevel must be in the pre_tokenizer and the decoder, or in neither")
	}
	if err := t.addVocabulary(doc); err != nil {
		return nil, err
	}
	if t.model, err = t.newBPE(doc); err != nil {
		return nil, err
	}
	if err := t.readSurround(doc.Around); err != nil {
		return nil, fmt.Errorf("post_processor: %w", err)
	}
	return t, nil
}

// addVocabulary fills the tables of ids, and the matchers of added tokens.
func (t *Tokenizer) addVocabulary(doc *document) error {
	for token, id := range doc.Model.Vocab {
		if err := t.addToken(token, id); err != nil {
			return err
		}
	}
	t.raw, t.normalized = newMatcher(), newMatcher()
	for _, added := range doc.AddedTokens {
		if have, ok := t.ids[added.Content]; ok && have != added.ID {
			return fmt.Errorf("added token %.40q has ids %d and %d", added.Content, have, added.ID)
		} else if !ok {
			if err := t.addToken(added.Content, added.ID); err != nil {
				return err
			}
		}
		p := &t.pieces[added.ID]
		if added.Special && !p.special {
			t.special++
		}
		p.special = p.special || added.Special
		if !added.Normalized {
			t.raw.add(added.Content, added)
			continue
		}
		pattern := added.Content
		for _, f := range t.normalize {
			if f.folds && added.Special {
				return fmt.Errorf("control token %.40q is looked for in text after Unicode normalization, which could make it of other characters", added.Content)
			}
			pattern = f.apply(pattern)
		}
		t.normalized.add(pattern, added)
	}
	return nil
}

func (t *Tokenizer) addToken(token string, id int32) error {
	switch {
	case id < 0 || id >= maxTokens:
		return fmt.Errorf("token %.40q has id %d, want 0 to %d", token, id, maxTokens-1)
	case len(token) > maxToken:
		return fmt.Errorf("token %d has %d bytes, want at most %d", id, len(token), maxToken)
	}
	if int(id) >= len(t.pieces) {
		t.pieces = append(t.pieces, make([]piece, int(id)+1-len(t.pieces))...)
	}
	if t.pieces[id].known {
		first, second := min(token, t.pieces[id].token), max(token, t.pieces[id].token)
		return fmt.Errorf("tokens %.40q and %.40q both have id %d", first, second, id)
	}
	text, isByte := t.decoder.text(token)
	t.pieces[id] = piece{token: token, bytes: text, known: true, byteOf: isByte}
	t.ids[token] = id
	return nil
}

// newBPE makes the model of all tokens that text may become: control tokens take no part in it.
func (t *Tokenizer) newBPE(doc *document) (*bpe, error) {
	m := &bpe{
		byteLevel: t.decoder.byteLevel,
		ids:       make(map[string]int32, len(doc.Model.Vocab)),
		fallback:  doc.Model.ByteFallback,
		unknown:   -1,
		fuse:      doc.Model.FuseUnknown,
		whole:     doc.Model.IgnoreMerges,
		merges:    make(map[pair]merge, len(doc.Model.Merges)),
		cache:     map[string][]int32{},
	}
	for i := range m.byteIDs {
		m.byteIDs[i] = -1
	}
	for _, token := range slices.Sorted(maps.Keys(doc.Model.Vocab)) {
		id := doc.Model.Vocab[token]
		if t.pieces[id].special {
			continue
		}
		spelling := token
		if m.byteLevel {
			var ok bool
			if spelling, ok = fromByteLevel(token); !ok {
				continue
			}
			if len(spelling) == 1 {
				m.byteIDs[spelling[0]] = id
			}
		} else if b, ok := byteToken(token); ok && m.fallback {
			m.byteIDs[b] = id
		}
		m.ids[spelling] = id
	}
	if unknown := doc.Model.Unknown; unknown != nil {
		id, ok := doc.Model.Vocab[*unknown]
		if !ok {
			return nil, fmt.Errorf("unk_token %.40q isn't in the vocabulary", *unknown)
		}
		m.unknown = id
	}
	for rank, line := range doc.Model.Merges {
		left, okLeft := doc.Model.Vocab[line.left]
		right, okRight := doc.Model.Vocab[line.right]
		result, ok := doc.Model.Vocab[line.left+line.right]
		if !okLeft || !okRight || !ok {
			return nil, fmt.Errorf("merge %d (%.40q, %.40q) needs a token that the vocabulary lacks", rank, line.left, line.right)
		}
		if t.pieces[left].special || t.pieces[right].special || t.pieces[result].special {
			continue
		}
		m.merges[pair{left, right}] = merge{int32(rank), result}
	}
	return m, nil
}

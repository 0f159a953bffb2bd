// Package tokenizer turns text into token ids and back, exactly as the model's authors' own tokenizer does.
//
// A [Tokenizer] is read from a Hugging Face tokenizer.json ([Parse], [Open]) or from the tokenizer.ggml.* metadata of a
// GGUF file ([FromGGUF], which writes a tokenizer.json first, so that there is one reader and one meaning). Two families
// are known: byte-level BPE (GPT-2, SmolLM, Llama 3, Qwen2) and SentencePiece-style BPE with byte fallback (Llama 2,
// Mistral, Zephyr). The pipeline is the one of Hugging Face's tokenizers library, in this order:
//
//	added tokens -> normalizer -> added tokens of normalized text -> pre-tokenizer -> BPE -> ids
//	ids -> pieces -> bytes -> UTF-8                                                  (Decode, Stream)
//
// Control tokens are no text: [Tokenizer.Encode] never yields a special id, whatever the text says. Only a caller that
// holds a rendered chat template asks for them, with [Tokenizer.EncodeWithSpecials] or [Tokenizer.EncodeGuarded].
//
// A Tokenizer doesn't change after it is made, apart from a bounded cache, and serves any number of goroutines.
package tokenizer

import (
	"strings"
	"sync"
	"unicode/utf8"
)

// Tokenizer is one model's vocabulary with its rules, and what its configuration says about it.
type Tokenizer struct {
	Config // beginning and end of sequence, chat template: what tokenizer_config.json and generation_config.json hold

	source     []byte  // the tokenizer.json
	pieces     []piece // by id
	ids        map[string]int32
	special    int      // how many ids are special
	raw        *matcher // added tokens looked for in the text as it came
	normalized *matcher // added tokens looked for in normalized text
	normalize  []normalizer
	split      []splitter
	model      *bpe
	decoder    decoder
	words      sync.Pool // of *merger: scratch memory for one word

	before, after []int32 // what tokenizer.json puts around a text
}

// piece is one id's token.
type piece struct {
	token   string // as the vocabulary spells it
	bytes   string // what it stands for in text
	known   bool
	special bool
	byteOf  bool // stands for one byte of byte fallback
}

// noGuard is a rune that no text holds.
const noGuard = rune(-1)

// Size returns the number of ids, holes included: every id is in [0, Size).
func (t *Tokenizer) Size() int { return len(t.pieces) }

// ID returns the id of a token as the vocabulary spells it, special tokens included.
func (t *Tokenizer) ID(token string) (id int32, ok bool) {
	id, ok = t.ids[token]
	return id, ok
}

// Token returns the vocabulary's spelling of id.
func (t *Tokenizer) Token(id int32) (token string, ok bool) {
	if id < 0 || int(id) >= len(t.pieces) || !t.pieces[id].known {
		return "", false
	}
	return t.pieces[id].token, true
}

// IsSpecial says whether id is a control token, such as the end of a turn.
func (t *Tokenizer) IsSpecial(id int32) bool {
	return id >= 0 && int(id) < len(t.pieces) && t.pieces[id].special
}

// Specials returns the spellings of all control tokens, in id order.
func (t *Tokenizer) Specials() []string {
	names := make([]string, 0, t.special)
	for _, p := range t.pieces {
		if p.special {
			names = append(names, p.token)
		}
	}
	return names
}

// Encode returns the ids of text. Nothing is added before or after it, and control tokens that the text spells are
// encoded as the characters they are made of. Bytes that are no UTF-8 become U+FFFD, as in every peer.
func (t *Tokenizer) Encode(text string) []int32 { return t.encode(text, atStart, false, noGuard) }

// EncodeContinued is Encode for text that goes on after other text: no space is put before it, where the tokenizer
// puts one before each text. For byte-level vocabularies it is Encode.
func (t *Tokenizer) EncodeContinued(text string) []int32 {
	return t.encode(text, goingOn, false, noGuard)
}

// EncodeWithSpecials is Encode for trusted text, such as a rendered template: a control token that it spells becomes
// that token's id. Nothing is added before or after it.
func (t *Tokenizer) EncodeWithSpecials(text string) []int32 {
	return t.encode(text, atStart, true, noGuard)
}

// EncodeGuarded is EncodeWithSpecials for text that is trusted in part. No control token is read that starts right
// after a guard rune or holds one; the guards themselves leave no trace in the ids. A caller puts one before each place
// in untrusted text where a control token could start (see pkg/chat), and takes a guard that occurs nowhere else.
func (t *Tokenizer) EncodeGuarded(text string, guard rune) []int32 {
	return t.encode(text, atStart, true, guard)
}

func (t *Tokenizer) encode(text string, start place, specials bool, guard rune) []int32 {
	text = validUTF8(text)
	scratch := t.words.Get().(*merger)
	defer t.words.Put(scratch)
	ids := make([]int32, 0, len(text)/3+4)
	word := func(w string) { ids = t.model.appendWord(ids, w, scratch) }
	t.raw.each(text, specials, guard, func(offset int, plain string, id int32) {
		if id >= 0 {
			ids = append(ids, id)
			return
		}
		at := start.of(offset == 0)
		for _, step := range t.normalize {
			if !step.prefix || at != goingOn {
				plain = step.apply(plain)
			}
		}
		t.normalized.each(plain, specials, guard, func(offset int, plain string, id int32) {
			if id >= 0 {
				ids = append(ids, id)
				return
			}
			if guard != noGuard {
				plain = strings.ReplaceAll(plain, string(guard), "")
			}
			t.pretokenize(plain, at.of(offset == 0), 0, word)
		})
	})
	return ids
}

// pretokenize runs text through the pre-tokenizers from number step on and hands each word to emit.
func (t *Tokenizer) pretokenize(text string, at place, step int, emit func(string)) {
	if text == "" {
		return
	}
	if step == len(t.split) {
		emit(text)
		return
	}
	t.split[step](text, at, func(part string, at place) { t.pretokenize(part, at, step+1, emit) })
}

// validUTF8 returns s with U+FFFD for each maximal part of an ill-formed sequence (Unicode 15, section 3.9, "U+FFFD
// Substitution of Maximal Subparts"), as Python's errors="replace" and Rust's from_utf8_lossy do.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n <= 1 {
			n = maximalSubpart(s[i:])
			b.WriteRune(utf8.RuneError)
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// maximalSubpart returns the length of the longest start of s, an ill-formed sequence, that could have become a
// character: 1 where the first byte can't start one.
func maximalSubpart(s string) int {
	// Table 3-7 of the Unicode standard: the second byte's range depends on the first, later bytes are 80..BF.
	low, high, want := byte(0x80), byte(0xBF), 0
	switch c := s[0]; {
	case c >= 0xC2 && c <= 0xDF:
		want = 1
	case c == 0xE0:
		low, want = 0xA0, 2
	case c == 0xED:
		high, want = 0x9F, 2
	case c >= 0xE1 && c <= 0xEF:
		want = 2
	case c == 0xF0:
		low, want = 0x90, 3
	case c >= 0xF1 && c <= 0xF3:
		want = 3
	case c == 0xF4:
		high, want = 0x8F, 3
	}
	n := 1
	for ; n <= want && n < len(s) && s[n] >= low && s[n] <= high; n++ {
		low, high = 0x80, 0xBF
	}
	return n
}

package tokenizer

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder says how pieces become text.
type decoder struct {
	byteLevel bool
	space     string // the character that stands for a space, "" where a space is a space
	bytes     bool   // <0xNN> is a byte
	strip     int    // spaces to drop where the text starts
	stripAll  bool   // drop all leading spaces of the first token instead (Metaspace)
}

// newDecoder reads tokenizer.json's decoder.
func newDecoder(c *component) (d decoder, err error) {
	steps, err := c.flatten()
	if err != nil {
		return d, err
	}
	for _, step := range steps {
		switch step.Type {
		case "ByteLevel":
			d.byteLevel = true
		case "Replace":
			if step.Pattern == nil || step.Pattern.String == nil || step.Content != " " || utf8.RuneCountInString(*step.Pattern.String) != 1 {
				return d, fmt.Errorf("a Replace of anything but one character by a space")
			}
			d.space = *step.Pattern.String
		case "ByteFallback":
			d.bytes = true
		case "Fuse":
		case "Strip":
			if step.Content != " " || step.Stop != 0 || step.Start < 0 {
				return d, fmt.Errorf("a Strip of anything but leading spaces")
			}
			d.strip = step.Start
		case "Metaspace":
			scheme, err := step.prependScheme()
			if err != nil {
				return d, err
			}
			d.space, d.stripAll = step.Replacement, scheme != "never"
		default:
			return d, fmt.Errorf("type %q isn't known (known: Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace)", step.Type)
		}
	}
	if d.byteLevel && len(steps) > 1 {
		return d, fmt.Errorf("a ByteLevel with other steps")
	}
	return d, nil
}

// text returns what a token of the vocabulary stands for.
func (d decoder) text(token string) (text string, isByte bool) {
	if d.byteLevel {
		if raw, ok := fromByteLevel(token); ok {
			return raw, false
		}
		return token, false
	}
	if b, ok := byteToken(token); ok && d.bytes {
		return string([]byte{b}), true
	}
	if d.space != "" {
		token = strings.ReplaceAll(token, d.space, " ")
	}
	return token, false
}

// byteToken reads <0xNN>.
func byteToken(token string) (byte, bool) {
	if len(token) != 6 || token[:3] != "<0x" || token[5] != '>' {
		return 0, false
	}
	n, err := strconv.ParseUint(token[3:5], 16, 8)
	return byte(n), err == nil
}

// fromByteLevel turns the printable spelling of bytes back into bytes; false where token holds another character.
func fromByteLevel(token string) (string, bool) {
	raw := make([]byte, 0, len(token))
	for _, r := range token {
		b, ok := byteOfRune(r)
		if !ok {
			return "", false
		}
		raw = append(raw, b)
	}
	return string(raw), true
}

// byteOfRune is the inverse of GPT-2's bytes_to_unicode: printable Latin-1 stands for itself, the other 68 bytes, in
// order, for U+0100 to U+0143.
func byteOfRune(r rune) (byte, bool) {
	switch {
	case r >= '!' && r <= '~', r >= 0xA1 && r <= 0xAC, r >= 0xAE && r <= 0xFF:
		return byte(r), true
	case r >= 0x100 && r <= 0x120: // 00..20
		return byte(r - 0x100), true
	case r >= 0x121 && r <= 0x142: // 7F..A0
		return byte(r - 0x121 + 0x7F), true
	case r == 0x143:
		return 0xAD, true
	}
	return 0, false
}

// Decode returns the text of ids without the control tokens. Bytes that make no character become U+FFFD, ids out of
// range nothing.
func (t *Tokenizer) Decode(ids []int32) string { return t.decode(ids, false) }

// DecodeWithSpecials is Decode with the control tokens spelled out.
func (t *Tokenizer) DecodeWithSpecials(ids []int32) string { return t.decode(ids, true) }

func (t *Tokenizer) decode(ids []int32, specials bool) string {
	s := t.stream(specials)
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(s.Next(id))
	}
	b.WriteString(s.Flush())
	return b.String()
}

// Stream decodes ids one by one. What Next and Flush return, put together, is what Decode of all ids returns, and no
// piece of it ends inside a character. It belongs to one goroutine.
type Stream struct {
	t        *Tokenizer
	specials bool
	started  bool // a token has been seen
	strip    int  // spaces still to drop
	pending  []byte
}

// NewStream returns a decoder that leaves control tokens out.
func (t *Tokenizer) NewStream() *Stream { return t.stream(false) }

func (t *Tokenizer) stream(specials bool) *Stream {
	return &Stream{t: t, specials: specials, strip: t.decoder.strip}
}

// Next takes one id and returns the text that is now certain: possibly none, while a character is incomplete.
func (s *Stream) Next(id int32) string {
	if _, ok := s.t.Token(id); !ok {
		return ""
	}
	p := s.t.pieces[id]
	if p.special && !s.specials {
		return ""
	}
	text := p.bytes
	if !s.started && s.t.decoder.stripAll && !p.byteOf {
		text = strings.ReplaceAll(p.token, s.t.decoder.space, "")
	}
	s.started = true
	for s.strip > 0 && text != "" {
		if text[0] != ' ' {
			s.strip = 0
			break
		}
		text = text[1:]
		s.strip--
	}
	s.pending = append(s.pending, text...)
	return s.take(completeLen(s.pending))
}

// Flush returns what is left, U+FFFD for an incomplete character, and makes the stream ready for another text.
func (s *Stream) Flush() string {
	s.started, s.strip = false, s.t.decoder.strip
	return s.take(len(s.pending))
}

func (s *Stream) take(n int) string {
	text := validUTF8(string(s.pending[:n]))
	s.pending = append(s.pending[:0], s.pending[n:]...)
	return text
}

// completeLen returns the length of b without a last character whose bytes are still missing.
func completeLen(b []byte) int {
	for back := 1; back <= utf8.UTFMax-1 && back <= len(b); back++ {
		tail := b[len(b)-back:]
		if utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return len(b) - back
			}
			break
		}
	}
	return len(b)
}

package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// addedToken is an entry of tokenizer.json's "added_tokens": found in the text before anything else is done to it.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // only where no word character touches it
	LStrip     bool   `json:"lstrip"`      // takes the white space before it
	RStrip     bool   `json:"rstrip"`      // takes the white space after it
	Normalized bool   `json:"normalized"`  // looked for in normalized text
	Special    bool   `json:"special"`
}

// matcher finds added tokens: at each position the longest, from left to right.
type matcher struct {
	tokens []addedToken
	starts [256]bool
	edges  map[edge]int32 // a trie over bytes; node 0 is the root
	leaf   []int32        // by node: index into tokens, or -1
}

type edge struct {
	node int32
	b    byte
}

func newMatcher() *matcher { return &matcher{edges: map[edge]int32{}, leaf: []int32{-1}} }

// add makes the matcher look for pattern, which stands for token. An empty pattern is never found.
func (m *matcher) add(pattern string, token addedToken) {
	if pattern == "" {
		return
	}
	m.starts[pattern[0]] = true
	node := int32(0)
	for i := range len(pattern) {
		next, ok := m.edges[edge{node, pattern[i]}]
		if !ok {
			next = int32(len(m.leaf))
			m.edges[edge{node, pattern[i]}] = next
			m.leaf = append(m.leaf, -1)
		}
		node = next
	}
	m.leaf[node] = int32(len(m.tokens))
	m.tokens = append(m.tokens, token)
}

// each cuts text at its added tokens and hands over the parts in order: an id >= 0 for a token, else -1 and the plain
// text, which starts at byte at. Special tokens are found only where specials is set, and none right after a guard.
func (m *matcher) each(text string, specials bool, guard rune, part func(at int, plain string, id int32)) {
	done := 0
	for i := 0; i < len(text); {
		if !m.starts[text[i]] {
			i++
			continue
		}
		token, size := m.longest(text, i, specials && !guarded(text[:i], guard))
		if size == 0 {
			i++
			continue
		}
		start, end := i, i+size
		if token.LStrip {
			start = max(done, len(strings.TrimRightFunc(text[:start], unicode.IsSpace)))
		}
		if token.RStrip {
			end = len(text) - len(strings.TrimLeftFunc(text[end:], unicode.IsSpace))
		}
		if done < start {
			part(done, text[done:start], -1)
		}
		part(start, "", token.ID)
		done, i = end, end
	}
	if done < len(text) {
		part(done, text[done:], -1)
	}
}

// longest returns the longest token that starts at text[i] and may stand there, and its length in bytes; 0: none.
func (m *matcher) longest(text string, i int, specials bool) (token addedToken, size int) {
	node := int32(0)
	for j := i; j < len(text); j++ {
		next, ok := m.edges[edge{node, text[j]}]
		if !ok {
			break
		}
		node = next
		if m.leaf[node] < 0 {
			continue
		}
		t := m.tokens[m.leaf[node]]
		if t.Special && !specials || t.SingleWord && touchesWord(text[:i], text[j+1:]) {
			continue
		}
		token, size = t, j+1-i
	}
	return token, size
}

func guarded(before string, guard rune) bool {
	if guard == noGuard {
		return false
	}
	r, _ := utf8.DecodeLastRuneInString(before)
	return r == guard && before != ""
}

func touchesWord(before, after string) bool {
	last, _ := utf8.DecodeLastRuneInString(before)
	first, _ := utf8.DecodeRuneInString(after)
	return before != "" && isWord(last) || after != "" && isWord(first)
}

// isWord is \w of Unicode regular expressions.
func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic) || r == '\u200c' || r == '\u200d'
}

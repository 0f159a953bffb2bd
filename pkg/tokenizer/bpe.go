package tokenizer

import (
	"sync"
	"unicode/utf8"
)

// Words are short and repeat: the cache holds this many, each of at most cachedWord bytes, and then stops growing.
const (
	cachedWords = 10_000
	cachedWord  = 64
)

// bpe is byte-pair encoding (Sennrich et al., arXiv 1508.07909, algorithm 1): from its smallest symbols, a word's
// adjacent pair of the lowest rank is merged, the leftmost first, until no pair has a rank.
type bpe struct {
	byteLevel bool             // symbols are bytes; else characters
	ids       map[string]int32 // bytes of a piece -> id; no special token is here, so none can come out
	byteIDs   [256]int32       // byte-level: the byte's piece. Else its byte-fallback piece, <0xNN>. -1: none
	fallback  bool             // characters without a piece become bytes
	unknown   int32            // else this id, or nothing where it is -1
	fuse      bool             // neighbouring unknown characters are one unknown
	whole     bool             // a word that is a piece is that piece, whatever the merges say ("ignore_merges")
	merges    map[pair]merge

	mu    sync.RWMutex
	cache map[string][]int32
}

type pair struct{ left, right int32 }

type merge struct{ rank, id int32 }

// merger is scratch memory for one word: a linked list of symbols and a heap of merges to try.
type merger struct {
	id, prev, next []int32
	heap           []candidate
}

// candidate says that the symbol at pos and the next one merge into id. It is stale once either has changed.
type candidate struct{ rank, pos, id int32 }

func (c candidate) before(d candidate) bool {
	return c.rank < d.rank || c.rank == d.rank && c.pos < d.pos
}

// appendWord appends the ids of one word.
func (m *bpe) appendWord(dst []int32, word string, s *merger) []int32 {
	if m.whole {
		if id, ok := m.ids[word]; ok {
			return append(dst, id)
		}
	}
	if len(word) <= cachedWord {
		m.mu.RLock()
		ids, ok := m.cache[word]
		m.mu.RUnlock()
		if ok {
			return append(dst, ids...)
		}
	}
	from := len(dst)
	m.symbols(word, s)
	s.run(m.merges)
	for i := int32(0); i >= 0 && len(s.id) > 0; i = s.next[i] {
		dst = append(dst, s.id[i])
	}
	if len(word) <= cachedWord {
		m.mu.Lock()
		if len(m.cache) < cachedWords {
			m.cache[string([]byte(word))] = append([]int32(nil), dst[from:]...) // a copy: word would hold its whole text
		}
		m.mu.Unlock()
	}
	return dst
}

// symbols fills s with the word's smallest symbols.
func (m *bpe) symbols(word string, s *merger) {
	s.id = s.id[:0]
	if m.byteLevel {
		for i := range len(word) {
			if id := m.byteIDs[word[i]]; id >= 0 {
				s.id = append(s.id, id)
			} else if m.unknown >= 0 {
				s.unknown(m.unknown, m.fuse)
			}
		}
		return
	}
	for i, r := range word {
		size := utf8.RuneLen(r)
		if id, ok := m.ids[word[i:i+size]]; ok {
			s.id = append(s.id, id)
			continue
		}
		if m.fallback && m.appendBytes(word[i:i+size], s) {
			continue
		}
		if m.unknown >= 0 {
			s.unknown(m.unknown, m.fuse)
		}
	}
}

// appendBytes appends the byte-fallback pieces of a character, if the vocabulary has them all.
func (m *bpe) appendBytes(char string, s *merger) bool {
	for i := range len(char) {
		if m.byteIDs[char[i]] < 0 {
			return false
		}
	}
	for i := range len(char) {
		s.id = append(s.id, m.byteIDs[char[i]])
	}
	return true
}

func (s *merger) unknown(id int32, fuse bool) {
	if n := len(s.id); !fuse || n == 0 || s.id[n-1] != id {
		s.id = append(s.id, id)
	}
}

// run merges until nothing merges. Afterwards the list from symbol 0 along next is the result.
func (s *merger) run(merges map[pair]merge) {
	n := int32(len(s.id))
	s.prev, s.next, s.heap = s.prev[:0], s.next[:0], s.heap[:0]
	for i := range n {
		s.prev, s.next = append(s.prev, i-1), append(s.next, i+1)
	}
	if n == 0 {
		return
	}
	s.next[n-1] = -1
	try := func(pos int32) {
		if pos < 0 || s.next[pos] < 0 {
			return
		}
		if m, ok := merges[pair{s.id[pos], s.id[s.next[pos]]}]; ok {
			s.push(candidate{m.rank, pos, m.id})
		}
	}
	for i := range n {
		try(i)
	}
	for len(s.heap) > 0 {
		c := s.pop()
		right := s.next[c.pos]
		if s.id[c.pos] < 0 || right < 0 {
			continue
		}
		if m, ok := merges[pair{s.id[c.pos], s.id[right]}]; !ok || m.id != c.id {
			continue
		}
		s.id[c.pos], s.id[right] = c.id, -1 // -1: merged away
		s.next[c.pos] = s.next[right]
		if after := s.next[c.pos]; after >= 0 {
			s.prev[after] = c.pos
		}
		try(s.prev[c.pos])
		try(c.pos)
	}
}

func (s *merger) push(c candidate) {
	s.heap = append(s.heap, c)
	for i := len(s.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !s.heap[i].before(s.heap[up]) {
			return
		}
		s.heap[i], s.heap[up] = s.heap[up], s.heap[i]
		i = up
	}
}

func (s *merger) pop() candidate {
	top, last := s.heap[0], len(s.heap)-1
	s.heap[0] = s.heap[last]
	s.heap = s.heap[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if s.heap[child].before(s.heap[least]) {
				least = child
			}
		}
		if least == i {
			return top
		}
		s.heap[i], s.heap[least] = s.heap[least], s.heap[i]
		i = least
	}
}

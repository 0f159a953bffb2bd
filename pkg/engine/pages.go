package engine

import "fmt"

// pool owns the cache's pages. A page is free, or held by one or more sequences, or kept: full,
// held by nobody, and remembered for the tokens in it until its room is needed.
//
// Remembered pages form a trie: a page's key is its parent page's id and its own tokens, so a
// prompt's beginning is found page by page. Only whole pages of prompts are remembered.
type pool struct {
	pageTokens int
	free       []int32
	refs       []int32           // [pages] holders
	known      map[pageKey]int32 // remembered pages
	keys       []pageKey         // [pages] a remembered page's key
	remembered []bool            // [pages]
	kept       lru               // pages with no holder that are still remembered
	children   []int32           // [pages] remembered pages whose parent this is
}

// pageKey names a page's contents.
type pageKey struct {
	parent int32 // −1: the first page
	tokens string
}

func newPool(pages, pageTokens int) *pool {
	p := &pool{
		pageTokens: pageTokens, refs: make([]int32, pages), known: map[pageKey]int32{},
		keys: make([]pageKey, pages), remembered: make([]bool, pages), kept: newLRU(pages), children: make([]int32, pages),
	}
	for i := pages - 1; i >= 0; i-- {
		p.free = append(p.free, int32(i))
	}
	return p
}

// available is the number of pages that take could hand out.
func (p *pool) available() int { return len(p.free) + p.kept.len() }

// take hands out a page with one holder. The caller has asked available.
func (p *pool) take() int32 {
	if len(p.free) == 0 {
		p.evict()
	}
	page := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.refs[page] = 1
	return page
}

// evict forgets the least recently used kept page that no remembered page continues.
func (p *pool) evict() {
	for page := p.kept.oldest(); page >= 0; page = p.kept.newer(page) {
		if p.children[page] == 0 {
			p.kept.remove(page)
			p.forget(page)
			p.free = append(p.free, page)
			return
		}
	}
	panic("engine: no page to evict")
}

func (p *pool) forget(page int32) {
	k := p.keys[page]
	delete(p.known, k)
	p.remembered[page], p.keys[page] = false, pageKey{}
	if k.parent >= 0 {
		p.children[k.parent]--
	}
}

// hold adds a holder to a page that has one or is kept.
func (p *pool) hold(page int32) {
	if p.refs[page] == 0 {
		p.kept.remove(page)
	}
	p.refs[page]++
}

// release takes a holder away.
func (p *pool) release(page int32) {
	p.refs[page]--
	switch {
	case p.refs[page] > 0:
	case p.refs[page] < 0:
		panic(fmt.Sprintf("engine: page %d released twice", page))
	case p.remembered[page]:
		p.kept.push(page)
	default:
		p.free = append(p.free, page)
	}
}

// lookup is the remembered page that continues parent with these tokens, or −1.
func (p *pool) lookup(parent int32, tokens string) int32 {
	if page, ok := p.known[pageKey{parent, tokens}]; ok {
		return page
	}
	return -1
}

// remember makes a full page findable, and reports whether it is. It is not where another page
// holds the same already; nor may the pages that continue it be then: whoever holds a remembered
// page holds its parents too, so a kept page never has a child in use, and can always be evicted
// after its children.
func (p *pool) remember(page, parent int32, tokens string) bool {
	k := pageKey{parent, tokens}
	if known, ok := p.known[k]; ok {
		return known == page
	}
	p.known[k], p.keys[page], p.remembered[page] = page, k, true
	if parent >= 0 {
		p.children[parent]++
	}
	return true
}

// lru orders pages by when they were last let go: a doubly linked list over page ids.
type lru struct {
	next, prev []int32 // index len(pages) is the list's head
	n          int
}

func newLRU(pages int) lru {
	l := lru{make([]int32, pages+1), make([]int32, pages+1), 0}
	l.next[pages], l.prev[pages] = int32(pages), int32(pages)
	return l
}

func (l *lru) len() int      { return l.n }
func (l *lru) head() int32   { return int32(len(l.next) - 1) }
func (l *lru) oldest() int32 { return l.at(l.next[l.head()]) }

// newer is the page let go after this one, or −1.
func (l *lru) newer(page int32) int32 { return l.at(l.next[page]) }

func (l *lru) at(i int32) int32 {
	if i == l.head() {
		return -1
	}
	return i
}

func (l *lru) push(page int32) {
	h := l.head()
	last := l.prev[h]
	l.next[last], l.prev[page] = page, last
	l.next[page], l.prev[h] = h, page
	l.n++
}

func (l *lru) remove(page int32) {
	l.next[l.prev[page]], l.prev[l.next[page]] = l.next[page], l.prev[page]
	l.n--
}

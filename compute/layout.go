package compute

import "fmt"

// Layout says where sequences lie in a batch that holds them end to end, without padding.
//
// A packed batch is a forest: segment i is tokens [Start[i], Start[i+1]), and continues segment
// Parent[i], or none. A game's prompt is one segment, its real answer and each of its draws are
// children of it, so that the prompt is computed once (prefix sharing, arXiv 2410.20305).
//
// A chunk for the paged cache has Past and Pages instead: segment i continues Past[i] tokens that
// the cache holds, and its pages hold Past[i] + its own tokens.
type Layout struct {
	Start  []int32   // [segments+1], Start[0] = 0, not decreasing
	Parent []int32   // [segments], Parent[i] < i, or −1; nil: all −1
	Past   []int32   // [segments]; nil: all 0
	Pos    []int32   // [tokens]: each token's position in its sequence, ancestors or Past counted
	Pages  [][]int32 // [segments]: the pages of its sequence in order; nil where no cache is used
}

// Tokens is the number of tokens in the batch.
func (l Layout) Tokens() int {
	if len(l.Start) == 0 {
		return 0
	}
	return int(l.Start[len(l.Start)-1])
}

// Segments is the number of segments.
func (l Layout) Segments() int { return max(len(l.Start)-1, 0) }

// Check returns what breaks the rules of a layout, or nil. pageTokens is 0 where no cache is used.
func (l Layout) Check(pageTokens int) error {
	n := l.Segments()
	if n > 0 && l.Start[0] != 0 {
		return fmt.Errorf("compute: layout starts at token %d", l.Start[0])
	}
	if len(l.Pos) != l.Tokens() {
		return fmt.Errorf("compute: layout has %d tokens and %d positions", l.Tokens(), len(l.Pos))
	}
	if l.Parent != nil && len(l.Parent) != n || l.Past != nil && len(l.Past) != n || l.Pages != nil && len(l.Pages) != n {
		return fmt.Errorf("compute: layout of %d segments has %d parents, %d pasts, %d page lists", n, len(l.Parent), len(l.Past), len(l.Pages))
	}
	for i := range n {
		if l.Start[i+1] < l.Start[i] {
			return fmt.Errorf("compute: segment %d ends before it starts", i)
		}
	}
	for i := range n {
		first := int32(0)
		if l.Past != nil {
			first = l.Past[i]
		}
		if l.Parent != nil && l.Parent[i] != -1 {
			p := int(l.Parent[i])
			if p < 0 || p >= i {
				return fmt.Errorf("compute: segment %d continues segment %d", i, p)
			}
			if first != 0 {
				return fmt.Errorf("compute: segment %d has a parent and a past", i)
			}
			if l.Start[p+1] == l.Start[p] {
				return fmt.Errorf("compute: segment %d continues segment %d, which is empty", i, p)
			}
			first = l.Pos[l.Start[p+1]-1] + 1
		}
		if first < 0 {
			return fmt.Errorf("compute: segment %d has a past of %d tokens", i, first)
		}
		for t := l.Start[i]; t < l.Start[i+1]; t++ {
			if l.Pos[t] != first+t-l.Start[i] {
				return fmt.Errorf("compute: token %d of segment %d is at position %d, want %d", t-l.Start[i], i, l.Pos[t], first+t-l.Start[i])
			}
		}
		if pageTokens > 0 {
			if l.Pages == nil {
				return fmt.Errorf("compute: layout without pages")
			}
			if have, want := len(l.Pages[i])*pageTokens, int(first+l.Start[i+1]-l.Start[i]); have < want {
				return fmt.Errorf("compute: segment %d has pages for %d tokens, needs %d", i, have, want)
			}
		}
	}
	return nil
}

// Heads is the shape of an attention.
type Heads struct {
	Q, KV  int     // query heads, and key/value heads: Q is a multiple of KV
	Dim    int     // of one head
	Window int     // a token sees this many positions, itself included; 0: all
	Scale  float32 // of the scores, usually 1/√Dim
}

// Cache holds one layer's keys and values by page: position p of a sequence lies in page
// Pages[p / PageTokens], which is PageTokens rows of K and V [pages·PageTokens, KV·Dim] act. How keys
// and values lie within their page is the device's affair, which WriteKV, AttentionPaged and
// CopyPages agree on for one PageTokens. Keys are rotated already.
type Cache struct {
	K, V       Tensor
	PageTokens int
}

// Package engine generates: continuous batching over a paged cache of keys and values, with shared
// prompt prefixes. It speaks token ids only, no text.
//
// A request is a prompt and a number of draws. Each Step advances everything that runs by one
// token, and fills the rest of its rows with prompts still to be read. What is drawn depends on the
// request alone: not on its batch-mates, on when it came, on the page size or on how its prompt was
// cut into chunks (compute.Backend's fixed-order rules), and every draw has its own random numbers
// (compute.Sampling).
package engine

import "fmt"

// Request asks for some answers to one prompt.
type Request struct {
	ID     string // the caller's
	Prompt []int32
	Draws  int     // how many answers
	MaxNew int     // tokens an answer may have
	Stop   []int32 // an answer ends after one of these
	// Temperature, TopP and TopK are compute.Sampling's.
	Temperature float32
	TopP        float32
	TopK        int32
	// The random numbers' key: answer d is drawn with (Seed, Iteration, Index, FirstDraw + d).
	Seed      uint64
	Iteration uint32
	Index     uint32
	FirstDraw uint32
	// OnToken, where not nil, is told each token as it is drawn, and says whether the answer goes on:
	// a caller that knows text ends it at a text. Then it must say so of the request alone.
	OnToken func(draw int, id int32) (more bool)
}

// Finish is why an answer ended.
type Finish string

const (
	FinishStop   Finish = "stop"   // the model drew a stop token, which is the answer's last, or OnToken ended it
	FinishLength Finish = "length" // MaxNew was reached
)

// Answer is one draw.
type Answer struct {
	IDs    []int32
	Logps  []float64 // of each id, log softmax at temperature 1, in nats
	Finish Finish
}

// Result is a finished request.
type Result struct {
	Request *Request
	Answers []Answer // in the order of the draws
	Cached  int      // tokens of the prompt that were found in the cache
}

// Check says why the request could never run on this engine, or nil.
func (e *Engine) Check(r *Request) error {
	m, cfg := e.decoder.Model(), e.decoder.Config()
	switch {
	case len(r.Prompt) == 0:
		return fmt.Errorf("request %s: empty prompt", r.ID)
	case r.Draws < 1 || r.Draws > cfg.Sequences:
		return fmt.Errorf("request %s: %d draws, want 1 to %d", r.ID, r.Draws, cfg.Sequences)
	case r.MaxNew < 1:
		return fmt.Errorf("request %s: max new tokens is %d, want 1 or more", r.ID, r.MaxNew)
	case len(r.Prompt)+r.MaxNew > m.Context:
		return fmt.Errorf("request %s: prompt of %d tokens and %d new ones exceed the context of %d", r.ID, len(r.Prompt), r.MaxNew, m.Context)
	case !(r.Temperature >= 0):
		return fmt.Errorf("request %s: temperature is %v, want 0 or more", r.ID, r.Temperature)
	case !(r.TopP > 0 && r.TopP <= 1):
		return fmt.Errorf("request %s: top_p is %v, want more than 0 and at most 1", r.ID, r.TopP)
	case r.TopK < 0:
		return fmt.Errorf("request %s: top_k is %d, want 0 (off) or more", r.ID, r.TopK)
	case e.pages(r) > cfg.Pages:
		return fmt.Errorf("request %s: needs %d cache pages, there are %d", r.ID, e.pages(r), cfg.Pages)
	}
	for i, id := range r.Prompt {
		if id < 0 || int(id) >= m.Vocab {
			return fmt.Errorf("request %s: prompt token %d has id %d, the vocabulary has %d", r.ID, i, id, m.Vocab)
		}
	}
	return nil
}

// pages is how many the request needs while it runs, with nothing shared with others: the whole
// pages of its prompt once, and for each draw the rest up to the last token that is read (the last
// one drawn never is).
func (e *Engine) pages(r *Request) int {
	pt := e.decoder.Config().PageTokens
	whole := len(r.Prompt) / pt
	return whole + r.Draws*e.ownPages(r)
}

func (e *Engine) ownPages(r *Request) int {
	pt := e.decoder.Config().PageTokens
	return max((len(r.Prompt)+r.MaxNew-1+pt-1)/pt-len(r.Prompt)/pt, 0)
}

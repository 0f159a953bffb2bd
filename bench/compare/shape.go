package main

import (
	"fmt"

	"github.com/seed-8780d58e/spin/pkg/checkpoint"
	"github.com/seed-8780d58e/spin/pkg/model"
)

// shape is the model that is measured: how many products of which sizes it is.
type shape struct{ model.Config }

func readShape(path string) (shape, error) {
	c, err := checkpoint.Open(path)
	if err != nil {
		return shape{}, err
	}
	defer c.Close()
	cfg, err := model.ParseConfig(c.Config())
	if err != nil {
		return shape{}, fmt.Errorf("%s: %w", path, err)
	}
	return shape{cfg}, nil
}

// linears are a layer's [out, in], each once.
func (m shape) linears() [][2]int {
	return [][2]int{{m.Intermediate, m.Hidden}, {m.Hidden, m.Intermediate}, {m.QueryWidth(), m.Hidden}, {m.KVWidth(), m.Hidden}}
}

func (m shape) head() [2]int { return [2]int{m.Vocab, m.Hidden} }

// count is how many weights of shape s the model has: gate and up, down, q and o, k and v; the head.
func (m shape) count(s [2]int) int {
	if s == m.head() {
		return 1
	}
	return m.Layers * [4]int{2, 1, 2, 2}[indexOf(m.linears(), s)]
}

func indexOf(list [][2]int, s [2]int) int {
	for i, x := range list {
		if x == s {
			return i
		}
	}
	panic("compare: not a shape of the model")
}

// linearWeights is the elements of all layers' matrices.
func (m shape) linearWeights() float64 {
	n := 0.0
	for _, s := range m.linears() {
		n += float64(m.count(s) * s[0] * s[1])
	}
	return n
}

func (m shape) headWeights() float64 { return float64(m.Vocab * m.Hidden) }

// pairFLOP is what attention computes for one query and one key: q·k and p·v, over all heads and
// layers.
func (m shape) pairFLOP() float64 { return 4 * float64(m.Layers*m.Heads*m.HeadDim) }

// causal is the keys that n tokens after before see, themselves included.
func causal(before, n int) float64 { return float64(n)*float64(before) + float64(n)*float64(n+1)/2 }

// stepFLOP is the useful work of a step over games whose sequences have length tokens, half of them
// the prompt's: forward, and twice that backward; a prompt once, each answer's last token never read,
// nothing that is computed again.
func (m shape) stepFLOP(games, length int) float64 {
	half := length / 2
	tokens := float64(games * (half + 2*(half-1)))
	targets := float64(games * 2 * half)
	pairs := float64(games) * (causal(0, half) + 2*causal(half, half-1))
	return 3 * (2*tokens*m.linearWeights() + 2*targets*m.headWeights() + pairs*m.pairFLOP())
}

// decodeFLOP is the useful work of new−1 steps of batch sequences after their prompts.
func (m shape) decodeFLOP(batch, prompt, fresh int) float64 {
	return float64(batch) * (float64(fresh-1)*2*(m.linearWeights()+m.headWeights()) + causal(prompt, fresh-1)*m.pairFLOP())
}

// stepBytes is what one step of one sequence in BF16 must read, on average: every weight once, and
// the keys and values so far.
func (m shape) stepBytes(prompt, fresh int) float64 {
	context := causal(prompt, fresh-1) / float64(fresh-1)
	return 2*(m.linearWeights()+m.headWeights()) + 2*2*context*float64(m.Layers*m.KVWidth())
}

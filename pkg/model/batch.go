package model

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute"
)

// Tree is a prompt and the answers that continue it: a game as the model sees it. The logp of each
// answer's every token is asked for.
type Tree struct {
	Prompt  []int32
	Answers [][]int32
}

// Tokens is the number of inputs that the tree takes in a batch of its own: the last token of an
// answer is predicted, never read.
func (t Tree) Tokens() int {
	n := len(t.Prompt)
	for _, a := range t.Answers {
		n += max(len(a)-1, 0)
	}
	return n
}

// Targets is the number of tokens whose logp is asked for.
func (t Tree) Targets() int {
	n := 0
	for _, a := range t.Answers {
		n += len(a)
	}
	return n
}

// check reports a tree that has no logp.
func (t Tree) check() error {
	if len(t.Prompt) == 0 {
		return fmt.Errorf("empty prompt")
	}
	for i, a := range t.Answers {
		if len(a) == 0 {
			return fmt.Errorf("answer %d is empty", i)
		}
	}
	return nil
}

// Span is the targets [From, To) of one answer.
type Span struct{ From, To int }

// Batch is trees packed end to end: a forest in which what the prompts of all trees begin with (a
// system message, most often) is one segment, each prompt's rest a child of it, and each answer a
// child of its prompt. Its slices are reused by the next Pack.
type Batch struct {
	compute.Layout
	IDs     []int32 // [tokens]
	Rows    []int32 // [targets]: the token whose output predicts the target
	Targets []int32 // [targets]
	Answers []Span  // of each answer, tree by tree
}

// minPrefix is the shortest common beginning that is worth a segment.
const minPrefix = 4

// Pack fills the batch with trees.
func (b *Batch) Pack(trees []Tree) error {
	b.Start = append(b.Start[:0], 0)
	b.Parent, b.Pos = b.Parent[:0], b.Pos[:0]
	b.IDs, b.Rows, b.Targets, b.Answers = b.IDs[:0], b.Rows[:0], b.Targets[:0], b.Answers[:0]
	for i, t := range trees {
		if err := t.check(); err != nil {
			return fmt.Errorf("tree %d: %w", i, err)
		}
	}
	prefix, root := commonPrefix(trees), int32(-1)
	if prefix > 0 {
		root = b.segment(-1, 0, trees[0].Prompt[:prefix])
	}
	for _, t := range trees {
		prompt := b.segment(root, prefix, t.Prompt[prefix:])
		last := int32(len(b.IDs) - 1)
		for _, a := range t.Answers {
			from := len(b.Targets)
			row := last
			b.Rows = append(b.Rows, row)
			if len(a) > 1 {
				first := int32(len(b.IDs))
				b.segment(prompt, len(t.Prompt), a[:len(a)-1])
				for j := range len(a) - 1 {
					b.Rows = append(b.Rows, first+int32(j))
				}
			}
			b.Targets = append(b.Targets, a...)
			b.Answers = append(b.Answers, Span{from, len(b.Targets)})
		}
	}
	return nil
}

// segment appends one and returns its index; pos is the position of its first token.
func (b *Batch) segment(parent int32, pos int, ids []int32) int32 {
	b.Parent = append(b.Parent, parent)
	b.IDs = append(b.IDs, ids...)
	for i := range ids {
		b.Pos = append(b.Pos, int32(pos+i))
	}
	b.Start = append(b.Start, int32(len(b.IDs)))
	return int32(len(b.Parent) - 1)
}

// commonPrefix is how many tokens all prompts begin with, 0 where sharing them is not worth it. It
// leaves each prompt one token of its own.
func commonPrefix(trees []Tree) int {
	if len(trees) < 2 {
		return 0
	}
	n := len(trees[0].Prompt) - 1
	for _, t := range trees[1:] {
		n = min(n, len(t.Prompt)-1)
		for i := range n {
			if t.Prompt[i] != trees[0].Prompt[i] {
				n = i
				break
			}
		}
	}
	if n < minPrefix {
		return 0
	}
	return n
}

// Split cuts trees into runs of at most tokens inputs and as many targets each, greedily in order: the
// micro-batches of a step, appended to dst. It depends on the trees alone. A tree that is larger by
// itself is an error. Targets are the more only where a prompt is shorter than its answers are many.
func Split(dst [][]Tree, trees []Tree, tokens int) ([][]Tree, error) {
	from, inputs, targets := 0, 0, 0
	for i, t := range trees {
		n, m := t.Tokens(), t.Targets()
		if max(n, m) > tokens {
			return dst, fmt.Errorf("tree %d has %d tokens, a micro-batch holds %d", i, max(n, m), tokens)
		}
		if inputs+n > tokens || targets+m > tokens {
			dst = append(dst, trees[from:i])
			from, inputs, targets = i, 0, 0
		}
		inputs, targets = inputs+n, targets+m
	}
	if from < len(trees) {
		dst = append(dst, trees[from:])
	}
	return dst, nil
}

package model

import "testing"

// TestSplit: a micro-batch holds no more inputs, and no more targets, than it may.
func TestSplit(t *testing.T) {
	long := Tree{Prompt: make([]int32, 6), Answers: [][]int32{make([]int32, 3)}}       // 8 inputs, 3 targets
	short := Tree{Prompt: []int32{1}, Answers: [][]int32{{1, 2}, {3, 4}, {5, 6}, {7}}} // 4 inputs, 7 targets
	for _, c := range []struct {
		name   string
		trees  []Tree
		tokens int
		want   []int // trees in each
	}{
		{"none", nil, 8, nil},
		{"inputs bound", []Tree{long, long, long}, 16, []int{2, 1}},
		{"targets bound", []Tree{short, short, short}, 14, []int{2, 1}},
		{"both", []Tree{short, long, short}, 12, []int{2, 1}},
	} {
		micro, err := Split(nil, c.trees, c.tokens)
		must(t, err)
		if len(micro) != len(c.want) {
			t.Fatalf("%s: %d micro-batches, want %d", c.name, len(micro), len(c.want))
		}
		for i, m := range micro {
			if len(m) != c.want[i] {
				t.Errorf("%s: micro-batch %d has %d trees, want %d", c.name, i, len(m), c.want[i])
			}
		}
	}
	for _, tree := range []Tree{long, short} {
		if _, err := Split(nil, []Tree{tree}, 6); err == nil {
			t.Errorf("a tree of %d inputs and %d targets fits 6", tree.Tokens(), tree.Targets())
		}
	}
}

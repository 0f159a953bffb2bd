package model

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/ref"
)

// randomSource is a checkpoint of random weights, the same for the same seed and name. They are exact
// in BF16, so that an engine's error is its arithmetic's alone.
type randomSource struct {
	shapes  map[string][]int
	weights map[string][]float32
}

func newRandomSource(c Config, seed uint64) *randomSource {
	s := &randomSource{map[string][]int{}, map[string][]float32{}}
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, w := range c.specs() {
		x := make([]float32, w.rows*w.cols)
		for i := range x {
			x[i] = float32(rng.NormFloat64() / math.Sqrt(float64(c.Hidden)))
			if w.vector && w.cols == c.Hidden {
				x[i] += 1
			}
			x[i] = compute.F32FromBF16(compute.BF16FromF32(x[i]))
		}
		s.shapes[w.name], s.weights[w.name] = w.shape(), x
	}
	return s
}

func (s *randomSource) Shape(name string) ([]int, bool) { sh, ok := s.shapes[name]; return sh, ok }

func (s *randomSource) ReadF32(name string, dst []float32) error {
	copy(dst, s.weights[name])
	return nil
}

// toys are small models of every supported kind.
func toys() map[string]Config {
	base := Config{ModelType: "llama", Hidden: 12, Intermediate: 20, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 6, Vocab: 23, Eps: 1e-5, Context: 64, RoPE: RoPE{Theta: 1e4, Type: "default"}}
	tied, mistral, qwen, llama3 := base, base, base, base
	tied.Tied = true
	mistral.ModelType, mistral.Window, mistral.Hidden = "mistral", 5, 16
	qwen.ModelType, qwen.QKVBias, qwen.Tied = "qwen2", true, true
	llama3.RoPE = RoPE{Theta: 100, Type: "llama3", Factor: 4, LowFreq: 1, HighFreq: 4, OrigContext: 16}
	return map[string]Config{"llama": base, "tied": tied, "mistral": mistral, "qwen2": qwen, "llama3 rope": llama3}
}

// toyTrees share their first tokens, have answers of one token and of many, and a prompt alone.
func toyTrees() []Tree {
	return []Tree{
		{Prompt: []int32{1, 2, 3, 4, 5, 6}, Answers: [][]int32{{7, 8, 9, 10}, {11, 12}, {13}}},
		{Prompt: []int32{1, 2, 3, 4, 14}, Answers: [][]int32{{7, 8, 9, 10, 11, 12, 13, 15}, {16}}},
		{Prompt: []int32{1, 2, 3, 4, 5, 20, 21}, Answers: [][]int32{{22, 0, 1}}},
	}
}

func newToy(t *testing.T, dev compute.Device, c Config, opt Options) *Model {
	t.Helper()
	m, err := New(dev, dev.NewBackend(), c, newRandomSource(c, 7), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Free)
	return m
}

func refModel(t *testing.T, c Config, opt Options) *Model {
	t.Helper()
	opt.DType = compute.F64
	return newToy(t, ref.New(), c, opt)
}

func pack(t *testing.T, trees []Tree) *Batch {
	t.Helper()
	b := &Batch{}
	if err := b.Pack(trees); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(0); err != nil {
		t.Fatal(err)
	}
	return b
}

func logps(t *testing.T, p *Pass, b *Batch) []float64 {
	t.Helper()
	lp, err := p.LogProbs(b)
	if err != nil {
		t.Fatal(err)
	}
	return append([]float64(nil), lp...)
}

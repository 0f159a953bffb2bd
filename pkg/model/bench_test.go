package model_test

import (
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/optim"
)

// benchTrees are n games as the default run has them: a shared system message, a prompt of 60 tokens
// in all, and answers of 40.
func benchTrees(n int) []model.Tree { return games(n, 26, 34, 40) }

// games are n games whose prompts share a system message, each with two answers, of so many tokens.
func games(n, shared, own, answer int) []model.Tree {
	var trees []model.Tree
	id := int32(1000)
	next := func(k int) []int32 {
		s := make([]int32, k)
		for i := range s {
			id = (id*31 + 7) % 40000
			s[i] = id
		}
		return s
	}
	system := next(shared)
	for range n {
		trees = append(trees, model.Tree{Prompt: append(append([]int32(nil), system...), next(own)...), Answers: [][]int32{next(answer), next(answer)}})
	}
	return trees
}

func dtypes(b *testing.B, run func(b *testing.B, dt compute.DType)) {
	for _, dt := range []compute.DType{compute.F32, compute.BF16} {
		b.Run(dt.String(), func(b *testing.B) { run(b, dt) })
	}
}

// seen is the tokens that a padding trainer would process for the same games: each answer with its
// prompt.
func seen(trees []model.Tree) int {
	n := 0
	for _, t := range trees {
		for _, a := range t.Answers {
			n += len(t.Prompt) + len(a)
		}
	}
	return n
}

// BenchmarkScore is the packed pass that generators and evaluators run, on SmolLM2-135M.
func BenchmarkScore(b *testing.B) {
	dtypes(b, func(b *testing.B, dt compute.DType) {
		m := smollm2(b, newCPU(b), model.Options{DType: dt})
		trees := benchTrees(8)
		p := m.NewPass(model.PassConfig{Tokens: 1024})
		defer p.Free()
		var batch model.Batch
		must(b, batch.Pack(trees))
		for b.Loop() {
			_, err := p.LogProbs(&batch)
			must(b, err)
		}
		b.ReportMetric(float64(batch.Tokens()*b.N)/b.Elapsed().Seconds(), "tokens/s")
		b.ReportMetric(float64(seen(trees)*b.N)/b.Elapsed().Seconds(), "unshared-tokens/s")
	})
}

// BenchmarkTrain is a whole step: forward, backward, AdamW. 8x100 are pairs as the default run has
// them, 4x256 and 4x512 those of bench/, sequences of so many tokens, half of them prompt.
func BenchmarkTrain(b *testing.B) {
	for _, c := range []struct {
		name  string
		trees []model.Tree
	}{{"8x100", benchTrees(8)}, {"4x256", games(4, 0, 128, 128)}, {"4x512", games(4, 0, 256, 256)}} {
		b.Run(c.name, func(b *testing.B) { benchTrain(b, c.trees) })
	}
}

func benchTrain(b *testing.B, trees []model.Tree) {
	dtypes(b, func(b *testing.B, dt compute.DType) {
		m := smollm2(b, newCPU(b), model.Options{DType: dt, Full: true})
		p := m.NewPass(model.PassConfig{Tokens: 1536, Backward: true})
		defer p.Free()
		rule := optim.AdamW()
		var params []optim.Parameter
		var bytes int64
		for _, w := range m.Params() {
			params = append(params, optim.Parameter{Name: w.Name, Weight: w.W, Master: w.Master, Grad: w.Grad})
			bytes += optim.StateBytes(rule.Kind, int64(w.Rows)*int64(w.Cols)) + 256
		}
		arena := m.Device().NewArena(bytes + 1024)
		defer arena.Free()
		o, err := optim.New(p.Backend(), arena, params, rule, 1)
		must(b, err)
		micro, err := model.Split(nil, trees, p.Config().Tokens)
		must(b, err)
		var batch model.Batch
		tokens := 0
		step := func() {
			tokens = 0
			for _, part := range micro {
				must(b, batch.Pack(part))
				_, err := p.LogProbs(&batch)
				must(b, err)
				coef := make([]float64, len(batch.Targets))
				for i := range coef {
					coef[i] = 1e-3
				}
				p.Backward(coef)
				tokens += batch.Tokens()
			}
			_, err = o.Step(1e-9)
			must(b, err)
		}
		step() // the first one waits for the operating system to clear its memory
		for b.Loop() {
			step()
		}
		b.ReportMetric(float64(tokens*b.N)/b.Elapsed().Seconds(), "tokens/s")
		b.ReportMetric(float64(seen(trees)*b.N)/b.Elapsed().Seconds(), "unshared-tokens/s")
	})
}

// BenchmarkLayer is one layer of SmolLM2-135M's shape, forward and backward, over 1,536 tokens, with
// an embedding and head too small to count.
func BenchmarkLayer(b *testing.B) {
	dtypes(b, func(b *testing.B, dt compute.DType) {
		c := model.Config{
			ModelType: "llama", Hidden: 576, Intermediate: 1536, Layers: 1, Heads: 9, KVHeads: 3, HeadDim: 64, Vocab: 32, Eps: 1e-5, Context: 256,
			Tied: true, RoPE: model.RoPE{Theta: 1e5, Type: "default"},
		}
		dev := newCPU(b)
		m, err := model.New(dev, dev.NewBackend(), c, constant{c}, model.Options{DType: dt, Full: true})
		must(b, err)
		defer m.Free()
		var trees []model.Tree
		for i := range 12 {
			prompt := make([]int32, 48)
			prompt[0] = int32(i) // so that nothing is shared between them
			trees = append(trees, model.Tree{Prompt: prompt, Answers: [][]int32{make([]int32, 41), make([]int32, 41)}})
		}
		var batch model.Batch
		must(b, batch.Pack(trees))
		p := m.NewPass(model.PassConfig{Tokens: batch.Tokens(), Backward: true})
		defer p.Free()
		coef := make([]float64, len(batch.Targets))
		for b.Loop() {
			_, err := p.LogProbs(&batch)
			must(b, err)
			p.Backward(coef)
		}
		perLayer := 576*(2*576+2*192) + 3*576*1536
		b.ReportMetric(6*float64(perLayer)*float64(batch.Tokens()*b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		b.ReportMetric(float64(batch.Tokens()), "tokens")
	})
}

// constant is a Source of equal weights.
type constant struct{ model.Config }

func (z constant) Shape(name string) ([]int, bool) { return z.WeightShape(name) }
func (z constant) ReadF32(_ string, dst []float32) error {
	for i := range dst {
		dst[i] = 0.01
	}
	return nil
}

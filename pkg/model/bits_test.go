package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
)

// These tests hold the CPU to compute.Backend's fixed order, on every instruction set that this machine
// has, in F32 and BF16: what a batch holds besides a row, how rows are cut into batches, threads
// and memory never change a bit.

// wide is large enough to meet the tails of tiles and more than one of each block of rows, keys and
// vocabulary.
func wide() Config {
	return Config{
		ModelType: "mistral", Hidden: 40, Intermediate: 104, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 10, Vocab: 1600,
		Eps: 1e-5, Context: 256, Window: 57, Tied: true, QKVBias: true, RoPE: RoPE{Theta: 1e4, Type: "default"},
	}
}

func allProjections(rank int) *LoRA {
	return &LoRA{Rank: rank, Alpha: 6, Targets: []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, Seed: 5}
}

// instructions are the instruction sets of this machine, or the one that $SPIN_CPU forces.
func instructions() []string {
	if isa := os.Getenv("SPIN_CPU"); isa != "" {
		return []string{isa}
	}
	return cpu.Instructions()
}

// eachCPU runs f for every instruction set and dtype; open starts a device, with its model.
func eachCPU(t *testing.T, c Config, f func(t *testing.T, open func(threads int, opt Options) *Model)) {
	for _, isa := range instructions() {
		for _, dtype := range []compute.DType{compute.F32, compute.BF16} {
			t.Run(isa+"/"+dtype.String(), func(t *testing.T) {
				f(t, func(threads int, opt Options) *Model {
					dev, err := cpu.New(cpu.Config{Threads: threads, ISA: isa})
					must(t, err)
					t.Cleanup(func() { dev.Close() })
					opt.DType = dtype
					m := newToy(t, dev, c, opt)
					perturbB(t, m)
					return m
				})
			})
		}
	}
}

// perturbB moves LoRA's B away from 0, where it hides A's part.
func perturbB(t *testing.T, m *Model) {
	t.Helper()
	if m.LoRA == nil {
		return
	}
	be := m.Device().NewBackend()
	for _, p := range m.Params()[len(m.Config.specs()):] {
		x := make([]float32, p.Rows*p.Cols)
		for i := range x {
			x[i] = compute.F32FromBF16(compute.BF16FromF32(float32(math.Sin(float64(3*i+p.Rows)) * 0.1)))
		}
		must(t, m.WriteMaster(be, p.Name, x))
	}
	m.Refresh(be)
}

// randomTrees are games of all sizes; half of them begin with the same system message.
func randomTrees(rng *rand.Rand, n, vocab int) []Tree {
	ids := func(n int) []int32 {
		x := make([]int32, n)
		for i := range x {
			x[i] = rng.Int32N(int32(vocab))
		}
		return x
	}
	system := ids(37)
	trees := make([]Tree, n)
	for i := range trees {
		if i%2 == 0 {
			trees[i].Prompt = slices.Clone(system)
		}
		trees[i].Prompt = append(trees[i].Prompt, ids(1+rng.IntN(80))...)
		for range 1 + rng.IntN(4) {
			trees[i].Answers = append(trees[i].Answers, ids(1+rng.IntN(60)))
		}
	}
	return trees
}

// stats is what a pass says of one answer's tokens.
type stats struct {
	logps, entropies []float64
	argmax           []int32
}

func (s stats) equal(o stats) bool {
	return slices.Equal(s.logps, o.logps) && slices.Equal(s.entropies, o.entropies) && slices.Equal(s.argmax, o.argmax)
}

// answerStats runs trees in batches of at most tokens; the result is [tree][answer].
func answerStats(t *testing.T, p *Pass, trees []Tree, tokens int) [][]stats {
	t.Helper()
	micro, err := Split(nil, trees, tokens)
	must(t, err)
	var all [][]stats
	for _, m := range micro {
		b := pack(t, m)
		lps := logps(t, p, b)
		i := 0
		for _, tree := range m {
			var of []stats
			for range tree.Answers {
				s := b.Answers[i]
				of = append(of, stats{lps[s.From:s.To], slices.Clone(p.Entropies()[s.From:s.To]), slices.Clone(p.Argmax()[s.From:s.To])})
				i++
			}
			all = append(all, of)
		}
	}
	return all
}

// TestLogProbsDependOnTheAnswerAlone: a token's logp, entropy and argmax have the same bits in any
// batch, order, cut into micro-batches and number of threads, in a scoring pass and in a training
// pass that keeps all or nothing.
func TestLogProbsDependOnTheAnswerAlone(t *testing.T) {
	c := wide()
	eachCPU(t, c, func(t *testing.T, open func(int, Options) *Model) {
		rng := rand.New(rand.NewPCG(1, 2))
		trees := randomTrees(rng, 8, c.Vocab)
		for _, opt := range []Options{{Full: true}, {LoRA: allProjections(3)}} {
			m := open(1, opt)
			alone := m.NewPass(PassConfig{Tokens: 512})
			var want [][]stats
			for _, tree := range trees {
				var of []stats
				for _, a := range tree.Answers {
					of = append(of, answerStats(t, alone, []Tree{{Prompt: tree.Prompt, Answers: [][]int32{a}}}, 512)[0][0])
				}
				want = append(want, of)
			}
			alone.Free()
			for threads := 1; threads <= 3; threads++ {
				m := open(threads, opt)
				for _, cfg := range [][]PassConfig{{{Tokens: 4096}}, {{Tokens: 4096}, {Tokens: 4096, Backward: true}}, {{Tokens: 4096, Backward: true, Memory: 1}}}[threads-1] {
					p := m.NewPass(cfg)
					order := rng.Perm(len(trees))
					shuffled := make([]Tree, len(trees))
					answers := make([][]int, len(trees)) // which answer of the tree stands where
					for i, j := range order {
						answers[i] = rng.Perm(len(trees[j].Answers))
						shuffled[i].Prompt = trees[j].Prompt
						for _, a := range answers[i] {
							shuffled[i].Answers = append(shuffled[i].Answers, trees[j].Answers[a])
						}
					}
					tokens := 420 + rng.IntN(1000)
					for i, of := range answerStats(t, p, shuffled, tokens) {
						for k, got := range of {
							if j, a := order[i], answers[i][k]; !got.equal(want[j][a]) {
								t.Fatalf("lora=%v, %d threads, %+v, micro-batches of %d: tree %d answer %d is not what it is alone", opt.LoRA != nil, threads, cfg, tokens, j, a)
							}
						}
					}
					p.Free()
				}
			}
		}
	})
}

// gradients runs the micro-batches forward and backward and returns every gradient.
func gradients(t *testing.T, m *Model, micro [][]Tree, memory int64) map[string][]float32 {
	t.Helper()
	p := m.NewPass(PassConfig{Tokens: 1800, Backward: true, Memory: memory})
	defer p.Free()
	be := m.Device().NewBackend()
	for _, w := range m.Params() {
		if w.Trainable() {
			be.Zero(w.Grad)
		}
	}
	for _, trees := range micro {
		b := pack(t, trees)
		logps(t, p, b)
		p.Backward(toyCoefficients(len(b.Targets)))
	}
	all := map[string][]float32{}
	for _, w := range m.Params() {
		if w.Trainable() {
			all[w.Name] = make([]float32, w.Rows*w.Cols)
			must(t, m.ReadGrad(w.Name, all[w.Name]))
		}
	}
	return all
}

func toyCoefficients(n int) []float64 {
	coef := make([]float64, n)
	for i := range coef {
		coef[i] = math.Cos(float64(i)) * 0.7
	}
	return coef
}

// TestGradientsDependOnTheMicroBatchesAlone: equal micro-batches in equal order give equal bits,
// whatever the threads and the memory for activations.
func TestGradientsDependOnTheMicroBatchesAlone(t *testing.T) {
	c := wide()
	eachCPU(t, c, func(t *testing.T, open func(int, Options) *Model) {
		trees := randomTrees(rand.New(rand.NewPCG(3, 4)), 18, c.Vocab)
		micro, err := Split(nil, trees, 1800)
		must(t, err)
		if len(micro) < 2 || len(pack(t, micro[0]).Targets) <= 768 {
			t.Fatalf("%d micro-batches, the first of %d targets: too small for this test", len(micro), len(pack(t, micro[0]).Targets))
		}
		for _, opt := range []Options{{Full: true}, {LoRA: allProjections(3)}} {
			var want map[string][]float32
			for _, by := range []struct {
				threads int
				kept    int // layers that keep their activations
			}{{1, 2}, {2, 0}, {3, 1}} {
				m := open(by.threads, opt)
				memory := int64(m.Layers)*m.inputBytes(1800) + int64(1+by.kept)*m.keepBytes(1800)
				if kept := m.keptLayers(PassConfig{Tokens: 1800, Backward: true, Memory: memory}); kept != by.kept {
					t.Fatalf("%d layers kept in %d bytes, want %d", kept, memory, by.kept)
				}
				got := gradients(t, m, micro, memory)
				if want == nil {
					want = got
					for name, g := range got {
						if slices.Max(g) == 0 {
							t.Errorf("%s has no gradient", name)
						}
					}
				}
				for name := range want {
					if !slices.Equal(got[name], want[name]) {
						t.Errorf("lora=%v, %+v: the gradient of %s differs", opt.LoRA != nil, by, name)
					}
				}
			}
		}
	})
}

// TestDecoderIsPassToTheBit: the hidden states that a sequence leaves in the paged cache's pass, read
// in chunks and then token by token beside others, have the bits of the packed pass: so a draw's logp
// differs from its score by the head's last rounding alone.
func TestDecoderIsPassToTheBit(t *testing.T) {
	c := wide()
	eachCPU(t, c, func(t *testing.T, open func(int, Options) *Model) {
		rng := rand.New(rand.NewPCG(5, 6))
		m := open(2, Options{})
		tree := randomTrees(rng, 1, c.Vocab)[0]
		seq := append(slices.Clone(tree.Prompt), tree.Answers[0]...)
		p := m.NewPass(PassConfig{Tokens: 256})
		defer p.Free()
		b := pack(t, []Tree{{Prompt: tree.Prompt, Answers: tree.Answers[:1]}})
		want := logps(t, p, b)
		hidden := make([][]byte, b.Tokens())
		size := m.Hidden * m.DType.Size()
		for i := range hidden {
			hidden[i] = make([]byte, size)
			must(t, p.be.Wait(p.be.Download(hidden[i], p.curWork.n.Slice(i, i+1))))
		}
		for _, pageTokens := range []int{1, 7, 16, 64} {
			perSequence := (m.Context + pageTokens - 1) / pageTokens
			d := m.NewDecoder(DecoderConfig{Rows: 64, Sequences: 3, Pages: 2 * perSequence, PageTokens: pageTokens})
			order := rng.Perm(2 * perSequence)
			pages, other := make([]int32, perSequence), make([]int32, perSequence)
			for i := range pages {
				pages[i], other[i] = int32(order[i]), int32(order[perSequence+i])
			}
			ids, lps := make([]int32, 1), make([]float64, 1)
			for fed, mate := 0, 0; fed < b.Tokens(); {
				n := 1
				if fed < len(tree.Prompt) {
					n = min(1+rng.IntN(48), len(tree.Prompt)-fed)
				}
				s := Step{Draws: []Draw{{TopP: 1}}}
				s.Start = []int32{0}
				add := func(past int, ids []int32, pages []int32) {
					s.IDs = append(s.IDs, ids...)
					for i := range ids {
						s.Pos = append(s.Pos, int32(past+i))
					}
					s.Start, s.Past, s.Pages = append(s.Start, int32(len(s.IDs))), append(s.Past, int32(past)), append(s.Pages, pages)
				}
				if rng.IntN(2) == 0 && mate < 100 { // a batch-mate before it
					add(mate, []int32{int32(mate), int32(2 * mate)}, other)
					mate += 2
				}
				add(fed, seq[fed:fed+n], pages)
				s.Rows = []int32{int32(len(s.IDs) - 1)}
				must(t, d.Advance(&s, ids, lps))
				fed += n
				got := make([]byte, size)
				must(t, d.be.Wait(d.be.Download(got, d.hidden.Slice(0, 1))))
				if !slices.Equal(got, hidden[fed-1]) {
					t.Fatalf("pages of %d: the hidden state of token %d is not that of the packed pass", pageTokens, fed-1)
				}
				if next := fed - len(tree.Prompt); next >= 0 {
					logits := make([]float32, m.Vocab)
					must(t, compute.Read(d.be, logits, d.last[0]))
					wide := make([]float64, len(logits))
					for i, x := range logits {
						wide[i] = float64(x)
					}
					lp := wide[tree.Answers[0][next]] - logSumExp(wide)
					if diff := math.Abs(lp - want[next]); !(diff <= 1e-5*(1+math.Abs(lp))) {
						t.Errorf("pages of %d: token %d: logp %v decoded, %v packed", pageTokens, next, lp, want[next])
					}
					if diff := math.Abs(lps[0] - (wide[ids[0]] - logSumExp(wide))); !(diff <= 1e-5*(1+math.Abs(lps[0]))) {
						t.Errorf("pages of %d: token %d: logp of the draw is off by %v", pageTokens, next, diff)
					}
				}
			}
			d.Free()
		}
	})
}

// TestSteadyLoopAllocatesNothing: neither does scoring, nor training, nor decoding.
func TestSteadyLoopAllocatesNothing(t *testing.T) {
	for _, dtype := range []compute.DType{compute.F32, compute.BF16} {
		for _, opt := range []Options{{Full: true}, {LoRA: allProjections(3)}} {
			t.Run(fmt.Sprintf("%v/lora=%v", dtype, opt.LoRA != nil), func(t *testing.T) {
				dev, err := cpu.New(cpu.Config{Threads: 2})
				must(t, err)
				defer dev.Close()
				opt.DType = dtype
				m := newToy(t, dev, wide(), opt)
				trees := randomTrees(rand.New(rand.NewPCG(7, 8)), 6, m.Vocab)
				b := &Batch{}
				p := m.NewPass(PassConfig{Tokens: 1400, Backward: true, Memory: 1})
				defer p.Free()
				coef := toyCoefficients(1400)
				if n := testing.AllocsPerRun(5, func() {
					if err := b.Pack(trees); err != nil {
						t.Fatal(err)
					}
					lp, err := p.LogProbs(b)
					if err != nil {
						t.Fatal(err)
					}
					p.Backward(coef[:len(lp)])
				}); n != 0 {
					t.Errorf("%v allocations in each micro-batch", n)
				}
				d := m.NewDecoder(DecoderConfig{Rows: 32, Sequences: 4, Pages: 16, PageTokens: 16})
				defer d.Free()
				s := Step{IDs: []int32{1, 2, 3}, Rows: []int32{0, 2}, Draws: []Draw{{TopP: 1, Temperature: 1}, {TopP: 0.9, Temperature: 0.7, TopK: 20}}}
				s.Layout = compute.Layout{Start: []int32{0, 1, 3}, Past: []int32{0, 0}, Pos: []int32{0, 0, 1}, Pages: [][]int32{{3}, {5}}}
				ids, lps := make([]int32, 2), make([]float64, 2)
				if n := testing.AllocsPerRun(20, func() {
					if err := d.Advance(&s, ids, lps); err != nil {
						t.Fatal(err)
					}
				}); n != 0 {
					t.Errorf("%v allocations in each step of decoding", n)
				}
			})
		}
	}
}

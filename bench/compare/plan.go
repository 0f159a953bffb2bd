package main

import (
	"fmt"
	"math"
	"path/filepath"

	"github.com/seed-8780d58e/spin/bench/unit"
)

// comparison is two processes that take turns. What is read off one of them is a figure; one
// comparison may have several.
type comparison struct {
	name    string
	ours    unit.Config
	peers   []rival // settings of one peer; the fastest is the one to beat
	family  string  // comparisons of one family take the settings that were the first one's fastest
	pairs   int
	figures []figure
	shares  []share
}

// rival is a peer with settings.
type rival struct {
	label  string
	config unit.Config
}

// figure is one row of the table.
type figure struct {
	name, what, against, unit string
	value                     func(unit.Result) float64
	less                      bool // less is better: ratio is ours/peer and Bar the most that it may be
	seconds                   bool // less is better, and ratio is peer/ours: how often as fast
	bar, goal                 float64
	// compare, where not nil, gives ours, the peer's and the ratio of two results in a way of its own.
	compare func(ours, peer unit.Result) (float64, float64, float64)
}

// share is how much of the machine's peak a unit of ours uses.
type share struct {
	name, what string
	work       float64 // FLOP or bytes of a unit
	peak       string  // of the roofline
	goal       float64
}

// beta and rate of the steps that are only timed: small, so that weights stay as they are.
const (
	beta = 0.1
	rate = 5e-7
)

func rivals(engine, model string, c unit.Config, dtypes ...string) []rival {
	var out []rival
	for _, d := range dtypes {
		c := c
		c.Engine, c.Model, c.DType = engine, model, d
		out = append(out, rival{engine + " " + d, c})
	}
	return out
}

// comparisons is the table of issue 5, for a model of that shape.
func comparisons(s settings, m shape) []comparison {
	hf := filepath.Join(s.peers, "hf")
	file := func(name string) string { return filepath.Join(s.peers, name) }
	var all []comparison

	for _, dt := range []string{"f32", "bf16"} {
		settings := []string{"f32", "f32-medium"}
		if dt == "bf16" {
			settings = append(settings, "bf16")
		}
		c := unit.Config{Kind: unit.GEMM, DType: dt, Rows: 2048, Shapes: m.linears()}
		all = append(all, comparison{name: "gemm-2048-" + dt, ours: c, peers: rivals("torch", "", c, settings...), pairs: 5, figures: []figure{
			gemmFigure(m, dt, 2048, "forward", 0.95, 1), gemmFigure(m, dt, 2048, "dx", 0.95, 1), gemmFigure(m, dt, 2048, "dw", 0.85, 1),
		}})
		c.Rows, c.Shapes = 32, append(m.linears(), m.head())
		all = append(all, comparison{name: "gemm-32-" + dt, ours: c, peers: rivals("torch", "", c, settings...), pairs: 5, figures: []figure{
			gemmFigure(m, dt, 32, "forward", 1.3, 1.6),
		}})
	}

	step := func(dt string, length int) unit.Config {
		return unit.Config{Kind: unit.Train, Model: s.model, DType: dt, Games: file(fmt.Sprintf("games-%d.jsonl", length)),
			Optimizer: "adamw", Batch: 4, Beta: beta, LR: rate, Micro: 1536}
	}
	bf16 := []string{"f32", "f32-medium", "bf16-autocast", "bf16"}
	train := func(name, what, against string, c unit.Config, length int, peers []rival, bar, goal float64) comparison {
		if s.compile {
			for _, p := range peers {
				if p.config.Engine == "torch" {
					p.label += " compile"
					p.config.Compile = true
					peers = append(peers, p)
				}
			}
		}
		return comparison{name: name, ours: c, peers: peers, family: "training " + c.DType, pairs: 3, figures: []figure{{
			name: name, what: what, against: against, unit: "tokens/s", bar: bar, goal: goal, value: perSecond(2 * 4 * length),
		}}}
	}
	c := step("bf16", 256)
	row := train("train-256-bf16", "SPIN step, 4 pairs × 2 × 256 tokens, BF16", "PyTorch", c, 256, rivals("torch", hf, c, bf16...), 1.8, 2.5)
	row.shares = []share{{"train-256-peak", "useful FLOP/s of the step, share of the measured peak", m.stepFLOP(4, 256), "peak bf16", 0.60}}
	all = append(all, row)
	c = step("bf16", 512)
	row = train("train-512-bf16", "the same, 512 tokens", "PyTorch", c, 512, rivals("torch", hf, c, bf16...), 2.2, 3)
	row.shares = []share{{"train-512-peak", "useful FLOP/s of the step, share of the measured peak", m.stepFLOP(4, 512), "peak bf16", 0.60}}
	all = append(all, row)
	c = step("bf16", 256)
	all = append(all, train("train-256-trl", "the same, 256 tokens", "TRL", c, 256, rivals("trl", hf, c, bf16...), 4, 6))
	c = step("f32", 256)
	all = append(all, train("train-256-f32", "the same, 256 tokens, F32", "PyTorch F32", c, 256, rivals("torch", hf, c, "f32", "f32-medium"), 1.8, 2.2))

	c = step("bf16", 256)
	c.Kind = unit.Score
	all = append(all, comparison{name: "score-256-bf16", ours: c, peers: rivals("torch", hf, c, bf16...), family: "training bf16", pairs: 5, figures: []figure{{
		name: "score-256-bf16", what: "scoring, the same pairs, BF16", against: "transformers", unit: "tokens/s", bar: 2, goal: 3, value: perSecond(2 * 4 * 256),
	}}})

	for _, b := range []struct {
		batch     int
		bar, goal float64
		share     share
	}{
		{1, 0.97, 1.05, share{"decode-1-bandwidth", "bytes read a second, share of the measured bandwidth", m.stepBytes(128, 128) * 127, "read", 0.90}},
		{8, 1.8, 2.2, share{}},
		{32, 2.2, 2.5, share{"decode-32-peak", "useful FLOP/s, share of the measured peak", m.decodeFLOP(32, 128, 128), "peak bf16", 0.45}},
	} {
		c := unit.Config{Kind: unit.Decode, Model: s.model, DType: "bf16", Batch: b.batch, Prompt: 128, New: 128}
		row := comparison{name: fmt.Sprintf("decode-%d-llama", b.batch), ours: c, pairs: 5,
			peers: append(rivals("llama", file("bf16.gguf"), c, "bf16"), rivals("llama", file("f32.gguf"), c, "f32")...),
			figures: []figure{{
				name: fmt.Sprintf("decode-%d-llama", b.batch), what: fmt.Sprintf("decode BF16 after 128 tokens, batch %d", b.batch), against: "llama.cpp",
				unit: "tokens/s", bar: b.bar, goal: b.goal, value: perSecond(b.batch * 127),
			}}}
		if b.share.work > 0 {
			row.shares = []share{b.share}
		}
		all = append(all, row)
	}
	c = unit.Config{Kind: unit.Decode, Model: s.model, DType: "bf16", Batch: 32, Prompt: 128, New: 128}
	all = append(all, comparison{name: "decode-32-transformers", ours: c, peers: rivals("transformers", hf, c, "f32", "bf16"), pairs: 3, figures: []figure{{
		name: "decode-32-transformers", what: "decode BF16 after 128 tokens, batch 32", against: "transformers", unit: "tokens/s", bar: 5, goal: 7, value: perSecond(32 * 127),
	}}})

	for _, o := range []struct {
		name string
		bar  float64
	}{{"adamw", 0.6}, {"rmsprop", 0.5}} {
		c := step("bf16", 256)
		c.Optimizer, c.FreshMemory = o.name, true // what a user's process would take
		all = append(all, comparison{name: "memory-" + o.name, ours: c, peers: rivals("torch", hf, c, s.reduced()), pairs: 2, figures: []figure{{
			name: "memory-" + o.name, what: "peak memory of the step, " + o.name, against: "PyTorch", unit: "GiB", less: true, bar: o.bar, goal: 0.4,
			value: func(r unit.Result) float64 { return float64(r.PeakBytes) / (1 << 30) },
		}}})
	}

	c = unit.Config{Kind: unit.Iteration, Model: s.model, DType: "bf16", Games: file("games-64.jsonl"), Optimizer: "adamw", Batch: 8, Beta: beta, LR: rate, Micro: 1536, New: 40}
	all = append(all, comparison{name: "iteration-64", ours: c, peers: rivals("trl", hf, c, s.reduced()), pairs: 1, figures: []figure{{
		name: "iteration-64", what: "SPIN iteration, 64 prompts: sample, score, train one epoch", against: "transformers + TRL", unit: "s", seconds: true, bar: 3.5, goal: 6,
		value: func(r unit.Result) float64 { return r.Seconds },
	}}})

	c = unit.Config{Kind: unit.Curve, Model: s.model, DType: "f32", Games: file("games-chat.jsonl"), Optimizer: "adamw", Batch: 4, Steps: 50, Beta: beta, LR: 2e-6, Micro: 1536}
	all = append(all, comparison{name: "losses-f32", ours: c, peers: rivals("torch", hf, c, "f32"), pairs: 1, figures: []figure{
		lossFigure("losses-f32", "F32 losses of 50 steps: largest difference", "PyTorch F32", 1, 1e-3)}})
	b := c
	b.DType = "bf16"
	all = append(all, comparison{name: "losses-bf16", ours: b, peers: []rival{{"spin f32", c}}, pairs: 1, figures: []figure{
		lossFigure("losses-bf16", "BF16 losses, means of 5 of 50 steps: largest difference", "ours in F32", 5, 0.01)}})
	return all
}

// reduced is the setting in which a peer trains fastest where that cannot be tried: BF16 autocast where
// the CPU multiplies BF16, else F32 (a step of autocast then takes minutes).
func (s settings) reduced() string {
	m, err := readMachine()
	if err == nil && m.has("avx512_bf16", "amx_bf16", "bf16") {
		return "bf16-autocast"
	}
	return "f32"
}

// perSecond is the rate of a unit of so many tokens.
func perSecond(tokens int) func(unit.Result) float64 {
	return func(r unit.Result) float64 { return float64(tokens) / r.Seconds }
}

// gemmFigure is the rate of one orientation over a model's layer (with 32 rows, over the whole
// model): each shape weighs as much as the model has of it.
func gemmFigure(m shape, dt string, rows int, op string, bar, goal float64) figure {
	return figure{
		name: fmt.Sprintf("gemm-%d-%s-%s", rows, dt, op), what: fmt.Sprintf("products of %d rows, %s, %s", rows, dt, op), against: "PyTorch", unit: "GFLOP/s",
		bar: bar, goal: goal, value: func(r unit.Result) float64 {
			flop, seconds := 0.0, 0.0
			shapes := m.linears()
			if rows < 256 {
				shapes = append(shapes, m.head())
			}
			for _, s := range shapes {
				t, ok := r.Parts[gemmPart(op, s)]
				if !ok {
					return math.NaN()
				}
				n := float64(m.count(s))
				flop += 2 * n * float64(rows*s[0]*s[1])
				seconds += n * t
			}
			return flop / seconds / 1e9
		},
	}
}

// gemmPart is how a GEMM unit names one product.
func gemmPart(op string, s [2]int) string { return fmt.Sprintf("%s %dx%d", op, s[0], s[1]) }

// lossFigure is the largest difference between two loss curves, smoothed over so many steps.
func lossFigure(name, what, against string, window int, most float64) figure {
	return figure{name: name, what: what, against: against, unit: "nats", less: true, bar: most, goal: most,
		compare: func(ours, peer unit.Result) (float64, float64, float64) {
			d := apart(smooth(ours.Losses, window), smooth(peer.Losses, window))
			return ours.Losses[len(ours.Losses)-1], peer.Losses[len(peer.Losses)-1], d
		}}
}

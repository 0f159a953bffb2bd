package engine_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/engine"
	"github.com/seed-8780d58e/spin/pkg/model"
)

// profile is the wall time of a queue's operations, by name, while it is on.
type profile struct {
	on    bool
	spent map[string]time.Duration
}

// profiledDevice hands out queues that keep a profile.
type profiledDevice struct {
	compute.Device
	p *profile
}

func (d profiledDevice) NewBackend() compute.Backend {
	return &profiledBackend{d.Device.NewBackend(), d.p}
}

// profiledBackend times the operations of a decode step.
type profiledBackend struct {
	compute.Backend
	p *profile
}

func (b *profiledBackend) time(op string, f func()) {
	began := time.Now()
	f()
	if b.p.on {
		b.p.spent[op] += time.Since(began)
	}
}

func (b *profiledBackend) Graph(_ uint64, body func()) { body() }

func (b *profiledBackend) Linear(ys []compute.Tensor, x compute.Tensor, ws []compute.Weight, acc bool) {
	out, in := ws[0].Dims()
	op := fmt.Sprintf("linear %dx%d of %d", len(ws), out, in)
	if out > 10000 {
		op = "head"
	}
	b.time(op, func() { b.Backend.Linear(ys, x, ws, acc) })
}

func (b *profiledBackend) Embed(x compute.Tensor, w compute.Weight, ids compute.Tensor) {
	b.time("embed", func() { b.Backend.Embed(x, w, ids) })
}

func (b *profiledBackend) AddRMSNorm(y, rstd, x, delta, w compute.Tensor, eps float32) {
	b.time("norm", func() { b.Backend.AddRMSNorm(y, rstd, x, delta, w, eps) })
}

func (b *profiledBackend) RoPE(x, pos, cos, sin compute.Tensor, headDim int, inverse bool) {
	b.time("rope", func() { b.Backend.RoPE(x, pos, cos, sin, headDim, inverse) })
}

func (b *profiledBackend) SwiGLU(y, gate, up compute.Tensor) {
	b.time("swiglu", func() { b.Backend.SwiGLU(y, gate, up) })
}

func (b *profiledBackend) WriteKV(c compute.Cache, k, v compute.Tensor, p compute.Plan) {
	b.time("write kv", func() { b.Backend.WriteKV(c, k, v, p) })
}

func (b *profiledBackend) AttentionPaged(y, q compute.Tensor, c compute.Cache, h compute.Heads, p compute.Plan) {
	b.time("attention", func() { b.Backend.AttentionPaged(y, q, c, h, p) })
}

func (b *profiledBackend) Sample(ids, logp, logits compute.Tensor, s *compute.Sampling) {
	b.time("sample", func() { b.Backend.Sample(ids, logp, logits, s) })
}

// BenchmarkDecodeProfile says where the time of a decode step goes: milliseconds and share of
// each operation, at a context of 128 to 160 tokens.
func BenchmarkDecodeProfile(b *testing.B) {
	for _, dt := range []compute.DType{compute.BF16, compute.F32} {
		p := &profile{}
		m := smollm2(b, dt, func(d compute.Device) compute.Device { return profiledDevice{d, p} })
		for _, batch := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("%s/batch=%d", dt, batch), func(b *testing.B) {
				const prompt, fresh, page = 128, 32, 32
				d := m.NewDecoder(model.DecoderConfig{Rows: batch * prompt, Sequences: batch, Pages: batch * (prompt + fresh + page) / page, PageTokens: page})
				defer d.Free()
				var step time.Duration
				steps := 0
				p.spent = map[string]time.Duration{}
				for b.Loop() {
					b.StopTimer()
					e := ready(b, d, batch, prompt, fresh)
					p.on = true
					b.StartTimer()
					for !e.Idle() {
						began := time.Now()
						if _, err := e.Step(); err != nil {
							b.Fatal(err)
						}
						step += time.Since(began)
						steps++
					}
					p.on = false
				}
				perStep := func(d time.Duration) float64 { return d.Seconds() * 1e3 / float64(steps) }
				b.ReportMetric(step.Seconds()*1e3/float64(steps), "ms/step")
				rest := step
				ops := make([]string, 0, len(p.spent))
				for op, d := range p.spent {
					rest -= d
					ops = append(ops, op)
				}
				p.spent["rest"] = rest
				ops = append(ops, "rest")
				slices.SortFunc(ops, func(x, y string) int { return cmp.Compare(p.spent[y], p.spent[x]) })
				for _, op := range ops {
					b.Logf("%-22s %7.3f ms %5.1f %%", op, perStep(p.spent[op]), 100*p.spent[op].Seconds()/step.Seconds())
				}
			})
		}
	}
}

// ready is an engine whose prompts are read and whose draws all run.
func ready(b *testing.B, d *model.Decoder, batch, prompt, fresh int) *engine.Engine {
	b.Helper()
	e := engine.New(d)
	for i := range batch {
		r := &engine.Request{ID: fmt.Sprint(i), Draws: 1, MaxNew: fresh, Temperature: 1, TopP: 1, Seed: 1, Index: uint32(i)}
		for t := range prompt {
			r.Prompt = append(r.Prompt, int32(1000+(i*7919+t*104729)%40000))
		}
		if err := e.Submit(r); err != nil {
			b.Fatal(err)
		}
	}
	for e.Stats().PromptTokens < batch*prompt {
		step(b, e)
	}
	return e
}

package engine_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/pkg/checkpoint"
	"github.com/seed-8780d58e/spin/pkg/engine"
	"github.com/seed-8780d58e/spin/pkg/model"
)

// smollm2 loads the default model, which `make model` fetches, on a CPU that wrap may wrap.
func smollm2(b *testing.B, dt compute.DType, wrap ...func(compute.Device) compute.Device) *model.Model {
	b.Helper()
	dir := os.Getenv("SPIN_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			b.Fatal(err)
		}
		dir = filepath.Join(base, "spin")
	}
	c, err := checkpoint.Open(filepath.Join(dir, "SmolLM2-135M-Instruct.Q4_1.gguf"))
	if err != nil {
		b.Skipf("%v: `make model` fetches it", err)
	}
	defer c.Close()
	cfg, err := model.ParseConfig(c.Config())
	if err != nil {
		b.Fatal(err)
	}
	dev, err := cpu.New(cpu.Config{})
	if err != nil {
		b.Fatal(err)
	}
	var on compute.Device = dev
	for _, w := range wrap {
		on = w(on)
	}
	m, err := model.New(on, dev.NewBackend(), cfg, c, model.Options{DType: dt, MaxContext: 512})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Free(); dev.Close() })
	return m
}

// BenchmarkDecode samples 64 tokens after prompts of 128, on SmolLM2-135M: temperature 1, the whole
// vocabulary. The prompts are read before the clock starts.
func BenchmarkDecode(b *testing.B) {
	for _, dt := range []compute.DType{compute.F32, compute.BF16} {
		m := smollm2(b, dt)
		for _, batch := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("%s/batch=%d", dt, batch), func(b *testing.B) {
				const prompt, fresh, page = 128, 64, 32
				d := m.NewDecoder(model.DecoderConfig{Rows: batch * prompt, Sequences: batch, Pages: batch * (prompt + fresh + page) / page, PageTokens: page})
				defer d.Free()
				tokens := 0
				for b.Loop() {
					b.StopTimer()
					e := ready(b, d, batch, prompt, fresh)
					b.StartTimer()
					before := e.Stats().SampledTokens
					for !e.Idle() {
						step(b, e)
					}
					tokens += e.Stats().SampledTokens - before
				}
				b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
			})
		}
	}
}

func step(b *testing.B, e *engine.Engine) {
	b.Helper()
	if _, err := e.Step(); err != nil {
		b.Fatal(err)
	}
}

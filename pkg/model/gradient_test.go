package model

import (
	"fmt"
	"math"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

// TestGradients holds the explicit backward pass to central differences on the float64 oracle, for
// every kind of model, full and LoRA, with all activations kept and with all recomputed.
func TestGradients(t *testing.T) {
	lora := &LoRA{Rank: 3, Alpha: 6, Targets: []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, Seed: 5}
	for name, c := range toys() {
		for _, opt := range []Options{{Full: true}, {LoRA: lora}} {
			for _, memory := range []int64{0, 1} {
				t.Run(fmt.Sprintf("%s/lora=%v/memory=%d", name, opt.LoRA != nil, memory), func(t *testing.T) {
					checkGradients(t, refModel(t, c, opt), memory)
				})
			}
		}
	}
}

func checkGradients(t *testing.T, m *Model, memory int64) {
	be := m.Device().NewBackend()
	if m.LoRA != nil { // B starts at 0, which hides A's gradient
		for _, p := range m.Params()[len(m.Config.specs()):] {
			x := make([]float32, p.Rows*p.Cols)
			for i := range x {
				x[i] = float32(math.Sin(float64(3*i+p.Rows)) * 0.3)
			}
			if err := m.WriteMaster(be, p.Name, x); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := pack(t, toyTrees())
	p := m.NewPass(PassConfig{Tokens: 64, Backward: true, Memory: memory})
	defer p.Free()
	coef := make([]float64, len(b.Targets))
	for i := range coef {
		coef[i] = math.Cos(float64(i)) * 0.7
	}
	value := func() float64 {
		sum := 0.0
		for i, lp := range logps(t, p, b) {
			sum += coef[i] * lp
		}
		return sum
	}
	value()
	p.Backward(coef)
	checked := 0
	for _, w := range m.Params() {
		if !w.Trainable() {
			continue
		}
		n := w.Rows * w.Cols
		x, g := make([]float64, n), make([]float64, n)
		must(t, compute.Read(be, x, w.Master))
		must(t, compute.Read(be, g, w.Grad))
		for _, i := range []int{0, n / 3, n / 2, n - 1} {
			const h = 1e-5
			at := func(d float64) float64 {
				y := append([]float64(nil), x...)
				y[i] += d
				compute.Write(be, w.Master, y)
				m.round(be, w, w.Master)
				return value()
			}
			want := (at(h) - at(-h)) / (2 * h)
			at(0)
			if diff := math.Abs(g[i] - want); !(diff <= 1e-6*(1+math.Abs(want))) {
				t.Errorf("%s[%d]: gradient %.9g, central difference %.9g", w.Name, i, g[i], want)
			}
			checked++
		}
	}
	if checked == 0 {
		t.Fatal("no trainable weight")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

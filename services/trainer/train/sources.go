package train

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-8780d58e/spin/pkg/checkpoint"
	"github.com/seed-8780d58e/spin/pkg/model"
)

// Weights are what a model has been trained to, as a checkpoint: its masters, or, where it has
// adapters, those merged into base, the weights that it was made from.
func Weights(m *model.Model, base checkpoint.Source) checkpoint.Source {
	if m.LoRA == nil {
		return trained{m}
	}
	return merged{model: m, base: base, scale: m.LoRA.Alpha / float64(m.LoRA.Rank)}
}

// trained is a fully trained model as a checkpoint.Source.
type trained struct{ *model.Model }

func (t trained) Names() []string { return slices.Sorted(slices.Values(t.Trained())) }

// merged is a model with adapters as a checkpoint.Source: W + scale·B·A, so that what a stage ends
// with is a model like any other, and the next stage's opponent is exactly what it starts from
// (its adapters start at B = 0).
type merged struct {
	model *model.Model
	base  checkpoint.Source
	scale float64 // alpha / rank
}

func (m merged) Names() []string { return m.base.Names() }

func (m merged) Shape(name string) ([]int, bool) { return m.base.Shape(name) }

func (m merged) ReadF32(name string, dst []float32) error {
	if err := m.base.ReadF32(name, dst); err != nil {
		return err
	}
	prefix, ok := strings.CutSuffix(name, "weight")
	if !ok {
		return nil
	}
	aShape, ok := m.model.Shape(prefix + "lora_A.weight")
	if !ok {
		return nil
	}
	rank, in := aShape[0], aShape[1]
	out := len(dst) / in
	a, b := make([]float32, rank*in), make([]float32, out*rank)
	if err := m.model.ReadF32(prefix+"lora_A.weight", a); err != nil {
		return fmt.Errorf("merge %s: %w", name, err)
	}
	if err := m.model.ReadF32(prefix+"lora_B.weight", b); err != nil {
		return fmt.Errorf("merge %s: %w", name, err)
	}
	row := make([]float64, in)
	for o := range out {
		clear(row)
		for r := range rank {
			c := m.scale * float64(b[o*rank+r])
			for i, x := range a[r*in : (r+1)*in] {
				row[i] += c * float64(x)
			}
		}
		for i, x := range row {
			dst[o*in+i] = float32(float64(dst[o*in+i]) + x)
		}
	}
	return nil
}

package model

import (
	"fmt"
	"math"

	"github.com/seed-8780d58e/spin/compute"
)

// ZeroGrad clears the gradients, before the first micro-batch of a step.
func (p *Pass) ZeroGrad() {
	for _, w := range p.m.params {
		if w.Trainable() {
			p.be.Zero(w.Grad)
		}
	}
}

// Step clips the gradients to a global norm of maxNorm (0: no clipping), takes one optimizer step
// on every trainable weight, and returns the gradients' norm before clipping. Gradients stay until
// ZeroGrad.
func (p *Pass) Step(h compute.Optimizer, maxNorm float64) (float64, error) {
	m, be := p.m, p.be
	be.Zero(m.sumsq)
	for _, w := range m.params {
		if w.Trainable() {
			be.SumSquares(m.sumsq, w.Grad)
		}
	}
	be.ClipFactor(m.clip, m.sumsq, float32(maxNorm))
	for _, w := range m.params {
		if !w.Trainable() {
			continue
		}
		be.Optimize(w.W, w.Master, w.Grad, w.State, m.clip, h)
		if w.W == nil && w.Vec != w.Master {
			be.Copy(w.Vec, w.Master)
		}
	}
	var sum [1]float64
	if err := p.read(sum[:], m.sumsq); err != nil {
		return 0, err
	}
	norm := math.Sqrt(sum[0])
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return norm, fmt.Errorf("gradient norm is %v", norm)
	}
	return norm, nil
}

// Shape is that of a trainable weight (LoRA: of a factor), so that a Model is the Source of the
// next iteration's.
func (m *Model) Shape(name string) ([]int, bool) {
	p := m.param(name)
	if p == nil || p.Master.Absent() {
		return nil, false
	}
	return p.shape, true
}

// ReadF32 reads a trainable weight's master.
func (m *Model) ReadF32(name string, dst []float32) error {
	p := m.param(name)
	if p == nil || p.Master.Absent() {
		return fmt.Errorf("%s has no master", name)
	}
	return m.download(dst, p.Master)
}

// ReadGrad reads a trainable weight's gradient.
func (m *Model) ReadGrad(name string, dst []float32) error {
	p := m.param(name)
	if !p.Trainable() {
		return fmt.Errorf("%s has no gradient", name)
	}
	return m.download(dst, p.Grad)
}

// Trained lists the trainable weights' names, in the order of the forward pass.
func (m *Model) Trained() []string {
	var names []string
	for _, p := range m.params {
		if !p.Master.Absent() {
			names = append(names, p.Name)
		}
	}
	return names
}

func (m *Model) param(name string) *Param {
	for _, p := range m.params {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// download reads on a queue of its own, so it must not overlap with a Pass that is training.
func (m *Model) download(dst []float32, t compute.Tensor) error {
	be := m.dev.NewBackend()
	if t.DType != compute.F64 {
		return compute.Read(be, dst, t)
	}
	wide := make([]float64, len(dst))
	if err := compute.Read(be, wide, t); err != nil {
		return err
	}
	for i, v := range wide {
		dst[i] = float32(v)
	}
	return nil
}

// WriteMaster sets a trainable weight and what is rounded from it: resuming from a checkpoint.
func (m *Model) WriteMaster(be compute.Backend, name string, src []float32) error {
	p := m.param(name)
	if p == nil || p.Master.Absent() {
		return fmt.Errorf("%s has no master", name)
	}
	upload(be, p.Master, src)
	m.round(be, p, p.Master)
	return nil
}

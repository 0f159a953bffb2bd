package model

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute"
)

// Refresh makes what the operations read from masters that an optimizer has changed, where the
// optimizer could not: LoRA's factors in the act dtype.
func (m *Model) Refresh(be compute.Backend) {
	for _, p := range m.params {
		if p.Trainable() && p.W == nil && p.Vec != p.Master {
			be.Copy(p.Vec, p.Master)
		}
	}
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

// Package optim turns accumulated gradients into a step: it clips them by their global
// norm, looks up the learning rate, and lets the device update F32 master weights and
// whatever compute weights are made from them (compute.Backend.Optimize). The update
// rules themselves belong to the device; here are the books they need: which tensors,
// which moments, which step, which rate.
//
// One iteration of SPIN has one Optimizer and one Schedule: as in the reference, moments
// and schedule start anew with each iteration. A step is
//
//	for each micro-batch: forward, loss coefficients, backward   // gradients add up
//	norm, err := optimizer.Step(schedule.At(step))               // clip, update, clear
package optim

import (
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/seed-8780d58e/spin/compute"
)

// ErrNotFinite is what Step wraps where a gradient is NaN or infinite.
var ErrNotFinite = errors.New("gradient is not finite")

// Parameter is one trained tensor. Frozen tensors are left out.
type Parameter struct {
	Name    string
	Weight  compute.Weight // what the model multiplies by; nil where the master itself is used (norms, biases)
	Master  compute.Tensor // [rows, cols] F32 (F64 on ref)
	Grad    compute.Tensor // of Master's shape and dtype; backward passes add to it, Step clears it
	NoDecay bool           // weight decay spares it, as transformers' Trainer spares norms and biases
}

// Optimizer updates a set of parameters on one backend, and belongs to its goroutine.
type Optimizer struct {
	backend    compute.Backend
	rule       compute.Optimizer
	maxNorm    float32
	parameters []Parameter
	moments    [][]compute.Tensor // for each parameter, in the order of the rule's moments
	sumsq      compute.Tensor     // [1, 1] of the gradients' dtype
	clip       compute.Tensor     // [1, 1]
	host32     [1]float32         // where sumsq arrives, by its dtype
	host64     [1]float64
	steps      int
}

// New makes an optimizer whose moments, all 0, it takes from arena: StateBytes and two
// scalars, each tensor aligned as the arena aligns. rule gives the constants (RMSProp,
// AdamW); its LR and Step are ignored. maxNorm is the largest global norm of the
// gradients, as in torch.nn.utils.clip_grad_norm_; 0 means no clipping (transformers'
// Trainer, and so the reference, clips at 1). The gradients must be 0 before the first
// backward pass.
//
// The order of the parameters is the order in which their squares are summed: equal
// orders give equal bits.
func New(b compute.Backend, arena compute.Arena, parameters []Parameter, rule compute.Optimizer, maxNorm float64) (*Optimizer, error) {
	if err := Validate(rule); err != nil {
		return nil, err
	}
	if !(maxNorm >= 0) || math.IsInf(maxNorm, 0) {
		return nil, fmt.Errorf("largest gradient norm %v: want 0 (no clipping) or more", maxNorm)
	}
	if len(parameters) == 0 {
		return nil, errors.New("no parameter to train")
	}
	o := &Optimizer{backend: b, rule: rule, maxNorm: float32(maxNorm), parameters: parameters}
	dt := parameters[0].Master.DType
	o.sumsq, o.clip = arena.Alloc(dt, 1, 1), arena.Alloc(dt, 1, 1)
	for _, p := range parameters {
		if p.Master.Absent() || p.Grad.Rows != p.Master.Rows || p.Grad.Cols != p.Master.Cols || p.Grad.DType != p.Master.DType {
			panic("optim: " + p.Name + ": master and gradient differ")
		}
		var state []compute.Tensor
		for range moments(rule.Kind) {
			m := arena.Alloc(dt, p.Master.Rows, p.Master.Cols)
			b.Zero(m)
			state = append(state, m)
		}
		o.moments = append(o.moments, state)
	}
	return o, nil
}

// Step takes one step with the gradients accumulated since the last, and clears them.
// It returns their global norm before clipping, √Σg² over all parameters. An error
// that wraps ErrNotFinite means that nothing was updated: weights and moments are as
// they were, the gradients are cleared. Any other error is the device's.
func (o *Optimizer) Step(lr float64) (norm float64, err error) {
	o.backend.Zero(o.sumsq)
	for _, p := range o.parameters {
		o.backend.SumSquares(o.sumsq, p.Grad)
	}
	sumsq, err := o.readSumsq()
	if err != nil {
		return 0, err
	}
	norm = math.Sqrt(sumsq)
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		o.clear()
		return norm, fmt.Errorf("step %d: %w: its norm is %v", o.steps+1, ErrNotFinite, norm)
	}
	o.steps++
	var clip compute.Tensor
	if o.maxNorm > 0 {
		clip = o.clip
		o.backend.ClipFactor(clip, o.sumsq, o.maxNorm)
	}
	for i, p := range o.parameters {
		rule := o.rule
		rule.LR, rule.Step = lr, o.steps
		if p.NoDecay {
			rule.WeightDecay = 0
		}
		o.backend.Optimize(p.Weight, p.Master, p.Grad, o.moments[i], clip, rule)
	}
	o.clear()
	return norm, nil
}

// Steps returns how many steps were taken, those before a Resume included.
func (o *Optimizer) Steps() int { return o.steps }

// Moments yields the state that a checkpoint in the middle of an iteration must hold
// besides the masters and Steps: each tensor under its parameter's name and torch's
// name for the moment, as in "model.norm.weight.square_avg".
func (o *Optimizer) Moments() iter.Seq2[string, compute.Tensor] {
	return func(yield func(string, compute.Tensor) bool) {
		for i, p := range o.parameters {
			for j, name := range moments(o.rule.Kind) {
				if !yield(p.Name+"."+name, o.moments[i][j]) {
					return
				}
			}
		}
	}
}

// Resume goes on after so many steps; the caller has filled Moments.
func (o *Optimizer) Resume(steps int) { o.steps = steps }

func (o *Optimizer) clear() {
	for _, p := range o.parameters {
		o.backend.Zero(p.Grad)
	}
}

func (o *Optimizer) readSumsq() (float64, error) {
	if o.sumsq.DType == compute.F64 {
		err := compute.Read(o.backend, o.host64[:], o.sumsq)
		return o.host64[0], err
	}
	err := compute.Read(o.backend, o.host32[:], o.sumsq)
	return float64(o.host32[0]), err
}

// Package ref is the oracle: the compute contract in plain loops over float64, the obvious way.
//
// Every float tensor and weight holds float64 whatever its dtype says, and nothing is rounded but by
// Download; so a result of ref is, to some 1e-15, what the operation's definition says. Its memory
// is stricter than an engine's, so that a model tested on it is known to keep the contract: fresh
// tensors hold NaN, released ones cannot be touched, and operations beyond the reserved Limits
// panic.
package ref

import (
	"fmt"
	"runtime"

	"github.com/seed-8780d58e/spin/compute"
)

// New makes a device. It has no threads, and memory ends where the process's ends.
func New() compute.Device { return &device{} }

// device is only an identity; the field keeps pointers to two devices apart.
type device struct{ _ byte }

func (d *device) Fingerprint() string            { return "ref " + runtime.GOARCH + " f64 v1" }
func (d *device) NewBackend() compute.Backend    { return &backend{dev: d} }
func (d *device) NewArena(b int64) compute.Arena { return &arena{dev: d, size: b} }
func (d *device) Close() error                   { return nil }

func (d *device) NewWeight(out, in int, dt compute.DType, train bool) compute.Weight {
	if out < 0 || in < 0 || dt == compute.I32 {
		panic(fmt.Sprintf("compute: NewWeight: [%d, %d] %v", out, in, dt))
	}
	return &weight{dev: d, out: out, in: in, dt: dt, train: train, f: make([]float64, out*in)}
}

// weight is row-major [out, in].
type weight struct {
	dev     *device
	out, in int
	dt      compute.DType
	train   bool
	f       []float64
}

func (w *weight) Dims() (out, in int)  { return w.out, w.in }
func (w *weight) DType() compute.DType { return w.dt }
func (w *weight) Bytes() int64         { return int64(w.out) * int64(w.in) * 8 }
func (w *weight) Free()                { w.f = nil }
func (w *weight) row(i int) []float64  { return w.f[i*w.in : (i+1)*w.in] }

// backend runs each operation before the call returns.
type backend struct {
	dev    *device
	limits compute.Limits
}

func (b *backend) weight(w compute.Weight) *weight {
	r, ok := w.(*weight)
	if !ok || r.dev != b.dev {
		panic("compute: weight of another device")
	}
	return r
}

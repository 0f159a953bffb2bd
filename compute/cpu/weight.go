package cpu

import "github.com/seed-8780d58e/spin/compute"

// NewWeight makes a matrix of zeros; see compute.Device.
func (d *Device) NewWeight(out, in int, dt compute.DType, train bool) compute.Weight { panic("TODO") }

// weight is a packed [out, in] matrix.
type weight struct{}

// row copies row r, widened, to dst [in].
func (w *weight) row(dst []float32, r int) { panic("TODO") }

func (b *Backend) gemmScratch(l compute.Limits) int64 { return 0 }

package cpu

import (
	"math"
	"unsafe"
)

// The factors of an update, in the order in which the kernels find them; internal/kernels has the
// same list.
const (
	factorClip   = iota // of the gradient
	factorDecay         // RMSProp: weight decay; AdamW: 1 − lr·decay
	factorKeep2         // of v: α or β₂
	factorAdd2          // 1 − α or 1 − β₂
	factorKeep1         // of m: β₁
	factorAdd1          // 1 − β₁
	factorRate          // RMSProp: lr; AdamW: lr/(1 − β₁ᵗ)
	factorUnbias        // AdamW: 1/√(1 − β₂ᵗ)
	factorEps
	factorCount
)

// portableRMSProp takes one step of compute.RMSProp on 8·n elements, with the bits of the assembly.
func portableRMSProp(n int, w, g, v, k unsafe.Pointer) {
	f := (*[factorCount]float32)(k)
	ws, gs, vs := unsafe.Slice((*float32)(w), 8*n), unsafe.Slice((*float32)(g), 8*n), unsafe.Slice((*float32)(v), 8*n)
	for i := range ws {
		rmsPropStep(&ws[i], gs[i], &vs[i], f)
	}
}

func rmsPropStep(w *float32, g float32, v *float32, f *[factorCount]float32) {
	g = float32(g*f[factorClip]) + float32(*w*f[factorDecay])
	*v = float32(*v*f[factorKeep2]) + float32(float32(g*g)*f[factorAdd2])
	*w -= float32(g / (sqrt(*v) + f[factorEps]) * f[factorRate])
}

// portableAdamW takes one step of compute.AdamW on 8·n elements, with the bits of the assembly.
func portableAdamW(n int, w, g, m, v, k unsafe.Pointer) {
	f := (*[factorCount]float32)(k)
	ws, gs := unsafe.Slice((*float32)(w), 8*n), unsafe.Slice((*float32)(g), 8*n)
	ms, vs := unsafe.Slice((*float32)(m), 8*n), unsafe.Slice((*float32)(v), 8*n)
	for i := range ws {
		adamWStep(&ws[i], gs[i], &ms[i], &vs[i], f)
	}
}

func adamWStep(w *float32, g float32, m, v *float32, f *[factorCount]float32) {
	g *= f[factorClip]
	*m = float32(*m*f[factorKeep1]) + float32(g*f[factorAdd1])
	*v = float32(*v*f[factorKeep2]) + float32(float32(g*g)*f[factorAdd2])
	down := float32(sqrt(*v)*f[factorUnbias]) + f[factorEps]
	*w = float32(*w*f[factorDecay]) - float32(*m/down*f[factorRate])
}

// sqrt rounds as the square root of an F32 does: the one of float64, rounded again, is the same.
func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

package cpu

import (
	"math"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// updating is what a step of the optimizer works on; see storing.
type updating struct {
	g      *gemmKernels
	kind   compute.OptimizerKind
	master compute.Tensor
	grad   compute.Tensor
	m, v   compute.Tensor // m is AdamW's only
	k      *[factorCount]float32
}

// Optimize takes one step; see compute.Backend. Each panel of the weight is packed, in both its
// forms, right after its masters were updated, while they are in the cache.
func (b *Backend) Optimize(w compute.Weight, master, g compute.Tensor, state []compute.Tensor, clip compute.Tensor, h compute.Optimizer) {
	compute.CheckOptimize(w, master, g, state, clip, h)
	b.own(master, g, clip)
	b.own(state...)
	var p *weight
	if w != nil {
		p = b.weightOf(w)
	}
	x := &b.storing.update
	if x.k == nil {
		x.k = new([factorCount]float32)
	}
	*x = updating{g: &b.k.gemm, kind: h.Kind, master: master, grad: g, v: state[len(state)-1], k: x.k}
	if h.Kind == compute.AdamW {
		x.m = state[0]
	}
	c := float32(1)
	if !clip.Absent() {
		c = row[float32](clip, 0)[0]
	}
	*x.k = factorsOf(h, c)
	b.store(p, 0, master, (*storing).optimize)
}

// factorsOf computes the factors of a step in float64 and rounds each once.
func factorsOf(h compute.Optimizer, clip float32) (k [factorCount]float32) {
	k[factorClip], k[factorEps] = clip, float32(h.Eps)
	if h.Kind == compute.RMSProp {
		k[factorDecay], k[factorRate] = float32(h.WeightDecay), float32(h.LR)
		k[factorKeep2], k[factorAdd2] = float32(h.Alpha), float32(1-h.Alpha)
		return k
	}
	t := float64(h.Step)
	k[factorDecay] = float32(1 - h.LR*h.WeightDecay)
	k[factorKeep1], k[factorAdd1] = float32(h.Beta1), float32(1-h.Beta1)
	k[factorKeep2], k[factorAdd2] = float32(h.Beta2), float32(1-h.Beta2)
	k[factorRate] = float32(h.LR / (1 - math.Pow(h.Beta1, t)))
	k[factorUnbias] = float32(1 / math.Sqrt(1-math.Pow(h.Beta2, t)))
	return k
}

// optimize updates rows [from, from+n) of the masters.
func (x *storing) optimize(from, n int) {
	u := &x.update
	for r := from; r < from+n; r++ {
		w, g, v := row[float32](u.master, r), row[float32](u.grad, r), row[float32](u.v, r)
		whole := len(w) / 8
		wp, gp, vp := unsafe.Pointer(unsafe.SliceData(w)), unsafe.Pointer(unsafe.SliceData(g)), unsafe.Pointer(unsafe.SliceData(v))
		if u.kind == compute.RMSProp {
			u.g.rmsProp(whole, wp, gp, vp, unsafe.Pointer(u.k))
			for i := 8 * whole; i < len(w); i++ {
				rmsPropStep(&w[i], g[i], &v[i], u.k)
			}
			continue
		}
		m := row[float32](u.m, r)
		u.g.adamW(whole, wp, gp, unsafe.Pointer(unsafe.SliceData(m)), vp, unsafe.Pointer(u.k))
		for i := 8 * whole; i < len(w); i++ {
			adamWStep(&w[i], g[i], &m[i], &v[i], u.k)
		}
	}
}

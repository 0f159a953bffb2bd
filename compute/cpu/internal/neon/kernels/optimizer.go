package kernels

import "github.com/seed-8780d58e/spin/compute/cpu/internal/neon"

// optimizers are the update rules, with every product and sum rounded by itself: portable Go gives
// the same bits.
func optimizers() []*neon.Func { return []*neon.Func{rmsProp(), adamW()} }

// The factors of an update, in the order in which the kernels find them.
const (
	clip   = iota // of the gradient
	decay         // RMSProp: weight decay; AdamW: 1 − lr·decay
	keep2         // of v: α or β₂
	add2          // 1 − keep2
	keep1         // of m: β₁
	add1          // 1 − keep1
	rate          // RMSProp: lr; AdamW: lr/(1 − β₁ᵗ)
	unbias        // AdamW: 1/√(1 − β₂ᵗ)
	eps
	factorCount
)

const (
	optN r = iota
	optW
	optG
	optM
	optV
	optK
)

// update is an optimizer's program, with the factors in V16 and the registers behind it.
type update struct{ *neon.Func }

func newUpdate(name, params, rule string) update {
	f := update{neon.New(name, params, "", name+" takes one step of "+rule+" on 8·n elements; k holds the factors.")}
	f.Arg("n", optN)
	f.Arg("w", optW)
	f.Arg("grad", optG)
	f.Arg("v", optV)
	f.Arg("k", optK)
	for i := range factorCount {
		f.Load(4, 16+v(i), optK, 4*i)
		f.Dup(16+v(i), 16+v(i), 0)
	}
	return f
}

// scale sets d = x·factor.
func (f update) scale(d, x pair, factor int) { three(f.Func, "fmul", d, x, both(16+v(factor))) }

func (f update) three(op string, d, n, m pair) { three(f.Func, op, d, n, m) }

// root sets s = √(keep2·v + add2·g²) and stores what is under the root to v's memory. It uses t.
func (f update) root(s, g, t pair) {
	loadPair(f.Func, s, optV, 0)
	f.scale(s, s, keep2)
	f.three("fmul", t, g, g)
	f.scale(t, t, add2)
	f.three("fadd", s, s, t)
	f.StorePairNext(s[0], s[1], optV)
	for h := range s {
		f.Two("fsqrt", s[h], s[h])
	}
}

func rmsProp() *neon.Func {
	f := newUpdate("neonRMSProp", "n int, w, grad, v, k unsafe.Pointer", "compute.RMSProp")
	w, g, s, t := pairAt(0), pairAt(2), pairAt(4), pairAt(6)
	f.Loop("eights", optN, func() {
		loadPair(f.Func, w, optW, 0)
		f.LoadPairNext(g[0], g[1], optG)
		f.scale(g, g, clip)
		f.scale(t, w, decay)
		f.three("fadd", g, g, t)
		f.root(s, g, t)
		f.three("fadd", s, s, both(16+eps))
		f.three("fdiv", g, g, s)
		f.scale(g, g, rate)
		f.three("fsub", w, w, g)
		f.StorePairNext(w[0], w[1], optW)
	})
	return f.Func
}

func adamW() *neon.Func {
	f := newUpdate("neonAdamW", "n int, w, grad, m, v, k unsafe.Pointer", "compute.AdamW")
	f.Arg("m", optM)
	w, g, m, s, t := pairAt(0), pairAt(2), pairAt(4), pairAt(6), pairAt(8)
	f.Loop("eights", optN, func() {
		loadPair(f.Func, w, optW, 0)
		f.LoadPairNext(g[0], g[1], optG)
		loadPair(f.Func, m, optM, 0)
		f.scale(g, g, clip)
		f.scale(w, w, decay)
		f.scale(m, m, keep1)
		f.scale(t, g, add1)
		f.three("fadd", m, m, t)
		f.StorePairNext(m[0], m[1], optM)
		f.root(s, g, t)
		f.scale(s, s, unbias)
		f.three("fadd", s, s, both(16+eps))
		f.three("fdiv", m, m, s)
		f.scale(m, m, rate)
		f.three("fsub", w, w, m)
		f.StorePairNext(w[0], w[1], optW)
	})
	return f.Func
}

package kernels

import "github.com/seed-8780d58e/spin/compute/cpu/internal/asm"

// optimizers are the update rules, with every product and sum rounded by itself: portable Go gives
// the same bits.
func optimizers() []*asm.Func { return []*asm.Func{rmsProp(), adamW()} }

// The factors of an update, in the order in which the kernels find them.
const (
	Clip   = iota // of the gradient
	Decay         // RMSProp: weight decay; AdamW: 1 − lr·decay
	Keep2         // of v: α or β₂
	Add2          // 1 − Keep2
	Keep1         // of m: β₁
	Add1          // 1 − Keep1
	Rate          // RMSProp: lr; AdamW: lr/(1 − β₁ᵗ)
	Unbias        // AdamW: 1/√(1 − β₂ᵗ)
	Eps
	Factors
)

// factors loads the factors that a kernel uses into registers from Y15 down.
func factors(f *asm.Func, use ...int) func(int) asm.Vec {
	f.Load("k", asm.DX)
	regs := map[int]asm.Vec{}
	for i, k := range use {
		regs[k] = asm.Y(15 - i)
		f.Op("VBROADCASTSS", asm.At(asm.DX, 4*k), regs[k])
	}
	return func(k int) asm.Vec { return regs[k] }
}

func rmsProp() *asm.Func {
	f := asm.New("avx2RMSProp", "n int, w, grad, v, k unsafe.Pointer",
		"avx2RMSProp takes one step of compute.RMSProp on 8·n elements; k holds the factors.")
	f.Load("n", asm.CX)
	f.Load("w", asm.AX)
	f.Load("grad", asm.BX)
	f.Load("v", asm.SI)
	k := factors(f, Clip, Decay, Keep2, Add2, Rate, Eps)
	w, g, v, t := asm.Y(0), asm.Y(1), asm.Y(2), asm.Y(3)
	loop(f, "eights", asm.CX, func() {
		f.Op("VMOVUPS", asm.At(asm.AX, 0), w)
		f.Op("VMULPS", asm.At(asm.BX, 0), k(Clip), g)
		f.Op("VMULPS", w, k(Decay), t)
		f.Op("VADDPS", t, g, g)
		secondMoment(f, g, v, t, asm.SI, k)
		f.Op("VSQRTPS", v, v)
		f.Op("VADDPS", k(Eps), v, v)
		f.Op("VDIVPS", v, g, g)
		f.Op("VMULPS", g, k(Rate), g)
		f.Op("VSUBPS", g, w, w)
		f.Op("VMOVUPS", w, asm.At(asm.AX, 0))
		for _, r := range []asm.Reg{asm.AX, asm.BX, asm.SI} {
			f.Op("ADDQ", asm.Imm(32), r)
		}
	})
	f.Return()
	return f
}

// secondMoment sets v = Keep2·v + Add2·g², in a register and at mem.
func secondMoment(f *asm.Func, g, v, t asm.Vec, mem asm.Reg, k func(int) asm.Vec) {
	f.Op("VMULPS", asm.At(mem, 0), k(Keep2), v)
	f.Op("VMULPS", g, g, t)
	f.Op("VMULPS", t, k(Add2), t)
	f.Op("VADDPS", t, v, v)
	f.Op("VMOVUPS", v, asm.At(mem, 0))
}

func adamW() *asm.Func {
	f := asm.New("avx2AdamW", "n int, w, grad, m, v, k unsafe.Pointer",
		"avx2AdamW takes one step of compute.AdamW on 8·n elements; k holds the factors.")
	f.Load("n", asm.CX)
	f.Load("w", asm.AX)
	f.Load("grad", asm.BX)
	f.Load("m", asm.DI)
	f.Load("v", asm.SI)
	k := factors(f, Clip, Decay, Keep2, Add2, Keep1, Add1, Rate, Unbias, Eps)
	w, g, m, v, t := asm.Y(0), asm.Y(1), asm.Y(2), asm.Y(3), asm.Y(4)
	loop(f, "eights", asm.CX, func() {
		f.Op("VMULPS", asm.At(asm.BX, 0), k(Clip), g)
		f.Op("VMULPS", asm.At(asm.AX, 0), k(Decay), w)
		f.Op("VMULPS", asm.At(asm.DI, 0), k(Keep1), m)
		f.Op("VMULPS", g, k(Add1), t)
		f.Op("VADDPS", t, m, m)
		f.Op("VMOVUPS", m, asm.At(asm.DI, 0))
		secondMoment(f, g, v, t, asm.SI, k)
		f.Op("VSQRTPS", v, v)
		f.Op("VMULPS", v, k(Unbias), v)
		f.Op("VADDPS", k(Eps), v, v)
		f.Op("VDIVPS", v, m, m)
		f.Op("VMULPS", m, k(Rate), m)
		f.Op("VSUBPS", m, w, w)
		f.Op("VMOVUPS", w, asm.At(asm.AX, 0))
		for _, r := range []asm.Reg{asm.AX, asm.BX, asm.SI, asm.DI} {
			f.Op("ADDQ", asm.Imm(32), r)
		}
	})
	f.Return()
	return f
}

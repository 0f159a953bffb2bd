package kernels

import "github.com/seed-8780d58e/spin/compute/cpu/internal/asm"

// head are the kernels of softmax over a tile of logits. Sums are kept in 8 lanes, element j in
// lane j mod 8, each in the order of j.
func head() []*asm.Func {
	return []*asm.Func{maxLanes(), expSumLanes(), expScale()}
}

func maxLanes() *asm.Func {
	f := asm.New("avx2MaxLanes", "n int, x, out unsafe.Pointer", "avx2MaxLanes sets out[0:8] to the largest of each lane of x[0:8n], n > 0.")
	f.Load("n", asm.CX)
	f.Load("x", asm.AX)
	f.Load("out", asm.DI)
	f.Op("VMOVUPS", asm.At(asm.AX, 0), asm.Y(0))
	loop(f, "eights", asm.CX, func() {
		f.Op("VMAXPS", asm.At(asm.AX, 0), asm.Y(0), asm.Y(0))
		f.Op("ADDQ", asm.Imm(32), asm.AX)
	})
	f.Op("VMOVUPS", asm.Y(0), asm.At(asm.DI, 0))
	f.Return()
	return f
}

func expSumLanes() *asm.Func {
	f := asm.New("avx2ExpSumLanes", "n int, x, out, table unsafe.Pointer, max float32",
		"avx2ExpSumLanes sets, lane by lane over x[0:8n], out[0:8] to Σ e and out[8:16] to Σ x·e, with\ne = exp(x − max). table is kernels.ExpTable.")
	f.Load("n", asm.CX)
	f.Load("x", asm.AX)
	f.Load("out", asm.DI)
	f.Load("table", asm.R12)
	f.Op("VBROADCASTSS", f.Param("max"), asm.Y(7))
	zero(f, asm.Y(5))
	zero(f, asm.Y(6))
	loop(f, "eights", asm.CX, func() {
		f.Op("VMOVUPS", asm.At(asm.AX, 0), asm.Y(8))
		f.Op("VSUBPS", asm.Y(7), asm.Y(8), asm.Y(0))
		Exp(f, asm.Y(0), asm.R12, [4]asm.Vec{asm.Y(1), asm.Y(2), asm.Y(3), asm.Y(4)})
		f.Op("VADDPS", asm.Y(0), asm.Y(5), asm.Y(5))
		f.Op("VFMADD231PS", asm.Y(0), asm.Y(8), asm.Y(6))
		f.Op("ADDQ", asm.Imm(32), asm.AX)
	})
	f.Op("VMOVUPS", asm.Y(5), asm.At(asm.DI, 0))
	f.Op("VMOVUPS", asm.Y(6), asm.At(asm.DI, 32))
	f.Return()
	return f
}

func expScale() *asm.Func {
	f := asm.New("avx2ExpScale", "n int, x, y, table unsafe.Pointer, sub, scale float32",
		"avx2ExpScale sets y = scale·exp(x − sub) for 8·n elements. table is kernels.ExpTable.")
	f.Load("n", asm.CX)
	f.Load("x", asm.AX)
	f.Load("y", asm.DI)
	f.Load("table", asm.R12)
	f.Op("VBROADCASTSS", f.Param("sub"), asm.Y(7))
	f.Op("VBROADCASTSS", f.Param("scale"), asm.Y(6))
	loop(f, "eights", asm.CX, func() {
		f.Op("VMOVUPS", asm.At(asm.AX, 0), asm.Y(0))
		f.Op("VSUBPS", asm.Y(7), asm.Y(0), asm.Y(0))
		Exp(f, asm.Y(0), asm.R12, [4]asm.Vec{asm.Y(1), asm.Y(2), asm.Y(3), asm.Y(4)})
		f.Op("VMULPS", asm.Y(6), asm.Y(0), asm.Y(0))
		f.Op("VMOVUPS", asm.Y(0), asm.At(asm.DI, 0))
		f.Op("ADDQ", asm.Imm(32), asm.AX)
		f.Op("ADDQ", asm.Imm(32), asm.DI)
	})
	f.Return()
	return f
}

// Package kernels holds the programs of compute/cpu's assembly: what each kernel does, instruction
// by instruction. internal/gen prints them, compute/cpu's tests emulate them.
//
// A kernel's name is <isa><what>; its documentation says what it computes, and the order of every
// sum in it is part of that.
package kernels

import "github.com/seed-8780d58e/spin/compute/cpu/internal/asm"

// GEMM is the kernels of matrix products, of all instruction sets.
func GEMM() []*asm.Func {
	var all []*asm.Func
	for _, t := range Tiles() {
		for _, mr := range t.Heights {
			all = append(all, t.Func(mr))
		}
		all = append(all, t.Twin())
		for _, mr := range t.Stream {
			all = append(all, t.StreamFunc(mr))
		}
	}
	for _, p := range Products() {
		for _, mr := range ProductHeights() {
			all = append(all, p.Func(mr, 2), p.Func(mr, 1))
		}
	}
	all = append(all, rows()...)
	all = append(all, head()...)
	all = append(all, optimizers()...)
	return append(all, peaks()...)
}

// loop writes n iterations of body, n in a register that it consumes; none where n is 0.
func loop(f *asm.Func, name string, n asm.Reg, body func()) {
	f.Op("TESTQ", n, n)
	f.Jump("JEQ", name+"end")
	f.Label(name)
	body()
	f.Op("DECQ", n)
	f.Jump("JNE", name)
	f.Label(name + "end")
}

// eachRow writes the frame of a kernel over n rows of w8 times 8 elements:
// (n int, src unsafe.Pointer, ss int, dst unsafe.Pointer, ds int, w8 int), strides in bytes. body
// works on 8 elements at R9 (source) and R10 (destination); srcBytes and dstBytes are their sizes.
func eachRow(f *asm.Func, srcRows, srcBytes, dstBytes int, body func()) *asm.Func {
	f.Load("n", asm.CX)
	f.Load("src", asm.AX)
	f.Load("ss", asm.SI)
	f.Load("dst", asm.DI)
	f.Load("ds", asm.DX)
	f.Load("w8", asm.R8)
	loop(f, "rows", asm.CX, func() {
		f.Op("MOVQ", asm.AX, asm.R9)
		f.Op("MOVQ", asm.DI, asm.R10)
		f.Op("MOVQ", asm.R8, asm.R11)
		loop(f, "columns", asm.R11, func() {
			body()
			f.Op("ADDQ", asm.Imm(srcBytes), asm.R9)
			f.Op("ADDQ", asm.Imm(dstBytes), asm.R10)
		})
		for range srcRows {
			f.Op("ADDQ", asm.SI, asm.AX)
		}
		f.Op("ADDQ", asm.DX, asm.DI)
	})
	f.Return()
	return f
}

// ones fills v with ones, bit by bit.
func ones(f *asm.Func, v asm.Vec) {
	if v.Bytes == 64 {
		f.Op("VPTERNLOGD", asm.Imm(0xff), v, v, v)
		return
	}
	f.Op("VPCMPEQD", v, v, v)
}

func zero(f *asm.Func, v asm.Vec) {
	if v.Bytes == 64 {
		f.Op("VPXORD", v, v, v)
		return
	}
	f.Op("VXORPS", v, v, v)
}

// name is a kernel's name: the instruction set that vectors of that many bytes stand for, and what.
func name(bytes int, what string) string {
	return map[int]string{32: "avx2", 64: "avx512"}[bytes] + what
}

package main

import "strings"

// lines is a body of fixed instructions; ACC stands for the accumulator.
func lines(s ...string) func(acc string, tail bool) {
	return func(acc string, _ bool) {
		for _, l := range s {
			p("\t%s", strings.ReplaceAll(l, "ACC", acc))
		}
	}
}

// expY sets Y(r) = exp(Y(r)): 2ⁿ·(1 + r + r²·q(r)) with n = round(x/ln 2), |r| ≤ ln 2/2 and q the
// polynomial of Cephes' expf; the error is at most 1.25 ulp (TestExp). Below −87 it is 0, above ln(MaxFloat32) +Inf, and a NaN stays one. It
// uses t1, t2, t3.
func expY(r, t1, t2, t3 int) {
	p("\tVMULPS constants<>+%d(SB), Y%d, Y%d\n\tVROUNDPS $8, Y%d, Y%d", cLog2E, r, t1, t1, t1)
	p("\tVMOVAPS Y%d, Y%d", r, t2)
	p("\tVFNMADD231PS constants<>+%d(SB), Y%d, Y%d", cLn2Hi, t1, t2)
	p("\tVFNMADD231PS constants<>+%d(SB), Y%d, Y%d", cLn2Lo, t1, t2)
	p("\tVMOVUPS constants<>+%d(SB), Y%d", cExp7, t3)
	for _, c := range []int{cExp6, cExp5, cExp4, cExp3, cExp2} {
		p("\tVFMADD213PS constants<>+%d(SB), Y%d, Y%d", c, t2, t3)
	}
	// t3·r² + r, then + 1: the last addition carries the only rounding that counts.
	p("\tVMULPS Y%d, Y%d, Y%d", t2, t3, t3)
	p("\tVFMADD213PS Y%d, Y%d, Y%d", t2, t2, t3)
	p("\tVADDPS constants<>+%d(SB), Y%d, Y%d", cOneF, t3, t3)
	p("\tVCVTPS2DQ Y%d, Y%d\n\tVPSLLD $23, Y%d, Y%d\n\tVPADDD Y%d, Y%d, Y%d", t1, t1, t1, t1, t1, t3, t3)
	p("\tVCMPPS $0x11, constants<>+%d(SB), Y%d, Y%d\n\tVANDNPS Y%d, Y%d, Y%d", cExpLow, r, t1, t3, t1, t3)
	p("\tVCMPPS $0x1e, constants<>+%d(SB), Y%d, Y%d", cExpHigh, r, t1)
	p("\tVBLENDVPS Y%d, constants<>+%d(SB), Y%d, Y%d", t1, cInf, t3, r)
}

// sigmoidY sets Y(d) = 1/(1 + exp(−Y(x))).
func sigmoidY(x, d, t1, t2, t3 int) {
	p("\tVXORPS constants<>+%d(SB), Y%d, Y%d", cSign, x, d)
	expY(d, t1, t2, t3)
	p("\tVADDPS constants<>+%d(SB), Y%d, Y%d\n\tVMOVUPS constants<>+%d(SB), Y%d\n\tVDIVPS Y%d, Y%d, Y%d", cOneF, d, d, cOneF, t1, d, t1, d)
}

var rowKernels = []rowKernel{
	{name: "addSumSquares", args: []argument{{"x", inout, f32}, {"delta", in, act}}, sums: true,
		body: lines("VADDPS Y1, Y0, Y0", "VFMADD231PS Y0, Y0, ACC"), stores: map[string]string{"x": "Y0"}},
	{name: "sumSquares", args: []argument{{"x", in, f32}}, sums: true,
		body: lines("VFMADD231PS Y0, Y0, ACC")},
	{name: "normApply", args: []argument{{"y", out, act}, {"x", in, f32}, {"w", in, f32}, {"rstd", scalar, f32}},
		body: lines("VMULPS Y9, Y0, Y0", "VMULPS Y1, Y0, Y0"), stores: map[string]string{"y": "Y0"}},
	{name: "normDot", args: []argument{{"dy", in, act}, {"w", in, f32}, {"x", in, f32}}, sums: true,
		body: lines("VMULPS Y1, Y0, Y0", "VFMADD231PS Y2, Y0, ACC")},
	{name: "normGrad", args: []argument{{"dx", inout, f32}, {"dy", in, act}, {"w", in, f32}, {"x", in, f32}, {"a", scalar, f32}, {"b", scalar, f32}},
		body: lines("VMULPS Y2, Y1, Y1", "VFMADD231PS Y9, Y1, Y0", "VFMADD231PS Y10, Y3, Y0"), stores: map[string]string{"dx": "Y0"}},
	{name: "normWeightGrad", args: []argument{{"dw", inout, f32}, {"dy", in, act}, {"x", in, f32}, {"rstd", scalar, f32}},
		body: lines("VMULPS Y2, Y1, Y1", "VFMADD231PS Y9, Y1, Y0"), stores: map[string]string{"dw": "Y0"}},
	{name: "rotate", args: []argument{{"lo", inout, act}, {"hi", inout, act}, {"cos", in, f32}, {"sin", in, f32}, {"sign", scalar, f32}},
		body: lines("VMULPS Y9, Y3, Y3", "VMULPS Y3, Y1, Y5", "VFMSUB231PS Y2, Y0, Y5",
			"VMULPS Y3, Y0, Y6", "VFMADD231PS Y2, Y1, Y6", "VMOVAPS Y5, Y0", "VMOVAPS Y6, Y1"),
		stores: map[string]string{"lo": "Y0", "hi": "Y1"}},
	{name: "swiglu", args: []argument{{"y", out, act}, {"gate", in, act}, {"up", in, act}},
		body: func(string, bool) {
			sigmoidY(0, 5, 6, 7, 8)
			p("\tVMULPS Y0, Y5, Y0\n\tVMULPS Y1, Y0, Y0")
		}, stores: map[string]string{"y": "Y0"}},
	{name: "swigluGrad", args: []argument{{"dgate", out, act}, {"dup", out, act}, {"dy", in, act}, {"gate", in, act}, {"up", in, act}},
		body: func(string, bool) {
			sigmoidY(1, 5, 6, 7, 8)
			// dup = dy·(g·σ); dgate = dy·u·σ·(1 + g·(1−σ)) = dy·u·(σ + g·σ·(1−σ))
			p("\tVMULPS Y5, Y1, Y6") // g·σ
			p("\tVMOVUPS constants<>+%d(SB), Y7\n\tVSUBPS Y5, Y7, Y7", cOneF)
			p("\tVFMADD231PS Y6, Y7, Y5")
			p("\tVMULPS Y2, Y0, Y2\n\tVMULPS Y5, Y2, Y2\n\tVMULPS Y6, Y0, Y0")
		}, stores: map[string]string{"dgate": "Y2", "dup": "Y0"}},
	{name: "add", args: []argument{{"y", inout, act}, {"x", in, f32}},
		body: lines("VADDPS Y1, Y0, Y0"), stores: map[string]string{"y": "Y0"}},
	{name: "accumulate", args: []argument{{"y", inout, f32}, {"x", in, act}},
		body: lines("VADDPS Y1, Y0, Y0"), stores: map[string]string{"y": "Y0"}},
	{name: "scaleBy", args: []argument{{"x", inout, f32}, {"a", scalar, f32}},
		body: lines("VMULPS Y9, Y0, Y0"), stores: map[string]string{"x": "Y0"}},
	{name: "widenRows", rows: true, args: []argument{{"dst", out, f32}, {"src", in, act}},
		body: lines(), stores: map[string]string{"dst": "Y0"}},
	{name: "narrow", args: []argument{{"dst", out, act}, {"src", in, f32}, {"scale", scalar, f32}},
		// Adding +0 turns −0 into +0, which of the two a sum holds may depend on masked terms.
		body:   lines("VXORPS Y5, Y5, Y5", "VFMADD213PS Y5, Y9, Y0"),
		stores: map[string]string{"dst": "Y0"}},
	{name: "expSum", args: []argument{{"e", out, f32}, {"z", in, f32}, {"top", scalar, f32}, {"temperature", scalar, f32}}, sums: true,
		body: func(acc string, tail bool) {
			p("\tVSUBPS Y9, Y0, Y0\n\tVDIVPS Y10, Y0, Y0")
			expY(0, 5, 6, 7)
			if tail {
				p("\tVANDPS Y8, Y0, Y0")
			}
			p("\tVADDPS Y0, %s, %s", acc, acc)
		}, stores: map[string]string{"e": "Y0"}},
	{name: "sumAbove", args: []argument{{"w", in, f32}, {"x", in, f32}, {"cut", scalar, f32}}, sums: true,
		body: lines("VCMPPS $0x1d, Y9, Y1, Y1", "VANDPS Y1, Y0, Y0", "VADDPS Y0, ACC, ACC")},
}

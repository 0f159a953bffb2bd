package kernels

import "github.com/seed-8780d58e/spin/compute/cpu/internal/neon"

// maximum returns the largest element of a row, or NaN where it holds one.
func maximum() *neon.Func {
	f := neon.New("neonMaximum", "n int, x unsafe.Pointer", "float32", "neonMaximum returns the largest x, or NaN where there is one.")
	f.Frame = 32
	f.Arg("n", rkLeft)
	f.Arg("x", rkPtr)
	loadConstants(f, rkFrom)
	least, top := v(2), pairAt(4)
	dup(f, least, cNegInf)
	f.Mov(top[0], least)
	f.Mov(top[1], least)
	f.Label("loop")
	f.Go("CMP $8, %v\nBLT tail", rkLeft)
	f.LoadPairNext(0, 1, rkPtr)
	three(f, "fmax", top, top, a0)
	f.Go("SUB $8, %v\nB loop", rkLeft)
	f.Label("tail")
	f.Go("CBZ %v, done\nMOVD $buffer-32(SP), %v", rkLeft, rkBuf)
	loadTail(f, slot{argument: argument{name: "x"}, ptr: rkPtr, load: &pair{0, 1}}, least)
	three(f, "fmax", top, top, a0)
	f.Label("done")
	f.Three("fmax", top[0], top[0], top[1])
	f.MaxAcross(top[0], top[0])
	f.Go("FMOVS %s, %s", top[0].F(), f.Param("ret"))
	return f
}

// above finds what is left after a cut: nearly nothing. So 32 elements are looked at together, and
// eight by eight only where one of them is above.
func above() *neon.Func {
	f := neon.New("neonAbove", "n int, x unsafe.Pointer, cut float32, first int32, index unsafe.Pointer", "int",
		"neonAbove writes i + first of each x[i] ≥ cut to index, in order, and returns their number. n is a\nmultiple of 8.")
	const (
		left, x, number, index, start = r(0), r(1), r(2), r(3), r(4)
		few, bits, lane, low          = r(5), r(6), r(7), r(8)
	)
	f.Arg("n", left)
	f.Arg("x", x)
	f.Go("MOVW %s, %v", f.Param("first"), number)
	f.Arg("index", index)
	f.Scalar("cut", 20)
	f.Go("MOVD %v, %v\nMOVD $0x0101010101010101, %v\nLSR $3, %v", index, start, low, left)

	// few steps are looked at one by one before the next four are looked at together.
	f.Label("four")
	f.Go("MOVD %v, %v\nCMP $4, %v\nBLT one\nMOVD $4, %v", left, few, left, few)
	for i := range v(4) {
		p := pairAt(2 * i)
		loadPair(f, p, x, 32*int(i))
		three(f, "fcmge", p, p, both(20))
	}
	for _, apart := range []v{1, 2, 4} {
		for i := v(0); i < 8; i += 2 * apart {
			f.Three("orr", i, i, i+apart)
		}
	}
	f.Three("uzp1", 0, 0, 0) // a mask of halves
	f.MovR(bits, 0)
	f.Go("CBNZ %v, one\nADD $128, %v\nADD $32, %v\nSUB $4, %v\nB four", bits, x, number, left)

	f.Label("one")
	f.Go("SUB %v, %v\nCBZ %v, done", few, left, few)
	f.Label("step")
	f.LoadPairNext(0, 1, x)
	three(f, "fcmge", a0, a0, both(20))
	f.Three("uzp1", 0, 0, 1)
	f.Two("xtn", 0, 0)
	f.MovR(bits, 0)
	f.Go("AND %v, %v\nCBZ %v, next", low, bits, bits) // one bit of a byte for each element
	f.Label("some")
	f.Go("RBIT %v, %v\nCLZ %v, %v\nADD %v>>3, %v, %v\nMOVW.P %v, 4(%v)", bits, lane, lane, lane, lane, number, lane, lane, index)
	f.Go("SUB $1, %v, %v\nAND %v, %v\nCBNZ %v, some", bits, lane, lane, bits, bits)
	f.Label("next")
	f.Go("ADD $8, %v\nSUB $1, %v\nCBNZ %v, step\nB four", number, few, few)
	f.Label("done")
	f.Go("SUB %v, %v\nLSR $2, %v\nMOVD %v, %s", start, index, index, index, f.Param("ret"))
	return f
}

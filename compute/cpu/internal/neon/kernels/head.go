package kernels

import "github.com/seed-8780d58e/spin/compute/cpu/internal/neon"

// head are the kernels of softmax over a tile of logits. Sums are kept in 8 lanes, element j in
// lane j mod 8, each in the order of j.
func head() []*neon.Func { return []*neon.Func{maxLanes(), expSumLanes(), expScale()} }

const (
	headN r = iota
	headX
	headOut
)

func maxLanes() *neon.Func {
	f := neon.New("neonMaxLanes", "n int, x, out unsafe.Pointer", "", "neonMaxLanes sets out[0:8] to the largest of each lane of x[0:8n], n > 0, the first of equals.")
	f.Arg("n", headN)
	f.Arg("x", headX)
	f.Arg("out", headOut)
	loadPair(f, pairAt(0), headX, 0)
	f.Loop("eights", headN, func() {
		f.LoadPairNext(2, 3, headX)
		three(f, "fcmgt", pairAt(4), pairAt(2), pairAt(0))
		three(f, "bit", pairAt(0), pairAt(2), pairAt(4))
	})
	storePair(f, pairAt(0), headOut, 0)
	return f
}

// headTemporaries are what exp may use in kernels of the head.
var headTemporaries = [4]pair{{8, 9}, {10, 11}, {12, 13}, {14, 15}}

func expSumLanes() *neon.Func {
	f := neon.New("neonExpSumLanes", "n int, x, out, table unsafe.Pointer, max float32", "",
		"neonExpSumLanes sets, lane by lane over x[0:8n], out[0:8] to Σ e and out[8:16] to Σ x·e, with\ne = exp(x − max). table is not used.")
	f.Arg("n", headN)
	f.Arg("x", headX)
	f.Arg("out", headOut)
	f.Scalar("max", 24)
	loadConstants(f, 3)
	for i := range v(4) {
		f.Zero(20 + i)
	}
	f.Loop("eights", headN, func() {
		f.LoadPairNext(2, 3, headX)
		three(f, "fsub", pairAt(0), pairAt(2), both(24))
		exp(f, pairAt(0), headTemporaries)
		three(f, "fadd", pairAt(20), pairAt(20), pairAt(0))
		three(f, "fmla", pairAt(22), pairAt(2), pairAt(0))
	})
	storePair(f, pairAt(20), headOut, 0)
	storePair(f, pairAt(22), headOut, 32)
	return f
}

func expScale() *neon.Func {
	f := neon.New("neonExpScale", "n int, x, y, table unsafe.Pointer, sub, scale float32", "",
		"neonExpScale sets y = scale·exp(x − sub) for 8·n elements. table is not used.")
	f.Arg("n", headN)
	f.Arg("x", headX)
	f.Arg("y", headOut)
	f.Scalar("sub", 24)
	f.Scalar("scale", 25)
	loadConstants(f, 3)
	f.Loop("eights", headN, func() {
		f.LoadPairNext(0, 1, headX)
		three(f, "fsub", pairAt(0), pairAt(0), both(24))
		exp(f, pairAt(0), headTemporaries)
		three(f, "fmul", pairAt(0), pairAt(0), both(25))
		f.StorePairNext(0, 1, headOut)
	})
	return f
}

package compute

import "fmt"

func CheckHeadLogProb(logp, lse, entropy, argmax, x, rows, target Tensor, w Weight) {
	_, in := w.Dims()
	need("HeadLogProb", "x", x, anySize, in, only(w.DType()))
	need("HeadLogProb", "rows", rows, anySize, 1, index)
	need("HeadLogProb", "target", target, rows.Rows, 1, index)
	need("HeadLogProb", "logp", logp, rows.Rows, 1, wide)
	need("HeadLogProb", "lse", lse, rows.Rows, 1, wide)
	may("HeadLogProb", "entropy", entropy, rows.Rows, 1, wide)
	may("HeadLogProb", "argmax", argmax, rows.Rows, 1, index)
}

func CheckHeadLogProbBackward(dx, dw, coef, lse, x, rows, target Tensor, w Weight) {
	out, in := w.Dims()
	need("HeadLogProbBackward", "x", x, anySize, in, only(w.DType()))
	need("HeadLogProbBackward", "dx", dx, x.Rows, in, only(x.DType))
	may("HeadLogProbBackward", "dw", dw, out, in, wide)
	need("HeadLogProbBackward", "rows", rows, anySize, 1, index)
	need("HeadLogProbBackward", "target", target, rows.Rows, 1, index)
	need("HeadLogProbBackward", "coef", coef, rows.Rows, 1, wide)
	need("HeadLogProbBackward", "lse", lse, rows.Rows, 1, wide)
}

func CheckSample(ids, logp, logits Tensor, s *Sampling) {
	need("Sample", "logits", logits, anySize, anySize, wide)
	if logits.Cols == 0 {
		panic("compute: Sample: logits have no columns")
	}
	n := logits.Rows
	need("Sample", "ids", ids, n, 1, index)
	need("Sample", "logp", logp, n, 1, wide)
	need("Sample", "key", s.Key, n, 2, index)
	need("Sample", "counter", s.Counter, n, 4, index)
	need("Sample", "temperature", s.Temperature, n, 1, wide)
	need("Sample", "top-p", s.TopP, n, 1, wide)
	need("Sample", "top-k", s.TopK, n, 1, index)
}

func CheckSumSquares(y, x Tensor) {
	need("SumSquares", "y", y, 1, 1, wide)
	need("SumSquares", "x", x, anySize, anySize, wide)
}

func CheckClipFactor(clip, sumsq Tensor, maxNorm float32) {
	need("ClipFactor", "clip", clip, 1, 1, wide)
	need("ClipFactor", "sumsq", sumsq, 1, 1, wide)
	if !(maxNorm >= 0) {
		panic(fmt.Sprintf("compute: ClipFactor: max norm %v", maxNorm))
	}
}

func CheckOptimize(w Weight, master, g Tensor, state []Tensor, clip Tensor, h Optimizer) {
	need("Optimize", "master", master, anySize, anySize, wide)
	need("Optimize", "g", g, master.Rows, master.Cols, wide)
	may("Optimize", "clip", clip, 1, 1, wide)
	n := 1
	switch h.Kind {
	case RMSProp:
	case AdamW:
		n = 2
		if h.Step < 1 {
			panic(fmt.Sprintf("compute: Optimize: step %d", h.Step))
		}
	default:
		panic("compute: Optimize: no such optimizer")
	}
	if len(state) != n {
		panic(fmt.Sprintf("compute: Optimize: %d states, want %d", len(state), n))
	}
	for _, s := range state {
		need("Optimize", "state", s, master.Rows, master.Cols, wide)
	}
	if w != nil {
		if out, in := w.Dims(); out != master.Rows || in != master.Cols {
			panic(fmt.Sprintf("compute: Optimize: weight [%d, %d] of master %v", out, in, master))
		}
	}
}

package compute

import "fmt"

func CheckStore(w Weight, row int, src Tensor) {
	out, in := w.Dims()
	need("Store", "src", src, anySize, in, wide)
	if row < 0 || row+src.Rows > out {
		panic(fmt.Sprintf("compute: Store: rows [%d, %d) of a weight of %d", row, row+src.Rows, out))
	}
}

func CheckLinear(ys []Tensor, x Tensor, ws []Weight) {
	need("Linear", "x", x, anySize, anySize, anyFloat)
	if len(ys) == 0 || len(ys) != len(ws) {
		panic("compute: Linear: not one y for each weight")
	}
	for i, w := range ws {
		out, in := w.Dims()
		if w.DType() != x.DType || in != x.Cols {
			panic(fmt.Sprintf("compute: Linear: x is %v, weight is [%d, %d] %v", x, out, in, w.DType()))
		}
		need("Linear", "y", ys[i], x.Rows, out, only(x.DType)|wide)
	}
}

func CheckLinearDX(dx Tensor, dys []Tensor, ws []Weight) {
	need("LinearDX", "dx", dx, anySize, anySize, anyFloat)
	if len(dys) == 0 || len(dys) != len(ws) {
		panic("compute: LinearDX: not one dy for each weight")
	}
	for i, w := range ws {
		out, in := w.Dims()
		if in != dx.Cols {
			panic(fmt.Sprintf("compute: LinearDX: dx is %v, weight is [%d, %d]", dx, out, in))
		}
		need("LinearDX", "dy", dys[i], dx.Rows, out, only(ws[0].DType())&only(w.DType()))
	}
	if in := only(ws[0].DType()) | wide; in&only(dx.DType) == 0 {
		panic(fmt.Sprintf("compute: LinearDX: dx is %v, weight is %v", dx, ws[0].DType()))
	}
}

func CheckLinearDW(dw, dy, x Tensor) {
	need("LinearDW", "x", x, anySize, anySize, anyFloat)
	need("LinearDW", "dy", dy, x.Rows, anySize, only(x.DType))
	may("LinearDW", "dw", dw, dy.Cols, x.Cols, wide)
}

// CheckMatMul also returns the sizes: y is [m, n], and k is summed over.
func CheckMatMul(y, a, b Tensor, t Trans) (m, n, k int) {
	need("MatMul", "a", a, anySize, anySize, anyFloat)
	switch t {
	case NN:
		m, k, n = a.Rows, a.Cols, b.Cols
		need("MatMul", "b", b, k, n, only(a.DType))
	case NT:
		m, k, n = a.Rows, a.Cols, b.Rows
		need("MatMul", "b", b, n, k, only(a.DType))
	case TN:
		m, k, n = a.Cols, a.Rows, b.Cols
		need("MatMul", "b", b, k, n, only(a.DType))
	default:
		panic("compute: MatMul: no such transposition")
	}
	need("MatMul", "y", y, m, n, only(a.DType)|anyFloat)
	return m, n, k
}

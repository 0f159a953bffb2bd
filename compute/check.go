package compute

import "fmt"

// The Check functions hold the contract's rules about arguments, one function an operation, for all
// backends: they panic where shapes, dtypes or strides do not fit, and allocate nothing where they
// do. What only the device knows (whose memory it is, how large the block) it checks itself; what
// lies inside index tensors nobody checks.

func (t Tensor) String() string {
	if t.Absent() {
		return "absent"
	}
	if t.Contiguous() {
		return fmt.Sprintf("[%d, %d] %v", t.Rows, t.Cols, t.DType)
	}
	return fmt.Sprintf("[%d, %d of %d] %v", t.Rows, t.Cols, t.Stride, t.DType)
}

// dtypes is a set of DTypes. F64 belongs to every float set: only ref can make one.
type dtypes uint8

const (
	anyFloat dtypes = 1<<F32 | 1<<BF16 | 1<<F64 // activations
	wide     dtypes = 1<<F32 | 1<<F64           // stream, statistics, norm weights, gradients
	index    dtypes = 1 << I32
)

func only(d DType) dtypes { return 1 << d }

const anySize = -1

// need panics unless t is present and is [rows, cols] of one of the dtypes.
func need(op, arg string, t Tensor, rows, cols int, in dtypes) {
	switch {
	case t.Absent():
		panic("compute: " + op + ": " + arg + " is absent")
	case rows != anySize && t.Rows != rows || cols != anySize && t.Cols != cols:
		panic(fmt.Sprintf("compute: %s: %s is %v, want %s", op, arg, t, shape(rows, cols)))
	case in&(1<<t.DType) == 0:
		panic(fmt.Sprintf("compute: %s: %s is %v: wrong dtype", op, arg, t))
	case t.Off < 0 || t.Rows < 0 || t.Cols < 0 || t.Rows > 1 && t.Stride < t.Cols:
		panic(fmt.Sprintf("compute: %s: %s is %v: not a view", op, arg, t))
	}
}

// may is need for an argument that may be absent.
func may(op, arg string, t Tensor, rows, cols int, in dtypes) {
	if !t.Absent() {
		need(op, arg, t, rows, cols, in)
	}
}

func shape(rows, cols int) string {
	size := func(n int) string {
		if n == anySize {
			return "any"
		}
		return fmt.Sprint(n)
	}
	return "[" + size(rows) + ", " + size(cols) + "]"
}

// CheckUpload also serves Download: bytes is the length of the host's slice.
func CheckUpload(t Tensor, bytes int) {
	need("Upload", "tensor", t, anySize, anySize, anyFloat|index)
	if bytes != t.Len()*t.DType.Size() {
		panic(fmt.Sprintf("compute: Upload: %d bytes for %v", bytes, t))
	}
}

// CheckCopy allows any two float dtypes, or I32 to I32.
func CheckCopy(dst, src Tensor) {
	need("Copy", "src", src, anySize, anySize, anyFloat|index)
	in := anyFloat
	if src.DType == I32 {
		in = index
	}
	need("Copy", "dst", dst, src.Rows, src.Cols, in)
}

func CheckGather(y, x, rows Tensor) {
	need("Gather", "rows", rows, anySize, 1, index)
	need("Gather", "x", x, anySize, anySize, anyFloat|index)
	need("Gather", "y", y, rows.Rows, x.Cols, only(x.DType))
}

func CheckEmbed(x Tensor, w Weight, ids Tensor) {
	_, in := w.Dims()
	need("Embed", "ids", ids, anySize, 1, index)
	need("Embed", "x", x, ids.Rows, in, wide)
}

func CheckEmbedBackward(dw, dx, ids Tensor) {
	need("EmbedBackward", "ids", ids, anySize, 1, index)
	need("EmbedBackward", "dx", dx, ids.Rows, anySize, wide)
	may("EmbedBackward", "dw", dw, anySize, dx.Cols, wide)
}

func CheckAddBias(y, b Tensor) {
	need("AddBias", "y", y, anySize, anySize, anyFloat)
	need("AddBias", "b", b, 1, y.Cols, wide)
}

func CheckColumnSum(db, dy Tensor) {
	need("ColumnSum", "dy", dy, anySize, anySize, anyFloat)
	may("ColumnSum", "db", db, 1, dy.Cols, wide)
}

func CheckAddRMSNorm(y, rstd, x, delta, w Tensor) {
	need("AddRMSNorm", "x", x, anySize, anySize, wide)
	need("AddRMSNorm", "y", y, x.Rows, x.Cols, anyFloat)
	need("AddRMSNorm", "rstd", rstd, x.Rows, 1, wide)
	may("AddRMSNorm", "delta", delta, x.Rows, x.Cols, only(y.DType))
	need("AddRMSNorm", "w", w, 1, x.Cols, wide)
}

func CheckAddRMSNormBackward(dx, ddelta, dw, dy, x, w, rstd Tensor) {
	need("AddRMSNormBackward", "x", x, anySize, anySize, wide)
	need("AddRMSNormBackward", "dx", dx, x.Rows, x.Cols, wide)
	need("AddRMSNormBackward", "dy", dy, x.Rows, x.Cols, anyFloat)
	may("AddRMSNormBackward", "ddelta", ddelta, x.Rows, x.Cols, only(dy.DType))
	may("AddRMSNormBackward", "dw", dw, 1, x.Cols, wide)
	need("AddRMSNormBackward", "w", w, 1, x.Cols, wide)
	need("AddRMSNormBackward", "rstd", rstd, x.Rows, 1, wide)
}

func CheckRoPE(x, pos, cos, sin Tensor, headDim int) {
	need("RoPE", "x", x, anySize, anySize, anyFloat)
	if headDim <= 0 || headDim%2 != 0 || x.Cols%headDim != 0 {
		panic(fmt.Sprintf("compute: RoPE: heads of %d in %v", headDim, x))
	}
	need("RoPE", "pos", pos, x.Rows, 1, index)
	need("RoPE", "cos", cos, anySize, headDim/2, wide)
	need("RoPE", "sin", sin, cos.Rows, headDim/2, wide)
}

func CheckSwiGLU(y, gate, up Tensor) {
	need("SwiGLU", "y", y, anySize, anySize, anyFloat)
	need("SwiGLU", "gate", gate, y.Rows, y.Cols, only(y.DType))
	need("SwiGLU", "up", up, y.Rows, y.Cols, only(y.DType))
}

func CheckSwiGLUBackward(dgate, dup, dy, gate, up Tensor) {
	need("SwiGLUBackward", "dy", dy, anySize, anySize, anyFloat)
	need("SwiGLUBackward", "dgate", dgate, dy.Rows, dy.Cols, only(dy.DType))
	need("SwiGLUBackward", "dup", dup, dy.Rows, dy.Cols, only(dy.DType))
	need("SwiGLUBackward", "gate", gate, dy.Rows, dy.Cols, only(dy.DType))
	need("SwiGLUBackward", "up", up, dy.Rows, dy.Cols, only(dy.DType))
}

package computetest

import (
	"math"
	"math/rand/v2"

	"github.com/seed-8780d58e/spin/compute"
)

// values are a tensor's elements on the host, row-major. Those of an F32 or BF16 tensor are values
// of that dtype; I32 are held as floats too, exactly.
type values struct {
	rows, cols int
	dt         compute.DType
	v          []float64
}

func zeros(dt compute.DType, rows, cols int) values {
	return values{rows, cols, dt, make([]float64, rows*cols)}
}

func fill(dt compute.DType, rows, cols int, f func(i int) float64) values {
	x := zeros(dt, rows, cols)
	for i := range x.v {
		x.v[i] = round(f(i), dt)
	}
	return x
}

// normal are draws of N(0, scale²).
func normal(r *rand.Rand, dt compute.DType, rows, cols int, scale float64) values {
	return fill(dt, rows, cols, func(int) float64 { return scale * r.NormFloat64() })
}

func ints(v ...int) values {
	return fill(compute.I32, len(v), 1, func(i int) float64 { return float64(v[i]) })
}

func intsBelow(r *rand.Rand, n, limit int) values {
	return fill(compute.I32, n, 1, func(int) float64 { return float64(r.IntN(limit)) })
}

// pick is rows sel of x, in that order.
func (x values) pick(sel []int) values {
	y := zeros(x.dt, len(sel), x.cols)
	for i, r := range sel {
		copy(y.row(i), x.row(r))
	}
	return y
}

func (x values) row(i int) []float64 { return x.v[i*x.cols : (i+1)*x.cols] }

// round leaves F64 the values of F32 too.
func round(x float64, dt compute.DType) float64 {
	switch dt {
	case compute.F32, compute.F64:
		return float64(float32(x))
	case compute.BF16:
		return float64(compute.F32FromBF16(compute.BF16FromF32(float32(x))))
	}
	return x
}

// encode is x as Upload takes it for a tensor of dtype dt.
func (x values) encode(dt compute.DType) []byte {
	switch dt {
	case compute.F32:
		return compute.Bytes(convert(x.v, func(v float64) float32 { return float32(v) }))
	case compute.BF16:
		return compute.Bytes(convert(x.v, func(v float64) uint16 { return compute.BF16FromF32(float32(v)) }))
	case compute.I32:
		return compute.Bytes(convert(x.v, func(v float64) int32 { return int32(v) }))
	}
	return compute.Bytes(x.v)
}

func convert[T any](v []float64, f func(float64) T) []T {
	s := make([]T, len(v))
	for i, x := range v {
		s[i] = f(x)
	}
	return s
}

// sameBits holds for equal values, zeros of one sign, and any two NaN.
func sameBits(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || a != a && b != b
}

func sqrt(n int) float64 { return math.Sqrt(float64(n)) }

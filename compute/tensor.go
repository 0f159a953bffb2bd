package compute

import (
	"fmt"
	"unsafe"
)

// DType is the type of a tensor's elements.
type DType uint8

const (
	F32  DType = iota
	BF16       // the upper half of an F32
	I32
	F64 // ref only: the oracle's own precision
)

// Size is the bytes of one element.
func (d DType) Size() int {
	switch d {
	case BF16:
		return 2
	case F64:
		return 8
	default:
		return 4
	}
}

func (d DType) String() string {
	switch d {
	case F32:
		return "f32"
	case BF16:
		return "bf16"
	case I32:
		return "i32"
	case F64:
		return "f64"
	}
	return fmt.Sprintf("dtype(%d)", uint8(d))
}

// Mem is a device's own handle of a block of its memory.
type Mem any

// Tensor is a view of a device's memory, row-major: element (r, c) lies at Off + r·Stride + c,
// counted in elements. It is a small value, copied freely. The zero Tensor means "absent".
type Tensor struct {
	Mem        Mem
	Off        int
	Rows, Cols int
	Stride     int
	DType      DType
}

// Absent reports whether t is the zero Tensor.
func (t Tensor) Absent() bool { return t.Mem == nil }

// Len is the number of elements.
func (t Tensor) Len() int { return t.Rows * t.Cols }

// Contiguous reports whether the rows lie end to end.
func (t Tensor) Contiguous() bool { return t.Stride == t.Cols || t.Rows <= 1 }

// Slice is rows [from, to) of t. An absent tensor stays absent.
func (t Tensor) Slice(from, to int) Tensor {
	if t.Absent() {
		return t
	}
	if from < 0 || to < from || to > t.Rows {
		panic(fmt.Sprintf("compute: Slice [%d, %d) of %d rows", from, to, t.Rows))
	}
	t.Off += from * t.Stride
	t.Rows = to - from
	return t
}

// Columns is columns [from, to) of t.
func (t Tensor) Columns(from, to int) Tensor {
	if t.Absent() {
		return t
	}
	if from < 0 || to < from || to > t.Cols {
		panic(fmt.Sprintf("compute: Columns [%d, %d) of %d", from, to, t.Cols))
	}
	t.Off += from
	t.Cols = to - from
	return t
}

// Trans says which operand of a MatMul is transposed.
type Trans uint8

const (
	NN Trans = iota // a·b
	NT              // a·bᵀ
	TN              // aᵀ·b
)

// Element is a Go type with the memory layout of some DType (uint16 for BF16).
type Element interface {
	float32 | float64 | int32 | uint32 | uint16 | uint64
}

// Bytes is s's memory as Upload and Download take it. Hosts are little-endian.
func Bytes[T Element](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(s[0])))
}

// Write uploads src to t.
func Write[T Element](b Backend, t Tensor, src []T) { b.Upload(t, Bytes(src)) }

// Read downloads t to dst and waits for it.
func Read[T Element](b Backend, dst []T, t Tensor) error {
	return b.Wait(b.Download(Bytes(dst), t))
}

package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// valueType is GGUF's number for a metadata value's type (enum gguf_type of gguf.h).
type valueType uint32

const (
	typeUint8 valueType = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
)

// minSize is the fewest bytes that a value of the type takes in a file; 0 says that there is no such type.
func (t valueType) minSize() int {
	switch t {
	case typeUint8, typeInt8, typeBool:
		return 1
	case typeUint16, typeInt16:
		return 2
	case typeUint32, typeInt32, typeFloat32:
		return 4
	case typeUint64, typeInt64, typeFloat64, typeString:
		return 8
	case typeArray:
		return 12
	}
	return 0
}

func (r *reader) value(t valueType) (any, error) {
	switch t {
	case typeString:
		return r.string()
	case typeArray:
		return r.array(1)
	}
	size := t.minSize()
	if size == 0 {
		return nil, fmt.Errorf("value of unknown type %d", uint32(t))
	}
	b, err := r.take(uint64(size))
	if err != nil {
		return nil, err
	}
	switch t {
	case typeUint8:
		return b[0], nil
	case typeInt8:
		return int8(b[0]), nil
	case typeUint16:
		return binary.LittleEndian.Uint16(b), nil
	case typeInt16:
		return int16(binary.LittleEndian.Uint16(b)), nil
	case typeUint32:
		return binary.LittleEndian.Uint32(b), nil
	case typeInt32:
		return int32(binary.LittleEndian.Uint32(b)), nil
	case typeFloat32:
		return math.Float32frombits(binary.LittleEndian.Uint32(b)), nil
	case typeBool:
		return asBool(b)
	case typeUint64:
		return binary.LittleEndian.Uint64(b), nil
	case typeInt64:
		return int64(binary.LittleEndian.Uint64(b)), nil
	default:
		return math.Float64frombits(binary.LittleEndian.Uint64(b)), nil
	}
}

// array: the elements' type, their number, the elements.
func (r *reader) array(depth int) (any, error) {
	if depth > maxArrayDepth {
		return nil, fmt.Errorf("arrays within arrays, more than %d deep", maxArrayDepth)
	}
	kind, err := r.uint32()
	if err != nil {
		return nil, err
	}
	t := valueType(kind)
	n, err := r.uint64()
	if err != nil {
		return nil, err
	}
	size := t.minSize()
	if size == 0 {
		return nil, fmt.Errorf("array of unknown type %d", kind)
	}
	if n > uint64(r.left()/size) {
		return nil, fmt.Errorf("an array of %d elements: %w: %d bytes are left", n, errShort, r.left())
	}
	switch t {
	case typeString:
		return variable(int(n), r.string)
	case typeArray:
		return variable(int(n), func() (any, error) { return r.array(depth + 1) })
	}
	b, err := r.take(n * uint64(size))
	if err != nil {
		return nil, err
	}
	switch t {
	case typeUint8:
		return fixed(b, 1, func(b []byte) uint8 { return b[0] }), nil
	case typeInt8:
		return fixed(b, 1, func(b []byte) int8 { return int8(b[0]) }), nil
	case typeUint16:
		return fixed(b, 2, binary.LittleEndian.Uint16), nil
	case typeInt16:
		return fixed(b, 2, func(b []byte) int16 { return int16(binary.LittleEndian.Uint16(b)) }), nil
	case typeUint32:
		return fixed(b, 4, binary.LittleEndian.Uint32), nil
	case typeInt32:
		return fixed(b, 4, func(b []byte) int32 { return int32(binary.LittleEndian.Uint32(b)) }), nil
	case typeFloat32:
		return fixed(b, 4, func(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }), nil
	case typeBool:
		return variable(int(n), func() (v bool, err error) { v, err = asBool(b); b = b[1:]; return v, err })
	case typeUint64:
		return fixed(b, 8, binary.LittleEndian.Uint64), nil
	case typeInt64:
		return fixed(b, 8, func(b []byte) int64 { return int64(binary.LittleEndian.Uint64(b)) }), nil
	default:
		return fixed(b, 8, func(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) }), nil
	}
}

func fixed[T any](b []byte, size int, decode func([]byte) T) []T {
	out := make([]T, len(b)/size)
	for i := range out {
		out[i] = decode(b[i*size:])
	}
	return out
}

func variable[T any](n int, next func() (T, error)) ([]T, error) {
	out := make([]T, n)
	for i := range out {
		var err error
		if out[i], err = next(); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return out, nil
}

func asBool(b []byte) (bool, error) {
	if b[0] > 1 {
		return false, fmt.Errorf("a bool is %d: it must be 0 or 1", b[0])
	}
	return b[0] == 1, nil
}

// appendValue appends a value, its type before it. Arrays carry their type within.
func appendValue(dst []byte, value any) ([]byte, error) {
	le := binary.LittleEndian
	kind := func(t valueType) []byte { return le.AppendUint32(dst, uint32(t)) }
	switch v := value.(type) {
	case uint8:
		return append(kind(typeUint8), v), nil
	case int8:
		return append(kind(typeInt8), byte(v)), nil
	case uint16:
		return le.AppendUint16(kind(typeUint16), v), nil
	case int16:
		return le.AppendUint16(kind(typeInt16), uint16(v)), nil
	case uint32:
		return le.AppendUint32(kind(typeUint32), v), nil
	case int32:
		return le.AppendUint32(kind(typeInt32), uint32(v)), nil
	case float32:
		return le.AppendUint32(kind(typeFloat32), math.Float32bits(v)), nil
	case bool:
		if v {
			return append(kind(typeBool), 1), nil
		}
		return append(kind(typeBool), 0), nil
	case string:
		return appendString(kind(typeString), v), nil
	case uint64:
		return le.AppendUint64(kind(typeUint64), v), nil
	case int64:
		return le.AppendUint64(kind(typeInt64), uint64(v)), nil
	case float64:
		return le.AppendUint64(kind(typeFloat64), math.Float64bits(v)), nil
	}
	return appendArray(kind(typeArray), value)
}

// appendArray appends the elements' type, their number and the elements.
func appendArray(dst []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case []uint8:
		return appendElements(dst, typeUint8, v)
	case []int8:
		return appendElements(dst, typeInt8, v)
	case []uint16:
		return appendElements(dst, typeUint16, v)
	case []int16:
		return appendElements(dst, typeInt16, v)
	case []uint32:
		return appendElements(dst, typeUint32, v)
	case []int32:
		return appendElements(dst, typeInt32, v)
	case []float32:
		return appendElements(dst, typeFloat32, v)
	case []bool:
		return appendElements(dst, typeBool, v)
	case []string:
		return appendElements(dst, typeString, v)
	case []uint64:
		return appendElements(dst, typeUint64, v)
	case []int64:
		return appendElements(dst, typeInt64, v)
	case []float64:
		return appendElements(dst, typeFloat64, v)
	case []any:
		return appendElements(dst, typeArray, v)
	}
	return nil, fmt.Errorf("a value of type %T cannot be stored in GGUF", value)
}

func appendElements[T any](dst []byte, t valueType, elements []T) ([]byte, error) {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(t))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(elements)))
	var one []byte
	for _, e := range elements {
		var err error
		if one, err = appendValue(one[:0], e); err != nil {
			return nil, err
		}
		dst = append(dst, one[4:]...) // without the type, which the array states once
	}
	return dst, nil
}

func appendString(dst []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(dst, uint64(len(s))), s...)
}

package gguf

import (
	"encoding/binary"
	"math"

	"github.com/seed-8780d58e/spin/pkg/half"
)

// decode fills dst from whole blocks. The block formats are those of ggml-common.h; products and sums are rounded
// separately, as in ggml's portable code, so the result does not depend on whether the machine fuses them.
func (t Type) decode(dst []float32, src []byte) {
	switch t {
	case F32:
		half.DecodeF32(dst, src)
	case F16:
		half.DecodeF16(dst, src)
	case BF16:
		half.DecodeBF16(dst, src)
	case Q8_0:
		decodeQ8_0(dst, src)
	case Q4_0:
		decodeQ4_0(dst, src)
	case Q4_1:
		decodeQ4_1(dst, src)
	default:
		panic("gguf: decode of an unsupported type")
	}
}

// decodeQ8_0: a scale d in F16, then 32 signed bytes q: x = d*q.
func decodeQ8_0(dst []float32, src []byte) {
	for len(src) >= 34 && len(dst) >= 32 {
		d := half.F16(binary.LittleEndian.Uint16(src))
		q, x := src[2:34], dst[:32]
		for i, b := range q {
			x[i] = d * float32(int8(b))
		}
		src, dst = src[34:], dst[32:]
	}
}

// decodeQ4_0: a scale d in F16, then 16 bytes; the low halves are elements 0 to 15, the high ones 16 to 31: x = d*(q-8).
func decodeQ4_0(dst []float32, src []byte) {
	for len(src) >= 18 && len(dst) >= 32 {
		d := half.F16(binary.LittleEndian.Uint16(src))
		q, lo, hi := src[2:18], dst[:16], dst[16:32]
		for i, b := range q {
			lo[i] = d * float32(int(b&15)-8)
			hi[i] = d * float32(int(b>>4)-8)
		}
		src, dst = src[18:], dst[32:]
	}
}

// decodeQ4_1: a scale d and a minimum m in F16, then 16 bytes as in Q4_0: x = d*q + m.
func decodeQ4_1(dst []float32, src []byte) {
	for len(src) >= 20 && len(dst) >= 32 {
		d := half.F16(binary.LittleEndian.Uint16(src))
		m := half.F16(binary.LittleEndian.Uint16(src[2:]))
		q, lo, hi := src[4:20], dst[:16], dst[16:32]
		for i, b := range q {
			lo[i] = float32(d*float32(b&15)) + m
			hi[i] = float32(d*float32(b>>4)) + m
		}
		src, dst = src[20:], dst[32:]
	}
}

// appendEncoded appends src, whole blocks, in type t.
func (t Type) appendEncoded(dst []byte, src []float32) []byte {
	switch t {
	case F32:
		return half.AppendF32(dst, src)
	case F16:
		return half.AppendF16(dst, src)
	case BF16:
		return half.AppendBF16(dst, src)
	case Q8_0:
		return appendQ8_0(dst, src)
	}
	panic("gguf: encode of an unsupported type")
}

// appendQ8_0 is ggml's quantize_row_q8_0_ref: the largest magnitude becomes 127, halves are rounded away from zero.
func appendQ8_0(dst []byte, src []float32) []byte {
	for ; len(src) >= 32; src = src[32:] {
		x := src[:32]
		var amax float32
		for _, v := range x {
			amax = max(amax, float32(math.Abs(float64(v))))
		}
		d := amax / 127
		var inverse float32
		if d != 0 {
			inverse = 1 / d
		}
		dst = binary.LittleEndian.AppendUint16(dst, half.ToF16(d))
		for _, v := range x {
			dst = append(dst, byte(int8(math.Round(float64(v*inverse)))))
		}
	}
	return dst
}

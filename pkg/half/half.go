// Package half converts between float32 and the 16-bit formats that weights are stored in: IEEE 754 binary16 (F16) and
// bfloat16 (BF16), both little-endian. Decoding is exact; encoding rounds to nearest, ties to even.
package half

import (
	"encoding/binary"
	"math"
	"slices"
)

// F16 returns the value of the binary16 number with the given bits. It is exact; NaN payloads are kept.
func F16(bits uint16) float32 {
	// Shifted into a float32's exponent and fraction the number is 2^112 too small, subnormal or not.
	const rebias = 0x1p112
	f := math.Float32frombits(uint32(bits&0x7fff)<<13) * rebias
	u := math.Float32bits(f)
	if bits&0x7c00 == 0x7c00 { // infinity or NaN
		u = 0x7f800000 | uint32(bits&0x3ff)<<13
	}
	return math.Float32frombits(u | uint32(bits&0x8000)<<16)
}

// ToF16 rounds to binary16. Values from 65520 up become infinity.
func ToF16(f float32) uint16 {
	u := math.Float32bits(f)
	sign := uint16(u >> 16 & 0x8000)
	u &= 0x7fffffff
	switch {
	case u > 0x7f800000: // NaN, made quiet
		return sign | 0x7e00 | uint16(u>>13&0x1ff)
	case u >= 0x477ff000: // 65520 and up
		return sign | 0x7c00
	case u < 0x38800000: // below 2^-14: a multiple of 2^-24, rounded by an addition whose last bit is that
		return sign | uint16(math.Float32bits(math.Float32frombits(u)+0.5)-math.Float32bits(0.5))
	}
	u += 0xfff + u>>13&1
	return sign | uint16((u-0x38000000)>>13)
}

// BF16 returns the value of the bfloat16 number with the given bits.
func BF16(bits uint16) float32 { return math.Float32frombits(uint32(bits) << 16) }

// ToBF16 rounds to bfloat16.
func ToBF16(f float32) uint16 {
	u := math.Float32bits(f)
	if u&0x7fffffff > 0x7f800000 { // NaN, made quiet
		return uint16(u>>16) | 0x40
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

// DecodeF32 fills dst from 4*len(dst) bytes.
func DecodeF32(dst []float32, src []byte) {
	src = src[:4*len(dst)]
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

// DecodeF16 fills dst from 2*len(dst) bytes.
func DecodeF16(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = F16(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// DecodeBF16 fills dst from 2*len(dst) bytes.
func DecodeBF16(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = BF16(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// AppendF32 appends 4*len(src) bytes.
func AppendF32(dst []byte, src []float32) []byte {
	dst, out := extend(dst, 4*len(src))
	for i, f := range src {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(f))
	}
	return dst
}

// AppendF16 appends 2*len(src) bytes.
func AppendF16(dst []byte, src []float32) []byte {
	dst, out := extend(dst, 2*len(src))
	for i, f := range src {
		binary.LittleEndian.PutUint16(out[2*i:], ToF16(f))
	}
	return dst
}

// AppendBF16 appends 2*len(src) bytes.
func AppendBF16(dst []byte, src []float32) []byte {
	dst, out := extend(dst, 2*len(src))
	for i, f := range src {
		binary.LittleEndian.PutUint16(out[2*i:], ToBF16(f))
	}
	return dst
}

// extend makes dst n bytes longer and returns these bytes too.
func extend(dst []byte, n int) (all, added []byte) {
	all = slices.Grow(dst, n)[:len(dst)+n]
	return all, all[len(dst):]
}

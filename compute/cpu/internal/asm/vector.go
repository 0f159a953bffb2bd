package asm

import (
	"encoding/binary"
	"math"
)

var le = binary.LittleEndian

// vector executes an instruction whose destination is a vector register, lane by lane.
func (m *machine) vector(i Instr, dst Vec) {
	n := dst.Bytes
	out := make([]byte, n)
	src := func(k, bytes int) []byte { return m.bytes(i.Args[k], bytes) }
	if f, ok := binaryOps[i.Op]; ok {
		b, a := src(0, n), src(1, n)
		for l := 0; l < n; l += 4 {
			le.PutUint32(out[l:], f(le.Uint32(a[l:]), le.Uint32(b[l:])))
		}
		m.set(dst, out)
		return
	}
	switch i.Op {
	case "VPCMPEQD", "VPTERNLOGD": // as kernels use them: all ones
		if a := i.Args[len(i.Args)-3:]; a[0] != a[1] || a[1] != a[2] || len(i.Args) == 4 && i.Args[0] != Imm(0xff) {
			panic("asm: " + i.String())
		}
		for l := range out {
			out[l] = 0xff
		}
	case "VBROADCASTSS", "VPBROADCASTD":
		x := src(0, 4)
		for l := 0; l < n; l += 4 {
			copy(out[l:], x)
		}
	case "VSQRTPS":
		x := src(0, n)
		for l := 0; l < n; l += 4 {
			put(out[l:], float32(math.Sqrt(float64(get(x[l:])))))
		}
	case "VCVTPS2DQ":
		x := src(0, n)
		for l := 0; l < n; l += 4 {
			r := math.RoundToEven(float64(get(x[l:])))
			v := int32(math.MinInt32)
			if r >= math.MinInt32 && r <= math.MaxInt32 {
				v = int32(r)
			}
			le.PutUint32(out[l:], uint32(v))
		}
	case "VROUNDPS":
		if m.int(i.Args[0])&7 != 0 {
			panic("asm: VROUNDPS: only to nearest even")
		}
		x := src(1, n)
		for l := 0; l < n; l += 4 {
			put(out[l:], float32(math.RoundToEven(float64(get(x[l:])))))
		}
	case "VPSLLD", "VPSRLD", "VPSRAD":
		x, by := src(1, n), uint(m.int(i.Args[0]))
		for l := 0; l < n; l += 4 {
			v := le.Uint32(x[l:])
			switch i.Op {
			case "VPSLLD":
				v <<= by
			case "VPSRLD":
				v >>= by
			default:
				v = uint32(int32(v) >> by)
			}
			le.PutUint32(out[l:], v)
		}
	case "VPMOVZXWD":
		x := src(0, n/2)
		for l := 0; l < n; l += 4 {
			le.PutUint32(out[l:], uint32(le.Uint16(x[l/2:])))
		}
	case "VFMADD231PS", "VFNMADD231PS", "VFMADD213PS", "VFNMADD213PS":
		b, a, d := src(0, n), src(1, n), src(2, n)
		for l := 0; l < n; l += 4 {
			x, y, z := get(a[l:]), get(b[l:]), get(d[l:])
			if i.Op == "VFMADD213PS" || i.Op == "VFNMADD213PS" { // dst = a·dst + b
				y, z = z, y
			}
			if i.Op == "VFNMADD231PS" || i.Op == "VFNMADD213PS" {
				x = -x
			}
			put(out[l:], FMA(x, y, z))
		}
	case "VDPBF16PS":
		b, a, d := src(0, n), src(1, n), src(2, n)
		for l := 0; l < n; l += 4 {
			put(out[l:], DotBF16(get(d[l:]), le.Uint32(a[l:]), le.Uint32(b[l:])))
		}
	case "VCMPPS":
		b, a := src(1, n), src(2, n)
		for l := 0; l < n; l += 4 {
			if compare(m.int(i.Args[0]), get(a[l:]), get(b[l:])) {
				le.PutUint32(out[l:], math.MaxUint32)
			}
		}
	case "VBLENDVPS":
		mask, b, a := src(0, n), src(1, n), src(2, n)
		for l := 0; l < n; l += 4 {
			from := a
			if mask[l+3]&0x80 != 0 {
				from = b
			}
			copy(out[l:l+4], from[l:])
		}
	default:
		m.set(dst, m.shuffle(i, dst))
		return
	}
	m.set(dst, out)
}

// shuffle executes the instructions that move lanes.
func (m *machine) shuffle(i Instr, dst Vec) []byte {
	n := dst.Bytes
	out := make([]byte, n)
	imm := func() int64 { return m.int(i.Args[0]) }
	src := func(k, bytes int) []byte { return m.bytes(i.Args[k], bytes) }
	switch i.Op {
	case "VUNPCKLPS", "VUNPCKHPS", "VUNPCKLPD", "VUNPCKHPD":
		b, a := src(0, n), src(1, n)
		w, high := 4, 0
		if i.Op[7] == 'P' && i.Op[8] == 'D' {
			w = 8
		}
		if i.Op[6] == 'H' {
			high = 8
		}
		for lane := 0; lane < n; lane += 16 {
			for k := 0; k < 8/w; k++ {
				copy(out[lane+2*k*w:lane+2*k*w+w], a[lane+high+k*w:])
				copy(out[lane+(2*k+1)*w:lane+(2*k+2)*w], b[lane+high+k*w:])
			}
		}
	case "VPERM2F128", "VPERM2I128":
		b, a := src(1, 32), src(2, 32)
		both := append(append([]byte(nil), a...), b...)
		for h := 0; h < 2; h++ {
			c := imm() >> (4 * h)
			if c&8 == 0 {
				copy(out[h*16:], both[c&3*16:c&3*16+16])
			}
		}
	case "VINSERTF128", "VINSERTI128":
		copy(out, src(2, 32))
		copy(out[imm()*16:imm()*16+16], src(1, 16))
	case "VPERMQ":
		x := src(1, n)
		for k := 0; k < 4; k++ {
			s := imm() >> (2 * k) & 3
			copy(out[k*8:k*8+8], x[s*8:])
		}
	case "VSHUFPS":
		b, a := src(1, n), src(2, n)
		for lane := 0; lane < n; lane += 16 {
			for k := 0; k < 4; k++ {
				from := a
				if k >= 2 {
					from = b
				}
				s := int(imm()>>(2*k)&3) * 4
				copy(out[lane+4*k:lane+4*k+4], from[lane+s:])
			}
		}
	case "VPACKUSDW":
		b, a := src(0, n), src(1, n)
		for lane := 0; lane < n; lane += 16 {
			for k := 0; k < 8; k++ {
				x := a[lane+4*(k&3):]
				if k >= 4 {
					x = b[lane+4*(k&3):]
				}
				v := int32(le.Uint32(x))
				le.PutUint16(out[lane+2*k:], uint16(min(max(v, 0), 0xffff)))
			}
		}
	default:
		panic("asm: " + i.String())
	}
	return out
}

var binaryOps = map[string]func(a, b uint32) uint32{
	"VADDPS": func(a, b uint32) uint32 { return bits(float(a) + float(b)) },
	"VSUBPS": func(a, b uint32) uint32 { return bits(float(a) - float(b)) },
	"VMULPS": func(a, b uint32) uint32 { return bits(float(a) * float(b)) },
	"VDIVPS": func(a, b uint32) uint32 { return bits(float(a) / float(b)) },
	// SDM: the second source where either is NaN or both are 0.
	"VMAXPS": func(a, b uint32) uint32 { return choose(float(a) > float(b), a, b) },
	"VMINPS": func(a, b uint32) uint32 { return choose(float(a) < float(b), a, b) },
	"VPADDD": func(a, b uint32) uint32 { return a + b },
	"VPSUBD": func(a, b uint32) uint32 { return a - b },
	"VPAND":  and, "VPANDD": and, "VANDPS": and,
	"VPOR": or, "VPORD": or, "VORPS": or,
	"VPXOR": xor, "VPXORD": xor, "VXORPS": xor,
	"VANDNPS": func(a, b uint32) uint32 { return ^a & b },
}

func and(a, b uint32) uint32 { return a & b }
func or(a, b uint32) uint32  { return a | b }
func xor(a, b uint32) uint32 { return a ^ b }

func choose(first bool, a, b uint32) uint32 {
	if first {
		return a
	}
	return b
}

func compare(predicate int64, a, b float32) bool {
	switch predicate {
	case 0:
		return a == b
	case 1, 17:
		return a < b
	case 2, 18:
		return a <= b
	case 3: // unordered
		return a != a || b != b
	case 13, 29:
		return a >= b
	case 14, 30:
		return a > b
	}
	panic("asm: VCMPPS predicate")
}

func float(x uint32) float32  { return math.Float32frombits(x) }
func bits(x float32) uint32   { return math.Float32bits(x) }
func get(b []byte) float32    { return float(le.Uint32(b)) }
func put(b []byte, x float32) { le.PutUint32(b, bits(x)) }

// FMA is x·y + z rounded once to float32. The product is exact in float64; the sum is rounded to
// odd there, after which the rounding to 24 bits is right (Boldo and Melquiond, "Emulation of FMA
// and correctly rounded sums: proved algorithms using rounding to odd", 2008).
func FMA(x, y, z float32) float32 {
	p, c := float64(x)*float64(y), float64(z)
	s := p + c
	if math.IsInf(s, 0) || math.IsNaN(s) {
		return float32(s)
	}
	// TwoSum: s + err = p + c exactly.
	t := s - p
	err := (p - (s - t)) + (c - t)
	if err != 0 {
		if b := math.Float64bits(s); b&1 == 0 {
			if (err > 0) == (s > 0) {
				b++
			} else {
				b--
			}
			s = math.Float64frombits(b)
		}
	}
	return float32(s)
}

// DotBF16 is a lane of VDPBF16PS (Intel SDM volume 2): acc + a₁·b₁, then + a₀·b₀, each product
// fused with its sum and rounded to nearest even; denormals are zeros on input and output.
func DotBF16(acc float32, a, b uint32) float32 {
	acc = flush(acc)
	acc = flush(FMA(flush(float(a&0xffff0000)), flush(float(b&0xffff0000)), acc))
	return flush(FMA(flush(float(a<<16)), flush(float(b<<16)), acc))
}

func flush(x float32) float32 {
	if b := bits(x); b&0x7f800000 == 0 {
		return float(b & 0x80000000)
	}
	return x
}

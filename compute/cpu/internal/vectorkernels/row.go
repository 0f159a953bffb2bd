package main

import "fmt"

// dtype of a pointer argument. act stands for the kernel's activation dtype.
type dtype int

const (
	f32 dtype = iota
	bf16
	act
)

func (d dtype) String() string { return [...]string{"F32", "BF16"}[d] }

// role of an argument of a row kernel.
type role int

const (
	in     role = iota // pointer, loaded
	out                // pointer, stored
	inout              // pointer, loaded and stored
	scalar             // a float32, broadcast
)

type argument struct {
	name string
	role role
	dt   dtype
}

// rowKernel is a loop over the elements of one row (or of rows, each pointer with its own stride).
//
// Loaded arguments come to body in Y0, Y1, … in their order, scalars in Y9, Y10, Y11; Y5 to Y8 are
// free (in the tail, Y8 begins as the mask of the lanes that are there; the others load as 0); stored arguments are left in the registers that stores names. With sums, the row's sum is
// returned: body adds to the register it is given. Vector v of a row goes to accumulator v mod 4 and
// the tail to the last one, so that the order of the sum depends on the row's length alone.
type rowKernel struct {
	name   string
	args   []argument
	body   func(acc string, tail bool)
	stores map[string]string // argument -> register
	sums   bool
	rows   bool // 2-D: rows first, a byte stride after each pointer
}

var pointers = []string{"DI", "SI", "DX", "R8", "R9", "R10"}

// takesAct reports whether the kernel depends on the activation dtype.
func (k rowKernel) takesAct() bool {
	for _, a := range k.args {
		if a.dt == act {
			return true
		}
	}
	return false
}

// emit writes the kernel for one activation dtype.
func (k rowKernel) emit(dt dtype) {
	name := symbol(k.name)
	if k.takesAct() {
		name += dt.String()
	}
	type slot struct {
		argument
		reg, load string
		offset    int
	}
	var slots []slot
	sig, off := "n int", 8
	if k.rows {
		sig, off = "rows, n int", 16
	}
	var loads, scalars, ptrs int
	for _, a := range k.args {
		if a.dt == act {
			a.dt = dt
		}
		s := slot{argument: a, offset: off}
		if a.role == scalar {
			s.reg = fmt.Sprintf("Y%d", 9+scalars)
			scalars++
			sig += ", " + a.name + " float32"
			off += 4
		} else {
			s.reg = pointers[ptrs]
			ptrs++
			if a.role != out {
				s.load = fmt.Sprintf("Y%d", loads)
				loads++
			}
			sig += ", " + a.name + " unsafe.Pointer"
			off += 8
			if k.rows {
				sig += ", " + a.name + "Stride int"
				off += 8
			}
		}
		slots = append(slots, s)
	}
	size, ret := off, ""
	if k.sums {
		off = (off + 7) &^ 7
		ret = " float32"
		size = off + 4
	}
	p("\n// func %s(%s)%s", name, sig, ret)
	p("TEXT ·%s(SB), NOSPLIT, $16-%d", name, size)
	for _, s := range slots {
		if s.role == scalar {
			p("\tVBROADCASTSS %s+%d(FP), %s", s.name, s.offset, s.reg)
		} else {
			p("\tMOVQ %s+%d(FP), %s", s.name, s.offset, s.reg)
		}
	}
	if k.sums {
		for a := 12; a < 16; a++ {
			p("\tVXORPS Y%d, Y%d, Y%d", a, a, a)
		}
	}
	if k.rows {
		p("row:")
		p("\tMOVQ n+8(FP), CX")
	} else {
		p("\tMOVQ n+0(FP), CX")
	}
	p("\tXORQ R11, R11")
	step := func(acc string) {
		for _, s := range slots {
			if s.load == "" {
				continue
			}
			if s.dt == f32 {
				p("\tVMOVUPS (%s)(R11*4), %s", s.reg, s.load)
			} else {
				p("\tVPMOVZXWD (%s)(R11*2), %s", s.reg, s.load)
				p("\tVPSLLD $16, %s, %s", s.load, s.load)
			}
		}
		k.body(acc, false)
		for _, s := range slots {
			if r := k.stores[s.name]; r == "" {
				continue
			} else if s.dt == f32 {
				p("\tVMOVUPS %s, (%s)(R11*4)", r, s.reg)
			} else {
				roundBF16(r)
				p("\tVMOVDQU X5, (%s)(R11*2)", s.reg)
			}
		}
		p("\tADDQ $8, R11")
		p("\tSUBQ $8, CX")
	}
	if k.sums {
		p("quad:\n\tCMPQ CX, $32\n\tJLT single")
		for a := 12; a < 16; a++ {
			step(fmt.Sprintf("Y%d", a))
		}
		p("\tJMP quad\nsingle:")
		for a := 12; a < 15; a++ {
			p("\tCMPQ CX, $8\n\tJLT tail")
			step(fmt.Sprintf("Y%d", a))
		}
	} else {
		p("loop:\n\tCMPQ CX, $8\n\tJLT tail")
		step("")
		p("\tJMP loop")
	}
	p("tail:\n\tTESTQ CX, CX\n\tJLE done")
	mask := func() {
		p("\tLEAQ tailMask<>+32(SB), BX\n\tMOVQ CX, R12\n\tSHLQ $2, R12\n\tSUBQ R12, BX\n\tVMOVDQU (BX), Y8")
	}
	mask()
	for i, s := range slots {
		switch {
		case s.load == "":
		case s.dt == f32:
			p("\tVMASKMOVPS (%s)(R11*4), Y8, %s", s.reg, s.load)
		default:
			p("\tVPXOR X5, X5, X5\n\tVMOVDQU X5, 0(SP)")
			p("\tLEAQ (%s)(R11*2), BX\n\tXORQ R12, R12", s.reg)
			p("load%d:\n\tMOVW (BX)(R12*2), R13\n\tMOVW R13, 0(SP)(R12*2)\n\tINCQ R12\n\tCMPQ R12, CX\n\tJLT load%d", i, i)
			p("\tVPMOVZXWD 0(SP), %s\n\tVPSLLD $16, %s, %s", s.load, s.load, s.load)
		}
	}
	k.body("Y15", true)
	for i, s := range slots {
		switch r := k.stores[s.name]; {
		case r == "":
		case s.dt == f32:
			mask()
			p("\tVMASKMOVPS %s, Y8, (%s)(R11*4)", r, s.reg)
		default:
			roundBF16(r)
			p("\tVMOVDQU X5, 0(SP)")
			p("\tLEAQ (%s)(R11*2), BX\n\tXORQ R12, R12", s.reg)
			p("store%d:\n\tMOVW 0(SP)(R12*2), R13\n\tMOVW R13, (BX)(R12*2)\n\tINCQ R12\n\tCMPQ R12, CX\n\tJLT store%d", i, i)
		}
	}
	p("done:")
	if k.rows {
		for _, s := range slots {
			if s.role != scalar {
				p("\tADDQ %sStride+%d(FP), %s", s.name, s.offset+8, s.reg)
			}
		}
		p("\tDECQ rows+0(FP)\n\tJNZ row")
	}
	if k.sums {
		p("\tVADDPS Y13, Y12, Y12\n\tVADDPS Y15, Y14, Y14\n\tVADDPS Y14, Y12, Y12")
		reduce("VADDPS", 12, 13)
		p("\tVMOVSS X12, ret+%d(FP)", off)
	}
	p("\tVZEROUPPER\n\tRET")
}

// reduce folds the eight lanes of Yr into its first one by a tree: halves, quarters, pairs.
func reduce(op string, r, t int) {
	p("\tVEXTRACTF128 $1, Y%d, X%d\n\t%s X%d, X%d, X%d", r, t, op, t, r, r)
	p("\tVPERMILPS $0x4e, X%d, X%d\n\t%s X%d, X%d, X%d", r, t, op, t, r, r)
	p("\tVPERMILPS $0xb1, X%d, X%d\n\t%s X%d, X%d, X%d", r, t, op, t, r, r)
}

// roundBF16 leaves the lanes of r in X5 as eight BF16, by the rule of compute.BF16FromF32. It uses
// Y5 to Y7.
func roundBF16(r string) {
	p("\tVPSRLD $16, %s, Y5\n\tVPAND constants<>+%d(SB), Y5, Y6", r, cOne)
	p("\tVPADDD constants<>+%d(SB), Y6, Y6\n\tVPADDD %s, Y6, Y6\n\tVPSRLD $16, Y6, Y6", cHalfULP, r)
	p("\tVPOR constants<>+%d(SB), Y5, Y5\n\tVCMPPS $3, %s, %s, Y7\n\tVBLENDVPS Y7, Y5, Y6, Y5", cQuiet, r, r)
	p("\tVEXTRACTI128 $1, Y5, X6\n\tVPACKUSDW X6, X5, X5")
}

// Offsets into constants, eight equal dwords each.
const (
	cOne     = 32 * iota // the integer 1
	cHalfULP             // 0x7fff
	cQuiet               // 0x40
	cOneF                // 1.0
	cLog2E
	cLn2Hi
	cLn2Lo
	cExp7 // exp's polynomial: the coefficient of r⁷, …
	cExp6
	cExp5
	cExp4
	cExp3
	cExp2
	cExpLow
	cExpHigh
	cInf
	cNegInf
	cSign
	cEight // the integer 8
	cEnd
)

var constants = map[int]uint32{
	cOne: 1, cHalfULP: 0x7fff, cQuiet: 0x40,
	cOneF:    bits(1),
	cLog2E:   bits(1.44269504088896341),
	cLn2Hi:   bits(0.693359375),
	cLn2Lo:   bits(-2.12194440e-4),
	cExp7:    bits(1.9875691500e-4),
	cExp6:    bits(1.3981999507e-3),
	cExp5:    bits(8.3334519073e-3),
	cExp4:    bits(4.1665795894e-2),
	cExp3:    bits(1.6666665459e-1),
	cExp2:    bits(5.0000001201e-1),
	cExpLow:  bits(-87),
	cExpHigh: bits(88.722839),
	cInf:     0x7f800000, cNegInf: 0xff800000, cSign: 0x80000000, cEight: 8,
}

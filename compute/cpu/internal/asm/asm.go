// Package asm is a small assembler in three parts: a builder of straight instruction lists for
// amd64, a printer that writes them as Go (Plan 9) assembly, and an emulator that runs them in Go.
//
// The same list that becomes a kernel can so be tested on a machine that lacks its instructions:
// that is how AVX-512 kernels are checked on a CPU with AVX2 only.
package asm

import (
	"fmt"
	"strings"
)

// Reg is a general register.
type Reg uint8

// The general registers that kernels may use (R14 is Go's g, R15 its global offset table).
const (
	AX Reg = iota
	BX
	CX
	DX
	SI
	DI
	R8
	R9
	R10
	R11
	R12
	R13
)

var regNames = [...]string{"AX", "BX", "CX", "DX", "SI", "DI", "R8", "R9", "R10", "R11", "R12", "R13"}

func (r Reg) String() string { return regNames[r] }

// Vec is a vector register of 16, 32 or 64 bytes.
type Vec struct {
	Bytes int
	N     int
}

// X, Y and Z name the vector registers.
func X(n int) Vec { return Vec{16, n} }
func Y(n int) Vec { return Vec{32, n} }
func Z(n int) Vec { return Vec{64, n} }

func (v Vec) String() string {
	return fmt.Sprintf("%c%d", map[int]byte{16: 'X', 32: 'Y', 64: 'Z'}[v.Bytes], v.N)
}

// Mem is the operand Disp(Base)(Index*Scale); Scale 0 is no index.
type Mem struct {
	Base  Reg
	Index Reg
	Scale int
	Disp  int
}

// At is disp bytes behind base.
func At(base Reg, disp int) Mem { return Mem{Base: base, Disp: disp} }

func (m Mem) String() string {
	s := fmt.Sprintf("(%v)", m.Base)
	if m.Disp != 0 {
		s = fmt.Sprint(m.Disp) + s
	}
	if m.Scale != 0 {
		s += fmt.Sprintf("(%v*%d)", m.Index, m.Scale)
	}
	return s
}

// Imm is an immediate operand.
type Imm int64

func (i Imm) String() string {
	if i < 0 {
		return fmt.Sprintf("$%d", int64(i))
	}
	return fmt.Sprintf("$0x%x", int64(i))
}

// Param is an argument of the function, in memory.
type Param struct {
	Name string
	Off  int
}

func (p Param) String() string { return fmt.Sprintf("%s+%d(FP)", p.Name, p.Off) }

// Label is the target of a jump.
type Label string

func (l Label) String() string { return string(l) }

// Instr is one instruction with its operands in Go's order, the destination last. An empty Op with
// a Label operand marks that label's place.
type Instr struct {
	Op   string
	Args []fmt.Stringer
}

// Func is a function that takes its arguments in memory and returns nothing.
type Func struct {
	Name   string
	Doc    string
	Params string // as in Go: "n int, src, dst unsafe.Pointer, alpha float32"
	Code   []Instr

	params map[string]Param
	size   int
}

// New starts a function. Parameters are int, unsafe.Pointer or float32.
func New(name, params, doc string) *Func {
	f := &Func{Name: name, Doc: doc, Params: params, params: map[string]Param{}}
	var waiting []string
	for _, p := range strings.Split(params, ",") {
		name, typ, typed := strings.Cut(strings.TrimSpace(p), " ")
		waiting = append(waiting, name)
		if !typed {
			continue
		}
		size, ok := map[string]int{"int": 8, "unsafe.Pointer": 8, "float32": 4}[typ]
		if !ok {
			panic("asm: parameter type " + typ)
		}
		for _, w := range waiting {
			f.size = (f.size + size - 1) / size * size
			f.params[w] = Param{w, f.size}
			f.size += size
		}
		waiting = nil
	}
	return f
}

// Param is the operand of a parameter.
func (f *Func) Param(name string) Param {
	p, ok := f.params[name]
	if !ok {
		panic("asm: " + f.Name + " has no parameter " + name)
	}
	return p
}

// Op appends an instruction.
func (f *Func) Op(op string, args ...fmt.Stringer) {
	f.Code = append(f.Code, Instr{op, args})
}

// Load moves a parameter to a register.
func (f *Func) Load(name string, r Reg) { f.Op("MOVQ", f.Param(name), r) }

// Label marks the place of l.
func (f *Func) Label(l string) { f.Op("", Label(l)) }

// Jump appends a jump to l: JMP, JEQ, JNE, JLT, JGE, JGT, JLE.
func (f *Func) Jump(op, l string) { f.Op(op, Label(l)) }

// Return ends the function.
func (f *Func) Return() {
	f.Op("VZEROUPPER")
	f.Op("RET")
}

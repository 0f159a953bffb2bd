// Package neon is a small assembler for arm64: functions whose integer instructions are written in
// Go's syntax and left to Go's assembler, and whose vector instructions are encoded here, since Go's
// assembler lacks many of them (a multiply-add by one lane is one). Each of those carries its text as
// GNU objdump prints it: a test disassembles the words and compares.
//
// Encodings are those of the Arm Architecture Reference Manual, chapter C7 (A64 SIMD and
// floating-point instructions).
package neon

import (
	"fmt"
	"strings"
)

// R is a general register. Kernels may use R0 to R15 and R19 to R26: the others are the linker's,
// the platform's, the assembler's or the runtime's.
type R int

func (r R) String() string { return fmt.Sprintf("R%d", int(r)) }

// x is the register's name in Arm's syntax.
func (r R) x() string { return fmt.Sprintf("x%d", int(r)) }

// V is a vector register of 128 bits, V0 to V31.
type V int

func (v V) String() string { return fmt.Sprintf("v%d", int(v)) }

// F is the register's name in Go's assembler where it holds one F32.
func (v V) F() string { return fmt.Sprintf("F%d", int(v)) }

// Instr is a vector instruction, encoded, with its text in Arm's syntax; or, without a word, a line
// in Go's.
type Instr struct {
	Word uint32
	Text string
}

// Func is a function in assembly that takes its arguments in memory.
type Func struct {
	Name   string
	Doc    string
	Params string // as in Go: "n int, src, dst unsafe.Pointer, alpha float32"
	Result string // "", "int" or "float32"
	Frame  int    // bytes of local memory
	Code   []Instr

	offsets map[string]int
	size    int // of arguments and result
}

// New starts a function. Parameters are int, int32, float32 or pointers.
func New(name, params, result, doc string) *Func {
	f := &Func{Name: name, Doc: doc, Params: params, Result: result, offsets: map[string]int{}}
	place := func(name, typ string) {
		size := 8
		if typ == "float32" || typ == "int32" {
			size = 4
		}
		f.size = (f.size + size - 1) / size * size
		f.offsets[name] = f.size
		f.size += size
	}
	var waiting []string
	for _, p := range strings.Split(params, ",") {
		name, typ, typed := strings.Cut(strings.TrimSpace(p), " ")
		waiting = append(waiting, name)
		if !typed {
			continue
		}
		for _, w := range waiting {
			place(w, typ)
		}
		waiting = nil
	}
	if result != "" {
		f.size = (f.size + 7) / 8 * 8
		place("ret", result)
	}
	return f
}

// Go appends lines in Go's syntax. Each %v takes an argument.
func (f *Func) Go(lines string, args ...any) {
	for line := range strings.SplitSeq(fmt.Sprintf(lines, args...), "\n") {
		f.Code = append(f.Code, Instr{Text: line})
	}
}

// Label marks a place.
func (f *Func) Label(l string) { f.Go("%s:", l) }

// Param is the operand of a parameter, or of "ret".
func (f *Func) Param(name string) string {
	off, ok := f.offsets[name]
	if !ok {
		panic("neon: " + f.Name + " has no parameter " + name)
	}
	return fmt.Sprintf("%s+%d(FP)", name, off)
}

// Arg loads an int or a pointer.
func (f *Func) Arg(name string, r R) { f.Go("MOVD %s, %v", f.Param(name), r) }

// Scalar loads a float32 to every lane of v.
func (f *Func) Scalar(name string, v V) {
	f.Go("FMOVS %s, %s", f.Param(name), v.F())
	f.Dup(v, v, 0)
}

// Loop writes n iterations of body, n in a register that it consumes; none where n is 0.
func (f *Func) Loop(name string, n R, body func()) {
	f.Go("CBZ %v, %send", n, name)
	f.Label(name)
	body()
	f.Go("SUB $1, %v\nCBNZ %v, %s", n, n, name)
	f.Label(name + "end")
}

package asm

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"
)

// machine is the state that instructions work on.
type machine struct {
	gpr  [12]int64
	vec  [32][64]byte
	args []byte
	may  [][]byte
	zero bool // flags of the last arithmetic
	less bool // signed
}

// Run executes f with the arguments of its parameters: int, unsafe.Pointer or float32 values.
// Pointers are read and written as they are. Where memory is not nil, it is all that f may touch:
// Run panics at any other access.
func (f *Func) Run(memory [][]byte, args ...any) {
	m := &machine{args: make([]byte, f.size+8), may: memory}
	off := 0
	for _, a := range args {
		switch a := a.(type) {
		case int:
			off = (off + 7) &^ 7
			binary.LittleEndian.PutUint64(m.args[off:], uint64(a))
			off += 8
		case unsafe.Pointer:
			off = (off + 7) &^ 7
			binary.LittleEndian.PutUint64(m.args[off:], uint64(uintptr(a)))
			off += 8
		case float32:
			binary.LittleEndian.PutUint32(m.args[off:], math.Float32bits(a))
			off += 4
		default:
			panic(fmt.Sprintf("asm: argument of type %T", a))
		}
	}
	labels := map[Label]int{}
	for n, i := range f.Code {
		if i.Op == "" {
			labels[i.Args[0].(Label)] = n
		}
	}
	for pc := 0; ; pc++ {
		i := f.Code[pc]
		switch i.Op {
		case "", "PCALIGN", "PREFETCHT0", "VZEROUPPER":
		case "RET":
			return
		case "JMP", "JEQ", "JNE", "JLT", "JGE", "JGT", "JLE":
			if m.taken(i.Op) {
				pc = labels[i.Args[0].(Label)]
			}
		default:
			m.step(i)
		}
	}
}

func (m *machine) taken(op string) bool {
	switch op {
	case "JEQ":
		return m.zero
	case "JNE":
		return !m.zero
	case "JLT":
		return m.less
	case "JGE":
		return !m.less
	case "JGT":
		return !m.less && !m.zero
	case "JLE":
		return m.less || m.zero
	}
	return true
}

// memory is n bytes at an address.
//
//go:nocheckptr
func (m *machine) memory(addr int64, n int) []byte {
	inside := m.may == nil
	for _, b := range m.may {
		first := int64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
		inside = inside || addr >= first && addr+int64(n) <= first+int64(len(b))
	}
	if !inside {
		panic(fmt.Sprintf("asm: access to %d bytes at %#x", n, addr))
	}
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), addr)), n)
}

func (m *machine) address(a Mem) int64 {
	addr := m.gpr[a.Base] + int64(a.Disp)
	if a.Scale != 0 {
		addr += m.gpr[a.Index] * int64(a.Scale)
	}
	return addr
}

// bytes is an operand's n bytes: a copy for registers.
func (m *machine) bytes(a fmt.Stringer, n int) []byte {
	switch a := a.(type) {
	case Vec:
		v := m.vec[a.N]
		return v[:n]
	case Mem:
		return append([]byte(nil), m.memory(m.address(a), n)...)
	case Param:
		return m.args[a.Off : a.Off+n]
	case Reg:
		return binary.LittleEndian.AppendUint64(nil, uint64(m.gpr[a]))[:n]
	}
	panic(fmt.Sprintf("asm: operand %v", a))
}

func (m *machine) int(a fmt.Stringer) int64 {
	if i, ok := a.(Imm); ok {
		return int64(i)
	}
	return int64(binary.LittleEndian.Uint64(m.bytes(a, 8)))
}

// set writes a vector register, clearing what lies above it, or memory.
func (m *machine) set(a fmt.Stringer, b []byte) {
	switch a := a.(type) {
	case Vec:
		m.vec[a.N] = [64]byte{}
		copy(m.vec[a.N][:], b)
	case Mem:
		copy(m.memory(m.address(a), len(b)), b)
	default:
		panic(fmt.Sprintf("asm: destination %v", a))
	}
}

func (m *machine) step(i Instr) {
	last := i.Args[len(i.Args)-1]
	if r, ok := last.(Reg); ok {
		m.integer(i, r)
		return
	}
	switch i.Op {
	case "VMOVUPS", "VMOVDQU", "VMOVDQU32":
		n := 0
		for _, a := range i.Args {
			if v, ok := a.(Vec); ok {
				n = v.Bytes
			}
		}
		m.set(last, m.bytes(i.Args[0], n))
		return
	case "VMOVSS":
		m.set(last, m.bytes(i.Args[0], 4))
		return
	case "VEXTRACTF128", "VEXTRACTI128":
		half := m.int(i.Args[0]) * 16
		m.set(last, m.bytes(i.Args[1], 32)[half:half+16])
		return
	}
	m.vector(i, last.(Vec))
}

func (m *machine) integer(i Instr, dst Reg) {
	d, s := m.gpr[dst], int64(0)
	if len(i.Args) == 2 {
		if mem, ok := i.Args[0].(Mem); ok && i.Op == "LEAQ" {
			m.gpr[dst] = m.address(mem)
			return
		}
		s = m.int(i.Args[0])
	}
	switch i.Op {
	case "MOVQ":
		m.gpr[dst] = s
		return
	case "IMULQ":
		m.gpr[dst] = d * s
		return
	case "CMPQ": // flags of first − second, in Go's order: CMPQ a, b
		panic("asm: CMPQ: use SUBQ or TESTQ")
	case "TESTQ":
		m.zero, m.less = d&s == 0, d&s < 0
		return
	case "ADDQ":
		d += s
	case "SUBQ":
		d -= s
	case "DECQ":
		d--
	case "INCQ":
		d++
	case "ANDQ":
		d &= s
	case "SHRQ":
		d = int64(uint64(d) >> s)
	case "SHLQ":
		d <<= s
	default:
		panic("asm: " + i.String())
	}
	m.gpr[dst] = d
	m.zero, m.less = d == 0, d < 0
}

package asm

import (
	"fmt"
	"strings"
)

// ATT is the instruction as GNU objdump prints it, or "" for those that only steer (integer
// arithmetic, jumps, labels), which Go's assembler may encode in several ways.
func (i Instr) ATT() string {
	if !strings.HasPrefix(i.Op, "V") && !strings.HasPrefix(i.Op, "PREFETCH") {
		return ""
	}
	op, args := strings.ToLower(i.Op), i.Args
	if i.Op == "VCMPPS" { // objdump names the predicate
		names := map[Imm]string{0: "eq", 1: "lt", 2: "le", 3: "unord", 13: "ge", 14: "gt", 17: "lt_oq", 18: "le_oq", 29: "ge_oq", 30: "gt_oq"}
		op, args = "vcmp"+names[args[0].(Imm)]+"ps", args[1:]
	}
	out := make([]string, len(args))
	for n, a := range args {
		switch a := a.(type) {
		case Vec:
			out[n] = fmt.Sprintf("%%%cmm%d", map[int]byte{16: 'x', 32: 'y', 64: 'z'}[a.Bytes], a.N)
		case Reg:
			out[n] = attReg(a)
		case Imm:
			out[n] = fmt.Sprintf("$0x%x", int64(a))
		case Param:
			out[n] = fmt.Sprintf("0x%x(%%rsp)", a.Off+8) // above the return address
		case Mem:
			disp := ""
			if a.Disp != 0 {
				disp = fmt.Sprintf("%#x", a.Disp)
			}
			index := ""
			if a.Scale != 0 {
				index = fmt.Sprintf(",%s,%d", attReg(a.Index), a.Scale)
			}
			out[n] = fmt.Sprintf("%s(%s%s)", disp, attReg(a.Base), index)
		}
	}
	return strings.TrimSpace(op + " " + strings.Join(out, ","))
}

func attReg(r Reg) string {
	name := strings.ToLower(r.String())
	if r < R8 {
		name = "r" + name
	}
	return "%" + name
}

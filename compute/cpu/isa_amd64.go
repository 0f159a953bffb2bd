//go:build amd64 && !noasm

package cpu

import "golang.org/x/sys/cpu"

// detect lists what this CPU has, the best first.
func detect() []string {
	var have []string
	x := cpu.X86
	if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasFMA && x.HasAVX2 {
		if x.HasAVX512BF16 {
			have = append(have, ISAAVX512BF16)
		}
		have = append(have, ISAAVX512)
	}
	if x.HasAVX2 && x.HasFMA {
		have = append(have, ISAAVX2)
	}
	return append(have, ISAPortable)
}

//go:build arm64 && !noasm

package cpu

// detect lists what this CPU has, the best first. NEON is part of every arm64; BFDOT and BFMMLA are
// not used: x/sys/cpu has no field that says whether a CPU has them.
func detect() []string { return []string{ISANEON, ISAPortable} }

//go:build arm64 && !noasm

package cpu

import "github.com/seed-8780d58e/spin/compute"

// runPeak runs at least n multiply-adds at this CPU's peak, and returns how many.
func runPeak(dev *Device, _ compute.DType, n int) int {
	if dev.isa != ISANEON {
		return 0
	}
	neonPeakF32(n/(24*4) + 1)
	return n
}

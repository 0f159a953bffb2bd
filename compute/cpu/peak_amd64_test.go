//go:build amd64 && !noasm

package cpu

import "github.com/seed-8780d58e/spin/compute"

// runPeak runs at least n multiply-adds at this CPU's peak, and returns how many.
func runPeak(dev *Device, dt compute.DType, n int) int {
	switch {
	case dev.isa == ISAAVX512BF16 && dt == compute.BF16:
		avx512PeakBF16(n / (24 * 32))
	case dev.isa == ISAAVX512 || dev.isa == ISAAVX512BF16:
		avx512PeakF32(n / (24 * 16))
	case dev.isa == ISAAVX2:
		avx2PeakF32(n / (12 * 8))
	default:
		return 0
	}
	return n
}

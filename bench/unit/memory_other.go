//go:build !linux

package unit

// PeakBytes is not known here.
func PeakBytes() int64 { return 0 }

// ResetPeak does nothing here.
func ResetPeak() error { return nil }

//go:build !linux

package embedded

// keepFaults does nothing where libchdb has not been seen to change signals.
func keepFaults() (restore func()) { return func() {} }

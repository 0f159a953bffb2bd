//go:build !fault

package fault

// Point does nothing.
func Point(string) {}

// PointOf does nothing.
func PointOf(string, string) {}

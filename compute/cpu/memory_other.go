//go:build !linux

package cpu

// mapPages says that Go's own allocator is used.
func mapPages(n int) ([]byte, error) { return nil, nil }

func unmapPages([]byte) {}

package cpu

import "golang.org/x/sys/unix"

// mapPages returns n bytes of zeros from the operating system.
func mapPages(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // advice: a kernel without huge pages is only slower
	return b, nil
}

func unmapPages(b []byte) { _ = unix.Munmap(b) }

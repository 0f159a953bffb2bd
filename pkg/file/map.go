// Package file reads large files by memory mapping and writes files all or nothing.
//
// Reading: [Map] gives a file's bytes without copying them, and [Parallel] walks over them on all cores; a page that
// vanishes under the walk (the file was truncated by someone else, the disk failed) becomes an error, not a crash.
//
// Writing: [Create] and [CreateDir] write under a temporary name beside the target, flush to the disk and rename, so the
// target is either what it was or complete. What a killed writer left behind is removed by the next one.
package file

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ErrClosed is returned by readers of a mapping that was closed.
var ErrClosed = errors.New("file is closed")

// errFault stands for the runtime's "invalid memory address", which would mislead.
var errFault = errors.New("mapped file could not be read: it was truncated after it was opened, or the disk failed")

// A Mapping is a regular file's contents, mapped read-only.
type Mapping struct {
	data []byte
}

// Map maps the regular file at path. The caller closes it; the mapping outlives renaming and removal of the file.
func Map(path string) (*Mapping, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if size == 0 {
		return &Mapping{data: []byte{}}, nil // a mapping of length 0 is invalid
	}
	if int64(int(size)) != size {
		return nil, fmt.Errorf("map %s: %d bytes do not fit this machine's address space", path, size)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return &Mapping{data: data}, nil
}

// Bytes returns the contents, or nil after Close. They must not be written to, nor used after Close.
func (m *Mapping) Bytes() []byte { return m.data }

// Close unmaps the file. No reader may be at work.
func (m *Mapping) Close() error {
	data := m.data
	m.data = nil
	if len(data) == 0 {
		return nil
	}
	return unix.Munmap(data)
}

// ReadAll reads a regular file of at most limit bytes.
func ReadAll(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes, the most that is read of such a file", path, limit)
	}
	return data, nil
}

// openRegular looks before it opens: opening a named pipe would block.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return os.Open(path)
}

// Parallel calls fn over disjoint ranges [lo, hi) that cover [0, n), at most grain long each, on up to GOMAXPROCS
// goroutines. fn may read mapped memory: a fault in it is returned as an error. Other panics of fn are not caught.
func Parallel(n, grain int, fn func(lo, hi int)) error {
	tasks := (n + grain - 1) / grain
	workers := min(runtime.GOMAXPROCS(0), tasks)
	if workers <= 1 {
		return guard(func() { fn(0, n) })
	}
	var (
		next atomic.Int64
		wg   sync.WaitGroup
		errs = make([]error, workers)
	)
	for w := range workers {
		wg.Go(func() {
			errs[w] = guard(func() {
				for {
					lo := (int(next.Add(1)) - 1) * grain
					if lo >= n {
						return
					}
					fn(lo, min(lo+grain, n))
				}
			})
		})
	}
	wg.Wait()
	return cmp.Or(errs...)
}

// guard turns a memory fault in fn, which is how a mapped file that shrank or a failing disk shows itself, into an error.
func guard(fn func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface {
			error
			Addr() uintptr
		}:
			err = errFault
		default:
			panic(r)
		}
	}()
	fn()
	return nil
}

// Package gguf reads and writes GGUF, the one-file model format of ggml and llama.cpp: a list of typed key-value pairs
// (the metadata) and the weights, each in one of ggml's types. Source: docs/gguf.md of ggml-org/ggml, versions 2 and 3.
//
// [Open] maps a file and checks all of its structure, so that what it returns can be used without further checks:
//
//	f, err := gguf.Open("model.gguf")
//	arch, err := f.Metadata.String("general.architecture")
//	err = f.ReadF32("token_embd.weight", dst) // dequantised, row-major
//
// [Write] makes a file from metadata and a function that gives one tensor at a time.
//
// Shapes are given as everywhere in this project: outermost dimension first, [out, in] for a matrix. GGUF stores them the
// other way round; the bytes are the same.
package gguf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/file"
)

// A File is an open GGUF file. Its methods may be called by several goroutines at once, except Close.
type File struct {
	Metadata *Metadata

	mapping *file.Mapping // nil: parsed from memory
	data    []byte        // the part of the file that tensor offsets count from
	tensors []Tensor
	index   map[string]int
}

// A Tensor says what a file holds under a name.
type Tensor struct {
	Name  string
	Type  Type
	Shape []int // 1 to 4 dimensions, outermost first, each at least 1; the last is a multiple of the type's block length

	offset, size int // in File.data
}

// Len is the number of elements.
func (t Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Open maps the file at path and checks its structure. Errors say what is wrong and where.
func Open(path string) (*File, error) {
	m, err := file.Map(path)
	if err != nil {
		return nil, err
	}
	var f *File
	var parseErr error
	if err := file.Parallel(1, 1, func(int, int) { f, parseErr = parse(m.Bytes()) }); err != nil {
		parseErr = err
	}
	if parseErr != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, parseErr), m.Close())
	}
	f.mapping = m
	return f, nil
}

// Close unmaps the file. Metadata stays valid.
func (f *File) Close() error {
	f.data = nil
	if f.mapping == nil {
		return nil
	}
	return f.mapping.Close()
}

// Tensors returns what the file holds, in file order.
func (f *File) Tensors() []Tensor { return slices.Clone(f.tensors) }

// Tensor finds a tensor by name.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.index[name]
	if !ok {
		return Tensor{}, false
	}
	return f.tensors[i], true
}

// grain is about how many elements one goroutine decodes at a time.
const grain = 1 << 17

// ReadF32 dequantises a tensor into dst, row-major; len(dst) must be its number of elements.
func (f *File) ReadF32(name string, dst []float32) error {
	t, raw, err := f.raw(name, len(dst))
	if err != nil {
		return err
	}
	block, size := t.Type.Block()
	return f.read(t, len(dst)/block, grain/block, func(lo, hi int) {
		t.Type.decode(dst[lo*block:hi*block], raw[lo*size:hi*size])
	})
}

// ReadRowsF32 dequantises a matrix or vector with its rows in another order: row i of dst is row order(i) of the tensor,
// where a row is all that one index of the first dimension names. len(dst) must be the tensor's number of elements.
// order is called by several goroutines at once.
func (f *File) ReadRowsF32(name string, order func(row int) int, dst []float32) error {
	t, raw, err := f.raw(name, len(dst))
	if err != nil {
		return err
	}
	rows := t.Shape[0]
	if block, _ := t.Type.Block(); len(dst)/rows%block != 0 {
		return fmt.Errorf("tensor %q: rows of %d elements are not whole blocks of %v", name, len(dst)/rows, t.Type)
	}
	cols, size := len(dst)/rows, t.size/rows
	return f.read(t, rows, max(1, grain/cols), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			from := order(i)
			t.Type.decode(dst[i*cols:(i+1)*cols], raw[from*size:(from+1)*size])
		}
	})
}

func (f *File) raw(name string, n int) (Tensor, []byte, error) {
	t, ok := f.Tensor(name)
	switch {
	case !ok:
		return t, nil, fmt.Errorf("no tensor %q", name)
	case n != t.Len():
		return t, nil, fmt.Errorf("tensor %q has shape %v: %d elements, not %d", name, t.Shape, t.Len(), n)
	case f.data == nil:
		return t, nil, fmt.Errorf("tensor %q: %w", name, file.ErrClosed)
	}
	if err := t.Readable(); err != nil {
		return t, nil, err
	}
	return t, f.data[t.offset : t.offset+t.size], nil
}

func (f *File) read(t Tensor, n, grain int, decode func(lo, hi int)) error {
	if err := file.Parallel(n, grain, decode); err != nil {
		return fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	return nil
}

// Readable returns nil if ReadF32 knows the tensor's type, else an error that names both.
func (t Tensor) Readable() error {
	if !t.Type.readable() {
		return fmt.Errorf("tensor %q is of type %v, which is not supported: use a file in F32, F16, BF16, Q8_0, Q4_0 or Q4_1",
			t.Name, t.Type)
	}
	return nil
}

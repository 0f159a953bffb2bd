// Package safetensors reads and writes Hugging Face's weight format: a JSON header that names tensors with their types,
// shapes and places, then their bytes. Source: the format section of the README of huggingface/safetensors, and
// the checks of its Rust implementation.
//
// A model is one file, or several (shards) with an index, model.safetensors.index.json. [Open] takes either; it maps the
// files and checks all of their structure, so that what it returns can be used without further checks. [Write] makes one
// file, or shards with their index, from a function that gives one tensor at a time.
package safetensors

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-8780d58e/spin/pkg/file"
	"github.com/seed-8780d58e/spin/pkg/half"
)

// A Model is an open model. Its methods may be called by several goroutines at once, except Close.
type Model struct {
	tensors map[string]Tensor
	shards  []*shard
}

// A Tensor says what a model holds under a name.
type Tensor struct {
	Name  string
	DType DType
	Shape []int // outermost dimension first; empty for a scalar

	shard       *shard
	begin, size int // in shard.data
}

// Len is the number of elements.
func (t Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// A shard is one open file.
type shard struct {
	path    string
	mapping *file.Mapping // nil: parsed from memory
	data    []byte        // what follows the header
}

// Open opens one file, or, where path ends in .index.json, all files that this index names, which lie beside it.
func Open(path string) (*Model, error) {
	m := &Model{tensors: make(map[string]Tensor)}
	var err error
	if strings.HasSuffix(path, ".index.json") {
		err = m.addIndex(path)
	} else {
		err = m.addShard(path)
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// OpenFiles opens several files as one model.
func OpenFiles(paths ...string) (*Model, error) {
	m := &Model{tensors: make(map[string]Tensor)}
	for _, path := range paths {
		if err := m.addShard(path); err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	return m, nil
}

// addIndex opens all shards. Their headers are the truth, as in transformers: a tensor that the index leaves out is taken
// too, and one that is not where the index says is an error.
func (m *Model) addIndex(path string) error {
	index, err := readIndex(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	for _, name := range slices.Compact(slices.Sorted(maps.Values(index))) {
		if err := m.addShard(filepath.Join(filepath.Dir(path), name)); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(index)) {
		t, ok := m.tensors[name]
		if !ok || filepath.Base(t.shard.path) != index[name] {
			return fmt.Errorf("read %s: it says that tensor %q is in %s, which does not have it", path, name, index[name])
		}
	}
	return nil
}

func (m *Model) addShard(path string) error {
	mapping, err := file.Map(path)
	if err != nil {
		return err
	}
	s := &shard{path: path, mapping: mapping}
	m.shards = append(m.shards, s)
	var tensors []Tensor
	var parseErr error
	if err := file.Parallel(1, 1, func(int, int) { tensors, parseErr = s.parse(mapping.Bytes()) }); err != nil {
		parseErr = err
	}
	if parseErr != nil {
		return fmt.Errorf("read %s: %w", path, parseErr)
	}
	for _, t := range tensors {
		if other, ok := m.tensors[t.Name]; ok {
			return fmt.Errorf("tensor %q is in both %s and %s", t.Name, other.shard.path, path)
		}
		m.tensors[t.Name] = t
	}
	return nil
}

// Close unmaps all files.
func (m *Model) Close() error {
	var errs []error
	for _, s := range m.shards {
		s.data = nil
		if s.mapping != nil {
			errs = append(errs, s.mapping.Close())
		}
	}
	return errors.Join(errs...)
}

// Names returns the names of all tensors, sorted.
func (m *Model) Names() []string { return slices.Sorted(maps.Keys(m.tensors)) }

// Tensor finds a tensor by name.
func (m *Model) Tensor(name string) (Tensor, bool) {
	t, ok := m.tensors[name]
	return t, ok
}

// Path returns the file that a tensor is in, for messages.
func (t Tensor) Path() string { return t.shard.path }

// Readable returns nil if ReadF32 knows the tensor's type, else an error that names both.
func (t Tensor) Readable() error {
	switch t.DType {
	case F32, F16, BF16:
		return nil
	}
	return fmt.Errorf("tensor %q is of type %s, which is not supported: use a file in F32, F16 or BF16", t.Name, t.DType)
}

// grain is how many elements one goroutine decodes at a time.
const grain = 1 << 17

// ReadF32 reads a tensor into dst, row-major; len(dst) must be its number of elements.
func (m *Model) ReadF32(name string, dst []float32) error {
	t, ok := m.tensors[name]
	switch {
	case !ok:
		return fmt.Errorf("no tensor %q", name)
	case len(dst) != t.Len():
		return fmt.Errorf("tensor %q has shape %v: %d elements, not %d", name, t.Shape, t.Len(), len(dst))
	case t.shard.data == nil:
		return fmt.Errorf("tensor %q: %w", name, file.ErrClosed)
	}
	if err := t.Readable(); err != nil {
		return err
	}
	raw, width := t.shard.data[t.begin:t.begin+t.size], t.DType.width()
	decode := half.DecodeF32
	switch t.DType {
	case F16:
		decode = half.DecodeF16
	case BF16:
		decode = half.DecodeBF16
	}
	err := file.Parallel(len(dst), grain, func(lo, hi int) { decode(dst[lo:hi], raw[lo*width:hi*width]) })
	if err != nil {
		return fmt.Errorf("tensor %q in %s: %w", name, t.shard.path, err)
	}
	return nil
}

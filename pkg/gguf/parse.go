package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Limits of the format (docs/gguf.md, ggml.h). Everything else is bounded by the size of the file: memory for what is
// read is within a small factor of the bytes that it is read from.
const (
	magic            = "GGUF"
	maxKey           = 1<<16 - 1
	maxName          = 64
	maxDims          = 4
	maxArrayDepth    = 4
	defaultAlignment = 32
	maxAlignment     = 1 << 20
	maxHeader        = 1 << 28 // bytes before the weights; large vocabularies take 2^24
)

var errShort = errors.New("file is truncated")

// parse reads everything before the weights, and checks that the weights are where it says. The File keeps data.
func parse(data []byte) (*File, error) {
	r := &reader{data: data[:min(len(data), maxHeader)], total: len(data)}
	f, err := r.file()
	if errors.Is(err, errShort) && len(data) > maxHeader {
		err = fmt.Errorf("%w (at most %d bytes may precede the weights)", err, maxHeader)
	}
	if err != nil {
		return nil, err
	}
	alignment, err := f.alignment()
	if err != nil {
		return nil, err
	}
	start := min((r.pos+alignment-1)/alignment*alignment, len(data))
	f.data = data[start:]
	if err := f.checkPlaces(alignment); err != nil {
		return nil, err
	}
	return f, nil
}

// file reads everything but the weights.
func (r *reader) file() (*File, error) {
	tensors, pairs, err := r.header()
	if err != nil {
		return nil, err
	}
	f := &File{Metadata: &Metadata{values: make(map[string]any)}}
	for i := range pairs {
		if err := r.pair(f.Metadata); err != nil {
			return nil, fmt.Errorf("metadata pair %d of %d at byte %d: %w", i+1, pairs, r.pos, err)
		}
	}
	f.index = make(map[string]int)
	for i := range tensors {
		t, err := r.tensor()
		if err != nil {
			return nil, fmt.Errorf("tensor %d of %d at byte %d: %w", i+1, tensors, r.pos, err)
		}
		if _, ok := f.index[t.Name]; ok {
			return nil, fmt.Errorf("tensor %q is there twice", t.Name)
		}
		f.index[t.Name] = len(f.tensors)
		f.tensors = append(f.tensors, t)
	}
	return f, nil
}

func (f *File) alignment() (int, error) {
	const key = "general.alignment"
	a, err := f.Metadata.Int(key)
	switch {
	case errors.Is(err, ErrNoKey):
		return defaultAlignment, nil
	case err != nil:
		return 0, err
	case a <= 0 || a > maxAlignment || a&(a-1) != 0:
		return 0, fmt.Errorf("metadata %q is %d: it must be a power of two up to %d", key, a, maxAlignment)
	}
	return a, nil
}

// checkPlaces checks that all tensors lie within the file, aligned, and none over another.
func (f *File) checkPlaces(alignment int) error {
	order := slices.SortedFunc(slices.Values(f.tensors), func(a, b Tensor) int { return a.offset - b.offset })
	end, before := 0, ""
	for _, t := range order {
		if t.offset%alignment != 0 {
			return fmt.Errorf("tensor %q is at offset %d, not a multiple of the alignment %d", t.Name, t.offset, alignment)
		}
		if t.offset < end {
			return fmt.Errorf("tensors %q and %q overlap", before, t.Name)
		}
		if t.offset > len(f.data) || t.size > len(f.data)-t.offset {
			return fmt.Errorf("tensor %q: %w: it needs %d bytes from offset %d, and there are %d bytes of weights",
				t.Name, errShort, t.size, t.offset, len(f.data))
		}
		end, before = t.offset+t.size, t.Name
	}
	return nil
}

// A reader takes values off the front of data. Its errors do not say where: pos does.
type reader struct {
	data  []byte
	pos   int
	total int // bytes of the whole file
}

func (r *reader) left() int { return len(r.data) - r.pos }

func (r *reader) take(n uint64) ([]byte, error) {
	if n > uint64(r.left()) {
		return nil, errShort
	}
	b := r.data[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b, nil
}

func (r *reader) uint32() (uint32, error) {
	b, err := r.take(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (r *reader) uint64() (uint64, error) {
	b, err := r.take(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

func (r *reader) string() (string, error) {
	n, err := r.uint64()
	if err != nil {
		return "", err
	}
	if n > uint64(r.left()) {
		return "", fmt.Errorf("a string of %d bytes: %w: %d are left", n, errShort, r.left())
	}
	b, err := r.take(n)
	return string(b), err
}

// header: magic, version, number of tensors, number of pairs.
func (r *reader) header() (tensors, pairs uint64, err error) {
	if !bytes.HasPrefix(r.data, []byte(magic)) {
		return 0, 0, errors.New(`not a GGUF file: it does not start with "GGUF"`)
	}
	r.pos = len(magic)
	version, err := r.uint32()
	if err != nil {
		return 0, 0, err
	}
	switch {
	case version == 2<<24 || version == 3<<24:
		return 0, 0, errors.New("big-endian GGUF is not supported")
	case version != 2 && version != 3:
		return 0, 0, fmt.Errorf("GGUF version %d is not supported: 2 and 3 are", version)
	}
	if tensors, err = r.uint64(); err != nil {
		return 0, 0, err
	}
	if pairs, err = r.uint64(); err != nil {
		return 0, 0, err
	}
	// A pair takes at least 13 bytes and a tensor's entry at least 32.
	if pairs > uint64(r.left())/13 || tensors > uint64(r.left())/32 {
		return 0, 0, fmt.Errorf("%d metadata pairs and %d tensors: %w: they do not fit in %d bytes", pairs, tensors, errShort, r.left())
	}
	return tensors, pairs, nil
}

func (r *reader) pair(m *Metadata) error {
	key, err := r.string()
	if err != nil {
		return err
	}
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("a key of %d bytes: it must have 1 to %d", len(key), maxKey)
	}
	if m.Has(key) {
		return fmt.Errorf("key %q is there twice", key)
	}
	kind, err := r.uint32()
	if err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	value, err := r.value(valueType(kind))
	if err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	m.Set(key, value)
	return nil
}

// tensor: name, number of dimensions, dimensions innermost first, type, offset.
func (r *reader) tensor() (t Tensor, err error) {
	if t.Name, err = r.string(); err != nil {
		return t, err
	}
	if t.Name == "" || len(t.Name) > maxName {
		return t, fmt.Errorf("a name of %d bytes: it must have 1 to %d", len(t.Name), maxName)
	}
	dims, err := r.uint32()
	if err != nil {
		return t, fmt.Errorf("%q: %w", t.Name, err)
	}
	if dims < 1 || dims > maxDims {
		return t, fmt.Errorf("%q has %d dimensions: it must have 1 to %d", t.Name, dims, maxDims)
	}
	elements := uint64(1)
	for range dims {
		d, err := r.uint64()
		if err != nil {
			return t, fmt.Errorf("%q: %w", t.Name, err)
		}
		if d == 0 || d > math.MaxInt64/8/elements { // 8: no element takes more bytes
			return t, fmt.Errorf("%q: dimension %d, or the product of all, is out of range", t.Name, d)
		}
		elements *= d
		t.Shape = append(t.Shape, int(d))
	}
	kind, err := r.uint32()
	if err != nil {
		return t, fmt.Errorf("%q: %w", t.Name, err)
	}
	t.Type = Type(kind)
	l, ok := t.Type.layout()
	if !ok {
		return t, fmt.Errorf("%q is of an unknown type, %v", t.Name, t.Type)
	}
	if t.Shape[0]%l.block != 0 {
		return t, fmt.Errorf("%q: rows of %d elements are not whole blocks of %v, which hold %d", t.Name, t.Shape[0], t.Type, l.block)
	}
	slices.Reverse(t.Shape)
	t.size = int(elements) / l.block * l.size
	offset, err := r.uint64()
	if err != nil {
		return t, fmt.Errorf("%q: %w", t.Name, err)
	}
	if offset > uint64(r.total) {
		return t, fmt.Errorf("%q: %w: it starts at offset %d of the weights, and the whole file has %d bytes", t.Name, errShort, offset, r.total)
	}
	t.offset = int(offset)
	return t, nil
}

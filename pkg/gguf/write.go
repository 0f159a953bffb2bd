package gguf

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/file"
)

// Write makes a GGUF version 3 file. Tensors need Name, Type (F32, F16, BF16 or Q8_0) and Shape; they are written in the
// order given, and read is called for each in turn to fill dst, row-major. The file appears at path when it is complete:
// after an error path is as it was. A value that becomes infinite in the tensor's type is an error.
func Write(path string, m *Metadata, tensors []Tensor, read func(name string, dst []float32) error) error {
	header, err := encodeHeader(m, tensors)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	w, err := file.Create(path)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(header); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	var values []float32
	for _, t := range tensors {
		values = slices.Grow(values[:0], t.Len())[:t.Len()]
		if err := read(t.Name, values); err != nil {
			return fmt.Errorf("write %s: tensor %q: %w", path, t.Name, err)
		}
		if err := writeTensor(w, t, values); err != nil {
			return fmt.Errorf("write %s: tensor %q: %w", path, t.Name, err)
		}
	}
	return w.Commit()
}

// encodeHeader returns everything before the weights, padding included.
func encodeHeader(m *Metadata, tensors []Tensor) ([]byte, error) {
	const key = "general.alignment"
	if m.Has(key) {
		if a, err := m.Int(key); err != nil || a != defaultAlignment {
			return nil, fmt.Errorf("metadata %q: files are written with an alignment of %d", key, defaultAlignment)
		}
	}
	le := binary.LittleEndian
	b := le.AppendUint32([]byte(magic), 3)
	b = le.AppendUint64(b, uint64(len(tensors)))
	b = le.AppendUint64(b, uint64(len(m.keys)))
	for _, key := range m.keys {
		var err error
		if b, err = appendValue(appendString(b, key), m.values[key]); err != nil {
			return nil, fmt.Errorf("metadata %q: %w", key, err)
		}
	}
	seen := make(map[string]bool)
	offset := uint64(0)
	for _, t := range tensors {
		if err := t.check(); err != nil {
			return nil, err
		}
		if seen[t.Name] {
			return nil, fmt.Errorf("tensor %q is there twice", t.Name)
		}
		seen[t.Name] = true
		b = appendString(b, t.Name)
		b = le.AppendUint32(b, uint32(len(t.Shape)))
		for _, d := range slices.Backward(t.Shape) {
			b = le.AppendUint64(b, uint64(d))
		}
		b = le.AppendUint32(b, uint32(t.Type))
		b = le.AppendUint64(b, offset)
		block, size := t.Type.Block()
		offset += uint64(padded(t.Len() / block * size))
	}
	return append(b, make([]byte, padded(len(b))-len(b))...), nil
}

// check says whether a tensor can be written.
func (t Tensor) check() error {
	if t.Name == "" || len(t.Name) > maxName {
		return fmt.Errorf("tensor %q: a name must have 1 to %d bytes", t.Name, maxName)
	}
	if len(t.Shape) < 1 || len(t.Shape) > maxDims || slices.Min(t.Shape) < 1 {
		return fmt.Errorf("tensor %q: shape %v must have 1 to %d dimensions of at least 1", t.Name, t.Shape, maxDims)
	}
	if !t.Type.writable() {
		return fmt.Errorf("tensor %q: type %v cannot be written: F32, F16, BF16 and Q8_0 can", t.Name, t.Type)
	}
	if block, _ := t.Type.Block(); t.Shape[len(t.Shape)-1]%block != 0 {
		return fmt.Errorf("tensor %q: rows of shape %v are not whole blocks of %v, which hold %d", t.Name, t.Shape, t.Type, block)
	}
	return nil
}

func writeTensor(w io.Writer, t Tensor, values []float32) error {
	limit := t.Type.limit()
	var buf []byte
	written := 0
	for len(values) > 0 {
		part := values[:min(len(values), grain)]
		values = values[len(part):]
		for _, v := range part {
			a := math.Abs(float64(v))
			special := math.IsInf(a, 0) || math.IsNaN(a)
			if a >= limit && !special || special && t.Type == Q8_0 {
				return fmt.Errorf("value %g cannot be stored in %v", v, t.Type)
			}
		}
		buf = t.Type.appendEncoded(buf[:0], part)
		if _, err := w.Write(buf); err != nil {
			return err
		}
		written += len(buf)
	}
	_, err := w.Write(make([]byte, padded(written)-written))
	return err
}

// limit is the smallest magnitude that rounds to infinity in the type.
func (t Type) limit() float64 {
	switch t {
	case F16:
		return 65520
	case BF16:
		return 0x1.ffp127
	case Q8_0:
		return 65520 * 127 // the block's scale is F16
	}
	return math.Inf(1)
}

func padded(n int) int { return (n + defaultAlignment - 1) / defaultAlignment * defaultAlignment }

package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/file"
)

// DType is the name of an element type.
type DType string

// The types whose elements can be read and written.
const (
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
)

// width is the bytes of an element; 0 for types that are not whole bytes or not known.
func (d DType) width() int {
	switch d {
	case "BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ":
		return 1
	case "U16", "I16", F16, BF16:
		return 2
	case "U32", "I32", F32:
		return 4
	case "U64", "I64", "F64", "C64":
		return 8
	}
	return 0
}

// Limits: maxHeader is the format's own; the others are far above what models use.
const (
	maxHeader = 100_000_000
	maxIndex  = 100_000_000
	maxDims   = 16
)

// parse reads the header, and checks what the format demands: the tensors follow each other without holes up to the end
// of the file, and each takes the bytes that its type and shape need.
func (s *shard) parse(data []byte) ([]Tensor, error) {
	if len(data) < 8 {
		return nil, fmt.Errorf("file is truncated: %d bytes, and the header's length alone takes 8", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	switch {
	case n > maxHeader:
		return nil, fmt.Errorf("a header of %d bytes: at most %d are allowed (is it a safetensors file?)", n, maxHeader)
	case n > uint64(len(data)-8):
		return nil, fmt.Errorf("file is truncated: a header of %d bytes, and %d bytes follow", n, len(data)-8)
	}
	header := data[8 : 8+n]
	s.data = data[8+n:]
	tensors, err := parseHeader(header)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	slices.SortFunc(tensors, func(a, b Tensor) int {
		if a.begin != b.begin {
			return a.begin - b.begin
		}
		return a.size - b.size // empty ones first
	})
	end := 0
	for i := range tensors {
		t := &tensors[i]
		t.shard = s
		if t.begin != end {
			return nil, fmt.Errorf("tensor %q begins at byte %d of the data, and what precedes it ends at %d", t.Name, t.begin, end)
		}
		end += t.size
		if end > len(s.data) {
			return nil, fmt.Errorf("file is truncated: tensor %q ends at byte %d of the data, which has %d", t.Name, end, len(s.data))
		}
	}
	if end != len(s.data) {
		return nil, fmt.Errorf("%d bytes of data belong to no tensor", len(s.data)-end)
	}
	return tensors, nil
}

// parseHeader decodes the JSON object; names may not repeat, which encoding/json alone would not notice.
func parseHeader(header []byte) ([]Tensor, error) {
	d := json.NewDecoder(bytes.NewReader(header))
	if open, err := d.Token(); err != nil || open != json.Delim('{') || header[0] != '{' {
		return nil, errors.New("not a JSON object")
	}
	var tensors []Tensor
	seen := make(map[string]bool)
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, clean(err)
		}
		name := key.(string) // the decoder lets nothing else stand here
		if seen[name] {
			return nil, fmt.Errorf("%q is there twice", name)
		}
		seen[name] = true
		if name == "__metadata__" {
			var metadata map[string]string
			if err := d.Decode(&metadata); err != nil {
				return nil, fmt.Errorf("__metadata__: %w", clean(err))
			}
			continue
		}
		t, err := parseEntry(d)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		t.Name = name
		tensors = append(tensors, t)
	}
	if _, err := d.Token(); err != nil {
		return nil, clean(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON object")
	}
	return tensors, nil
}

func parseEntry(d *json.Decoder) (Tensor, error) {
	var e struct {
		DType   DType   `json:"dtype"`
		Shape   []int   `json:"shape"`
		Offsets []int64 `json:"data_offsets"`
	}
	if err := d.Decode(&e); err != nil {
		return Tensor{}, clean(err)
	}
	width := e.DType.width()
	if width == 0 {
		return Tensor{}, fmt.Errorf("unknown dtype %q", e.DType)
	}
	if e.Shape == nil || len(e.Shape) > maxDims {
		return Tensor{}, fmt.Errorf("shape is missing or has more than %d dimensions", maxDims)
	}
	if len(e.Offsets) != 2 || e.Offsets[0] < 0 || e.Offsets[1] < e.Offsets[0] || e.Offsets[1] > math.MaxInt {
		return Tensor{}, fmt.Errorf("data_offsets %v must be [begin, end]", e.Offsets)
	}
	size := int64(width)
	for _, dim := range e.Shape {
		if dim < 0 || dim > 0 && size > math.MaxInt64/int64(dim) {
			return Tensor{}, fmt.Errorf("shape %v is out of range", e.Shape)
		}
		size *= int64(dim)
	}
	if size != e.Offsets[1]-e.Offsets[0] {
		return Tensor{}, fmt.Errorf("%s of shape %v takes %d bytes, and data_offsets %v give %d",
			e.DType, e.Shape, size, e.Offsets, e.Offsets[1]-e.Offsets[0])
	}
	return Tensor{DType: e.DType, Shape: e.Shape, begin: int(e.Offsets[0]), size: int(size)}, nil
}

// clean gives an early end its right name.
func clean(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("the JSON ends early")
	}
	return err
}

// readIndex reads the weight_map of an index: which file each tensor is in.
func readIndex(path string) (map[string]string, error) {
	data, err := file.ReadAll(path, maxIndex)
	if err != nil {
		return nil, err
	}
	return parseIndex(data)
}

func parseIndex(data []byte) (map[string]string, error) {
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, err
	}
	if len(index.WeightMap) == 0 {
		return nil, errors.New(`no "weight_map"`)
	}
	for name, shard := range index.WeightMap {
		if !filepath.IsLocal(shard) || filepath.Base(shard) != shard || shard == "." {
			return nil, fmt.Errorf("weight_map: tensor %q is in %q, which is not a file name beside the index", name, shard)
		}
	}
	return index.WeightMap, nil
}

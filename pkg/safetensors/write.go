package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/file"
	"github.com/seed-8780d58e/spin/pkg/half"
)

// DefaultShard is how large a file gets before another is begun: 1 GiB of weights, so that a shard is a handy unit to
// copy and to check.
const DefaultShard = 1 << 30

// Options of Write. The zero value is ready to use.
type Options struct {
	Name          string // base name of the files; "model" if empty
	MaxShardBytes int64  // DefaultShard if 0; a larger tensor has a shard of its own
}

// Write writes tensors, which need Name, DType (F32, F16 or BF16) and Shape, into the folder dir, in the order given:
// NAME.safetensors, or NAME-00001-of-0000N.safetensors and so on with NAME.safetensors.index.json. read is called for each
// tensor in turn to fill dst, row-major. Each file appears when it is complete, the index last; to have all or
// nothing, write into a [file.Dir]. A value that becomes infinite in the tensor's type is an error.
func Write(dir string, tensors []Tensor, o Options, read func(name string, dst []float32) error) error {
	if o.Name == "" {
		o.Name = "model"
	}
	if o.MaxShardBytes == 0 {
		o.MaxShardBytes = DefaultShard
	}
	tensors = slices.Clone(tensors)
	seen := make(map[string]bool)
	total := int64(0)
	for i := range tensors {
		t := &tensors[i]
		if err := t.Readable(); err != nil {
			return fmt.Errorf("tensor %q cannot be written as %q: use F32, F16 or BF16", t.Name, t.DType)
		}
		if t.Name == "" || t.Name == "__metadata__" || seen[t.Name] {
			return fmt.Errorf("tensor name %q is reserved, empty or there twice", t.Name)
		}
		seen[t.Name] = true
		t.size = t.Len() * t.DType.width()
		total += int64(t.size)
	}
	shards := split(tensors, o.MaxShardBytes)
	weightMap := make(map[string]string)
	for i, shard := range shards {
		name := o.Name + ".safetensors"
		if len(shards) > 1 {
			name = fmt.Sprintf("%s-%05d-of-%05d.safetensors", o.Name, i+1, len(shards))
		}
		if err := writeShard(filepath.Join(dir, name), shard, read); err != nil {
			return err
		}
		for _, t := range shard {
			weightMap[t.Name] = name
		}
	}
	if len(shards) == 1 {
		return nil
	}
	return writeIndex(filepath.Join(dir, o.Name+".safetensors.index.json"), total, weightMap)
}

// split cuts tensors into runs of at most limit bytes, or one tensor.
func split(tensors []Tensor, limit int64) [][]Tensor {
	var shards [][]Tensor
	begin, bytes := 0, int64(0)
	for i, t := range tensors {
		if i > begin && bytes+int64(t.size) > limit {
			shards = append(shards, tensors[begin:i])
			begin, bytes = i, 0
		}
		bytes += int64(t.size)
	}
	return append(shards, tensors[begin:])
}

func writeShard(path string, tensors []Tensor, read func(name string, dst []float32) error) error {
	w, err := file.Create(path)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := Encode(w, tensors, nil, read); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return w.Commit()
}

// Encode writes one file to w, for callers with storage of their own: the tensors as in Write, and metadata beside the format. Nothing is held in
// memory but one tensor.
func Encode(w io.Writer, tensors []Tensor, metadata map[string]string, read func(name string, dst []float32) error) error {
	header, err := encodeHeader(tensors, metadata)
	if err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	var values []float32
	for _, t := range tensors {
		values = slices.Grow(values[:0], t.Len())[:t.Len()]
		if err := read(t.Name, values); err != nil {
			return fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if err := writeTensor(w, t, values); err != nil {
			return fmt.Errorf("tensor %q: %w", t.Name, err)
		}
	}
	return nil
}

// encodeHeader returns the header with its length before it, padded so that the data is aligned to 8 bytes.
func encodeHeader(tensors []Tensor, metadata map[string]string) ([]byte, error) {
	all := map[string]string{"format": "pt"}
	maps.Copy(all, metadata)
	meta, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"__metadata__":%s`, meta)
	offset := 0
	for _, t := range tensors {
		size := t.Len() * t.DType.width()
		name, err := json.Marshal(t.Name)
		if err != nil {
			return nil, err
		}
		shape, err := json.Marshal(append([]int{}, t.Shape...)) // [] for a scalar, not null
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, `,%s:{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}`, name, t.DType, shape, offset, offset+size)
		offset += size
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len() > maxHeader {
		return nil, fmt.Errorf("a header of %d bytes: at most %d are allowed", b.Len(), maxHeader)
	}
	return append(binary.LittleEndian.AppendUint64(nil, uint64(b.Len())), b.Bytes()...), nil
}

func writeTensor(w io.Writer, t Tensor, values []float32) error {
	encode, limit := half.AppendF32, math.Inf(1)
	switch t.DType {
	case F16:
		encode, limit = half.AppendF16, 65520
	case BF16:
		encode, limit = half.AppendBF16, 0x1.ffp127
	}
	var buf []byte
	for len(values) > 0 {
		part := values[:min(len(values), grain)]
		values = values[len(part):]
		for i := 0; i < len(part) && t.DType != F32; i++ {
			if a := math.Abs(float64(part[i])); a >= limit && !math.IsInf(a, 0) {
				return fmt.Errorf("value %g cannot be stored in %s", part[i], t.DType)
			}
		}
		buf = encode(buf[:0], part)
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

func writeIndex(path string, total int64, weightMap map[string]string) error {
	index := struct {
		Metadata  map[string]int64  `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}{map[string]int64{"total_size": total}, weightMap}
	data, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	w, err := file.Create(path)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return w.Commit()
}

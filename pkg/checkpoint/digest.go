package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/half"
)

// Digest returns weights_sha256, the identity of a model's weights, as 64 hexadecimal digits. It is the SHA-256 of, for
// each weight in ascending order of its name's bytes, all integers little-endian:
//
//	length of the name   uint32
//	name                 its bytes
//	number of dimensions uint32
//	each dimension       uint64, outermost first
//	elements             IEEE 754 binary32, row-major in Hugging Face's layout
//
// Nothing else is in it: not the file format, not the stored type, not config.json. A quantised model has the digest of
// what it is dequantised to. One weight at a time is held in memory.
func Digest(s Source) (string, error) {
	h := sha256.New()
	var values []float32
	var buf []byte
	for _, name := range slices.Sorted(slices.Values(s.Names())) {
		shape, ok := s.Shape(name)
		if !ok {
			return "", fmt.Errorf("digest: no weight %q", name)
		}
		buf = binary.LittleEndian.AppendUint32(buf[:0], uint32(len(name)))
		buf = append(buf, name...)
		buf = binary.LittleEndian.AppendUint32(buf, uint32(len(shape)))
		n := 1
		for _, d := range shape {
			buf = binary.LittleEndian.AppendUint64(buf, uint64(d))
			n *= d
		}
		h.Write(buf)
		values = slices.Grow(values[:0], n)[:n]
		if err := s.ReadF32(name, values); err != nil {
			return "", fmt.Errorf("digest: %w", err)
		}
		for part := range slices.Chunk(values, 1<<16) {
			buf = half.AppendF32(buf[:0], part)
			h.Write(buf)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

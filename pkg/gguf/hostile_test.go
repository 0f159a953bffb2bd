package gguf

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// A builder writes GGUF bytes without checking that they make sense.
type builder struct{ bytes.Buffer }

func (b *builder) u32(v uint32) *builder {
	b.Write(binary.LittleEndian.AppendUint32(nil, v))
	return b
}

func (b *builder) u64(v uint64) *builder {
	b.Write(binary.LittleEndian.AppendUint64(nil, v))
	return b
}

func (b *builder) str(s string) *builder {
	b.u64(uint64(len(s))).WriteString(s)
	return b
}

func (b *builder) zeros(n int) *builder {
	b.Write(make([]byte, n))
	return b
}

func head(version uint32, tensors, pairs uint64) *builder {
	b := &builder{}
	b.WriteString(magic)
	return b.u32(version).u64(tensors).u64(pairs)
}

// weight is a tensor's entry; dims are innermost first.
func (b *builder) weight(name string, t Type, offset uint64, dims ...uint64) *builder {
	b.str(name).u32(uint32(len(dims)))
	for _, d := range dims {
		b.u64(d)
	}
	return b.u32(uint32(t)).u64(offset)
}

func TestHostile(t *testing.T) {
	const many = 1 << 60
	cases := []struct {
		name, want string
		file       *builder
	}{
		{"empty", `does not start with "GGUF"`, &builder{}},
		{"other format", `does not start with "GGUF"`, (&builder{}).str("safetensors")},
		{"magic only", "truncated", (&builder{}).u32(binary.LittleEndian.Uint32([]byte(magic)))},
		{"version 1", "version 1 is not supported: 2 and 3 are", head(1, 0, 0)},
		{"big-endian", "big-endian", head(3<<24, 0, 0)},
		{"too many pairs", "do not fit", head(3, 0, many).zeros(100)},
		{"too many tensors", "do not fit", head(3, many, 0).zeros(100)},
		{"long key", "a string of 1152921504606846976 bytes", head(3, 0, 1).u64(many).zeros(100)},
		{"empty key", "a key of 0 bytes", head(3, 0, 1).str("").zeros(100)},
		{"unknown value type", "unknown type 13", head(3, 0, 1).str("k").u32(13).zeros(100)},
		{"bool of 2", "a bool is 2", head(3, 0, 1).str("k").u32(7).u32(2).zeros(20)},
		{"key twice", `key "k" is there twice`, head(3, 0, 2).str("k").u32(0).zeros(1).str("k").u32(0).zeros(20)},
		{"long string", "a string of 1152921504606846976 bytes", head(3, 0, 1).str("k").u32(8).u64(many).zeros(20)},
		{"long array", "an array of 1152921504606846976 elements", head(3, 0, 1).str("k").u32(9).u32(8).u64(many).zeros(20)},
		{"array of nothing known", "array of unknown type 99", head(3, 0, 1).str("k").u32(9).u32(99).u64(0).zeros(20)},
		{"deep arrays", "more than 4 deep", head(3, 0, 1).str("k").u32(9).u32(9).u64(1).u32(9).u64(1).u32(9).u64(1).u32(9).u64(1).zeros(20)},
		{"alignment 3", "must be a power of two", head(3, 0, 1).str("general.alignment").u32(4).u32(3)},
		{"alignment text", "not an integer", head(3, 0, 1).str("general.alignment").u32(8).str("x")},
		{"no dimensions", "has 0 dimensions", head(3, 1, 0).weight("w", F32, 0).zeros(100)},
		{"5 dimensions", "has 5 dimensions", head(3, 1, 0).weight("w", F32, 0, 1, 1, 1, 1, 1).zeros(100)},
		{"dimension 0", "out of range", head(3, 1, 0).weight("w", F32, 0, 0, 4).zeros(100)},
		{"overflow", "out of range", head(3, 1, 0).weight("w", F32, 0, 1<<32, 1<<32).zeros(100)},
		{"unknown tensor type", "unknown type, number 77", head(3, 1, 0).weight("w", 77, 0, 4).zeros(100)},
		{"half a block", "not whole blocks of Q4_1", head(3, 1, 0).weight("w", Q4_1, 0, 48).zeros(100)},
		{"unaligned", "not a multiple of the alignment 32", head(3, 1, 0).weight("w", F32, 4, 4).zeros(100)},
		{"offset beyond", "whole file has", head(3, 1, 0).weight("w", F32, many, 4).zeros(100)},
		{"larger than the file", "needs 4096 bytes from offset 0", head(3, 1, 0).weight("w", F32, 0, 1024).zeros(100)},
		{"overlap", `tensors "a" and "b" overlap`, head(3, 2, 0).weight("a", F32, 0, 16).weight("b", F32, 32, 4).zeros(200)},
		{"tensor twice", `"a" is there twice`, head(3, 2, 0).weight("a", F32, 0, 8).weight("a", F32, 32, 4).zeros(200)},
		{"long name", "a name of 65 bytes", head(3, 1, 0).weight(strings.Repeat("n", 65), F32, 0, 4).zeros(100)},
	}
	dir := t.TempDir()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, "x.gguf")
			if err := os.WriteFile(path, c.file.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) ||
				strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with the path and %q", err, c.want)
			}
		})
	}
}

// TestTruncated cuts a good file at every byte: each is an error, and none allocates much.
func TestTruncated(t *testing.T) {
	data, err := os.ReadFile("testdata/types.gguf")
	if err != nil {
		t.Fatal(err)
	}
	whole, err := parse(data)
	if err != nil {
		t.Fatal(err)
	}
	last := whole.tensors[len(whole.tensors)-1]
	end := len(data) - len(whole.data) + last.offset + last.size // what follows is padding
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for n := range end {
		if _, err := parse(data[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were accepted", n, len(data))
		}
	}
	runtime.ReadMemStats(&after)
	if used := (after.TotalAlloc - before.TotalAlloc) / uint64(end); used > 1<<16 {
		t.Errorf("%d bytes allocated per attempt", used)
	}
}

// TestShrunk truncates a file under its reader: an error, not a crash.
func TestShrunk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gguf")
	m := &Metadata{}
	shape := []int{512, 1024}
	err := Write(path, m, []Tensor{{Name: "w", Type: F32, Shape: shape}}, func(string, []float32) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, path)
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	err = f.ReadF32("w", make([]float32, 512*1024))
	if err == nil || !strings.Contains(err.Error(), "could not be read") {
		t.Errorf("%v", err)
	}
}

func TestNotAFile(t *testing.T) {
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("opened an absent file")
	}
}

// FuzzParse feeds bytes to the parser, and reads all that it then offers.
func FuzzParse(f *testing.F) {
	data, err := os.ReadFile("testdata/types.gguf")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(head(2, 1, 1).str("k").u32(9).u32(9).u64(1).u32(9).u64(0).weight("w", Q8_0, 0, 32).zeros(128).Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := parse(data)
		if err != nil {
			return
		}
		for _, info := range g.Tensors() {
			if info.Len() > 8*len(data) {
				t.Fatalf("%v: %d elements in a file of %d bytes", info, info.Len(), len(data))
			}
			if err := g.ReadF32(info.Name, make([]float32, info.Len())); (err == nil) != info.Type.readable() {
				t.Fatal(err)
			}
		}
		if g.Metadata.Has("general.alignment") {
			return
		}
		if _, err := encodeHeader(g.Metadata, nil); err != nil {
			t.Fatal(err)
		}
	})
}

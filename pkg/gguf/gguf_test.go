package gguf

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/half"
)

// golden is testdata/types.json, made by the gguf package of llama.cpp.
type golden struct {
	Metadata map[string]any
	Tensors  map[string]struct {
		Type  string
		Shape []int
		F32   string
	}
	Q8 string `json:"q8_0_of_source"`
}

func readGolden(t *testing.T) golden {
	t.Helper()
	var g golden
	data, err := os.ReadFile("testdata/types.json")
	if err == nil {
		err = json.Unmarshal(data, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func open(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestMetadata(t *testing.T) {
	f, want := open(t, "testdata/types.gguf"), readGolden(t)
	if got := len(f.Metadata.Keys()); got != len(want.Metadata) {
		t.Errorf("%d keys, want %d", got, len(want.Metadata))
	}
	for key, value := range want.Metadata {
		text, err := json.Marshal(f.Metadata.Value(key))
		if key == "bytes" { // which JSON would show as base64
			text, err = json.Marshal(f.Metadata.Value(key).([]uint8)[1])
			value = value.([]any)[1]
		}
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if key == "f32" { // Go prints the shortest text of a float32, Python that of the float64
			got = float64(float32(got.(float64)))
		}
		if !reflect.DeepEqual(got, value) {
			t.Errorf("%s = %v, want %v", key, got, value)
		}
	}
}

func TestGetters(t *testing.T) {
	m := open(t, "testdata/types.gguf").Metadata
	for _, key := range []string{"u8", "i8", "u16", "i16", "u32", "i32", "i64"} {
		if _, err := m.Int(key); err != nil {
			t.Error(err)
		}
		if _, err := m.Float(key); err != nil {
			t.Error(err)
		}
	}
	if f, err := m.Float("f32"); err != nil || f != float64(float32(0.1)) {
		t.Error(f, err)
	}
	if v, err := m.Ints("longs"); err != nil || !slices.Equal(v, []int{1, -(1 << 40)}) {
		t.Error(v, err)
	}
	if v, err := m.Floats("floats"); err != nil || !slices.Equal(v, []float32{0.5, -1.5}) {
		t.Error(v, err)
	}
	if v, err := m.Bool("yes"); err != nil || !v {
		t.Error(v, err)
	}
	if _, err := m.Int("absent"); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	if _, err := m.Float("absent"); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	for _, err := range []error{
		second(m.Int("u64")), // 2^63 is not an int
		second(m.Int("f32")), second(m.Float("text")), second(m.Bool("u8")), second(m.String("u8")),
		second(m.Strings("ints")), second(m.Ints("strings")), second(m.Floats("ints")),
	} {
		if err == nil || errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), " is of type ") {
			t.Error(err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestReadF32(t *testing.T) {
	f, want := open(t, "testdata/types.gguf"), readGolden(t)
	if len(f.Tensors()) != len(want.Tensors) {
		t.Errorf("%d tensors, want %d", len(f.Tensors()), len(want.Tensors))
	}
	for name, w := range want.Tensors {
		info, ok := f.Tensor(name)
		if !ok || info.Type.String() != w.Type || !slices.Equal(info.Shape, w.Shape) {
			t.Errorf("%s: %v, want %v %v", name, info, w.Type, w.Shape)
			continue
		}
		dst := make([]float32, info.Len())
		err := f.ReadF32(name, dst)
		if w.Type == "Q5_0" {
			if err == nil || !strings.Contains(err.Error(), `"q5_0" is of type Q5_0, which is not supported`) {
				t.Error(err)
			}
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		if got := hex.EncodeToString(half.AppendF32(nil, dst)); got != w.F32 {
			t.Errorf("%s: values differ from gguf's", name)
		}
		reversed := make([]float32, len(dst))
		rows := info.Shape[0]
		if name == "vector" {
			continue // rows of one element
		}
		if err := f.ReadRowsF32(name, func(i int) int { return rows - 1 - i }, reversed); err != nil {
			t.Error(err)
			continue
		}
		for i := range rows {
			n := len(dst) / rows
			if !slices.Equal(dst[i*n:(i+1)*n], reversed[(rows-1-i)*n:(rows-i)*n]) {
				t.Errorf("%s: row %d differs when read in reversed order", name, i)
			}
		}
	}
}

func TestReadF32Errors(t *testing.T) {
	f := open(t, "testdata/types.gguf")
	for _, c := range []struct {
		name string
		n    int
		want string
	}{
		{"absent", 1, `no tensor "absent"`},
		{"f32", 5, `tensor "f32" has shape [3 64]: 192 elements, not 5`},
	} {
		if err := f.ReadF32(c.name, make([]float32, c.n)); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestQuantizeQ8_0(t *testing.T) {
	f := open(t, "testdata/types.gguf")
	source := make([]float32, 192)
	if err := f.ReadF32("f32", source); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(appendQ8_0(nil, source)); got != readGolden(t).Q8 {
		t.Error("Q8_0 bytes differ from gguf's")
	}
}

func TestWrite(t *testing.T) {
	source := open(t, "testdata/types.gguf")
	source.Metadata.Set("nested", []any{[]string{"a"}, []int32{1, 2}})
	path := filepath.Join(t.TempDir(), "out.gguf")
	tensors := []Tensor{
		{Name: "vector", Type: F32, Shape: []int{64}},
		{Name: "f16", Type: F16, Shape: []int{3, 64}},
		{Name: "bf16", Type: BF16, Shape: []int{3, 64}},
		{Name: "f32", Type: Q8_0, Shape: []int{3, 64}},
		{Name: "cube", Type: F16, Shape: []int{2, 3, 32}},
	}
	if err := Write(path, source.Metadata, tensors, source.ReadF32); err != nil {
		t.Fatal(err)
	}
	got := open(t, path)
	if !reflect.DeepEqual(got.Metadata, source.Metadata) {
		t.Error("metadata differs after a round trip")
	}
	same := map[string]string{"vector": "vector", "f16": "f16", "bf16": "bf16", "f32": "q8_0"}
	for name, in := range same {
		info, _ := got.Tensor(name)
		a, b := make([]float32, info.Len()), make([]float32, info.Len())
		if err := errors.Join(got.ReadF32(name, a), source.ReadF32(in, b)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a, b) {
			t.Errorf("%s differs after a round trip", name)
		}
	}
	if info, _ := got.Tensor("cube"); !slices.Equal(info.Shape, []int{2, 3, 32}) {
		t.Error(info)
	}
}

// TestWriteFails checks that a file that could not be written leaves the folder as it was.
func TestWriteFails(t *testing.T) {
	fill := func(v float32) func(string, []float32) error {
		return func(_ string, dst []float32) error {
			for i := range dst {
				dst[i] = v
			}
			return nil
		}
	}
	one := func(t Type, shape ...int) []Tensor { return []Tensor{{Name: "w", Type: t, Shape: shape}} }
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		want    string
		tensors []Tensor
		read    func(string, []float32) error
		value   any
	}{
		{"type Q4_0 cannot be written", one(Q4_0, 32), fill(1), nil},
		{"not whole blocks of Q8_0", one(Q8_0, 2, 33), fill(1), nil},
		{"1 to 4 dimensions", one(F32), fill(1), nil},
		{"1 to 4 dimensions", one(F32, 2, 0), fill(1), nil},
		{"there twice", append(one(F32, 1), one(F32, 1)...), fill(1), nil},
		{"70000 cannot be stored in F16", one(F16, 4), fill(70000), nil},
		{"NaN cannot be stored in Q8_0", one(Q8_0, 32), fill(nan), nil},
		{"+Inf cannot be stored in Q8_0", one(Q8_0, 32), fill(inf), nil},
		{"disk on fire", one(F32, 4), func(string, []float32) error { return errors.New("disk on fire") }, nil},
		{"type complex128 cannot be stored", one(F32, 4), fill(1), 1i},
		{`"general.alignment"`, one(F32, 4), fill(1), nil},
	} {
		dir := t.TempDir()
		m := &Metadata{}
		if c.value != nil {
			m.Set("key", c.value)
		}
		if strings.Contains(c.want, "alignment") {
			m.Set("general.alignment", uint32(64))
		}
		err := Write(filepath.Join(dir, "x.gguf"), m, c.tensors, c.read)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s: left behind %v", c.want, left)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, t := range []Type{F32, F16, BF16, Q8_0, Q4_0, Q4_1} {
		b.Run(fmt.Sprint(t), func(b *testing.B) {
			block, size := t.Block()
			dst := make([]float32, 1<<16)
			src := make([]byte, len(dst)/block*size)
			b.SetBytes(int64(4 * len(dst)))
			for b.Loop() {
				t.decode(dst, src)
			}
		})
	}
}

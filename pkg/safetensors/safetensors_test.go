package safetensors

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/half"
)

func open(t *testing.T, path string) *Model {
	t.Helper()
	m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m *Model) read(t *testing.T, name string) []float32 {
	t.Helper()
	info, ok := m.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %q", name)
	}
	dst := make([]float32, info.Len())
	if err := m.ReadF32(name, dst); err != nil {
		t.Fatal(err)
	}
	return dst
}

// TestReadF32 compares with what the Python package wrote (testdata/make_golden.py).
func TestReadF32(t *testing.T) {
	m := open(t, "testdata/types.safetensors")
	var want map[string]struct {
		Shape []int
		F32   string
	}
	data, err := os.ReadFile("testdata/types.json")
	if err == nil {
		err = json.Unmarshal(data, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Names()) != len(want) {
		t.Errorf("names %v", m.Names())
	}
	for name, w := range want {
		info, ok := m.Tensor(name)
		if !ok || !slices.Equal(info.Shape, w.Shape) {
			t.Errorf("%s: %v, want shape %v", name, info, w.Shape)
			continue
		}
		if name == "ids" {
			err := m.ReadF32(name, make([]float32, 3))
			if err == nil || !strings.Contains(err.Error(), `"ids" is of type I64, which is not supported`) {
				t.Error(err)
			}
			continue
		}
		if got := hex.EncodeToString(half.AppendF32(nil, m.read(t, name))); got != w.F32 {
			t.Errorf("%s: values differ", name)
		}
	}
	for name, want := range map[string]string{"absent": `no tensor "absent"`, "f32": `tensor "f32" has shape [5 7]: 35 elements, not 1`} {
		if err := m.ReadF32(name, make([]float32, 1)); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestSameBytes writes the tensors that Python wrote, in its order: the same header and bytes come out.
func TestSameBytes(t *testing.T) {
	m := open(t, "testdata/types.safetensors")
	tensors := []Tensor{}
	for _, name := range m.Names() {
		if info, _ := m.Tensor(name); info.DType != "I64" {
			tensors = append(tensors, info)
		}
	}
	for _, limit := range []int64{0, 1, 140, 300} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			dir := t.TempDir()
			if err := Write(dir, tensors, Options{MaxShardBytes: limit}, m.ReadF32); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "model.safetensors")
			if limit != 0 {
				path += ".index.json"
			}
			got := open(t, path)
			if len(got.Names()) != len(tensors) {
				t.Errorf("names %q", got.Names())
			}
			for _, info := range tensors {
				if !slices.Equal(got.read(t, info.Name), m.read(t, info.Name)) {
					t.Errorf("%s differs after a round trip", info.Name)
				}
			}
			files, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			if want := map[int64]int{0: 1, 1: 7, 140: 4, 300: 3}[limit]; len(files) != want {
				t.Errorf("files %v, want %d", files, want)
			}
		})
	}
}

func TestWriteFails(t *testing.T) {
	fill := func(v float32) func(string, []float32) error {
		return func(_ string, dst []float32) error { dst[0] = v; return nil }
	}
	one := func(d DType, name string) []Tensor { return []Tensor{{Name: name, DType: d, Shape: []int{2}}} }
	for _, c := range []struct {
		want    string
		tensors []Tensor
		read    func(string, []float32) error
	}{
		{`cannot be written as "F64"`, one("F64", "w"), fill(1)},
		{"reserved, empty or there twice", one(F32, "__metadata__"), fill(1)},
		{"reserved, empty or there twice", append(one(F32, "w"), one(F32, "w")...), fill(1)},
		{"65520 cannot be stored in F16", one(F16, "w"), fill(65520)},
		{"cannot be stored in BF16", one(BF16, "w"), fill(math.MaxFloat32)},
		{"disk on fire", one(F32, "w"), func(string, []float32) error { return errors.New("disk on fire") }},
	} {
		dir := t.TempDir()
		err := Write(dir, c.tensors, Options{}, c.read)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s: left behind %v", c.want, left)
		}
	}
}

// contents is a file with the given header and n bytes of data.
func contents(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

func TestHostile(t *testing.T) {
	entry := func(name, dtype, shape, offsets string) string {
		return fmt.Sprintf(`"%s":{"dtype":"%s","shape":%s,"data_offsets":%s}`, name, dtype, shape, offsets)
	}
	a := entry("a", "F32", "[2]", "[0,8]")
	for _, c := range []struct {
		name, want string
		data       []byte
	}{
		{"empty", "truncated", nil},
		{"7 bytes", "truncated", make([]byte, 7)},
		{"another format", "is it a safetensors file?", []byte("GGUF\x03\x00\x00\x00abcdefg")},
		{"header beyond the file", "truncated: a header of 90 bytes", binary.LittleEndian.AppendUint64(nil, 90)},
		{"no header", "not a JSON object", contents("", 0)},
		{"array", "not a JSON object", contents("[]", 0)},
		{"white space first", "not a JSON object", contents(" {}", 0)},
		{"cut JSON", "ends early", contents("{"+a, 8)},
		{"cut JSON in a value", "ends early", contents(`{"a":{"dtype":`, 8)},
		{"two objects", "something follows", contents("{}{}", 0)},
		{"name twice", `"a" is there twice`, contents("{"+a+","+a+"}", 8)},
		{"metadata of numbers", "__metadata__", contents(`{"__metadata__":{"a":1}}`, 0)},
		{"unknown dtype", `unknown dtype "F4"`, contents("{"+entry("a", "F4", "[2]", "[0,1]")+"}", 1)},
		{"no shape", "shape is missing", contents(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, 4)},
		{"negative dimension", "out of range", contents("{"+entry("a", "F32", "[-1,-2]", "[0,8]")+"}", 8)},
		{"fractional dimension", "cannot unmarshal", contents("{"+entry("a", "F32", "[1.5]", "[0,8]")+"}", 8)},
		{"overflow", "out of range", contents("{"+entry("a", "F32", "[4611686018427387904,4]", "[0,8]")+"}", 8)},
		{"one offset", "must be [begin, end]", contents("{"+entry("a", "F32", "[2]", "[8]")+"}", 8)},
		{"offsets reversed", "must be [begin, end]", contents("{"+entry("a", "F32", "[2]", "[8,0]")+"}", 8)},
		{"negative offset", "must be [begin, end]", contents("{"+entry("a", "F32", "[2]", "[-8,0]")+"}", 8)},
		{"length differs from shape", "takes 12 bytes", contents("{"+entry("a", "F32", "[3]", "[0,8]")+"}", 8)},
		{"hole", "begins at byte 12", contents("{"+a+","+entry("b", "F32", "[1]", "[12,16]")+"}", 16)},
		{"overlap", "begins at byte 4", contents("{"+a+","+entry("b", "F32", "[2]", "[4,12]")+"}", 12)},
		{"data missing", "truncated", contents("{"+a+"}", 7)},
		{"data left over", "1 bytes of data belong to no tensor", contents("{"+a+"}", 9)},
		{"deep JSON", "exceeded max depth", contents(`{"__metadata__":`+strings.Repeat("[", 20000), 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.safetensors")
			if err := os.WriteFile(path, c.data, 0o644); err != nil {
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

func TestHostileIndex(t *testing.T) {
	dir := t.TempDir()
	header := `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`
	for _, name := range []string{"one.safetensors", "two.safetensors"} {
		if err := os.WriteFile(filepath.Join(dir, name), contents(header, 8), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for index, want := range map[string]string{
		`{"weight_map":{"a":"one.safetensors"}}`: "",
		`[]`:                                     "cannot unmarshal",
		`{}`:                                     "weight_map",
		`{"weight_map":{"a":"../one.safetensors"}}`:                    "not a file name",
		`{"weight_map":{"a":"/etc/passwd"}}`:                           "not a file name",
		`{"weight_map":{"a":"."}}`:                                     "not a file name",
		`{"weight_map":{"a":""}}`:                                      "not a file name",
		`{"weight_map":{"a":"three.safetensors"}}`:                     "three.safetensors",
		`{"weight_map":{"b":"one.safetensors"}}`:                       `"b" is in one.safetensors, which does not have it`,
		`{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}`: `tensor "a" is in both`,
	} {
		path := filepath.Join(dir, "x.index.json")
		if err := os.WriteFile(path, []byte(index), 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := Open(path)
		if want == "" {
			if err != nil {
				t.Error(err)
			} else if err := m.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want %q", index, err, want)
		}
	}
}

// FuzzParse feeds bytes to the parser, and reads all that it then offers.
func FuzzParse(f *testing.F) {
	data, err := os.ReadFile("testdata/types.safetensors")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &shard{}
		tensors, err := s.parse(data)
		if err != nil {
			return
		}
		m := &Model{tensors: make(map[string]Tensor)}
		for _, info := range tensors {
			m.tensors[info.Name] = info
			if info.Len() > len(data) {
				t.Fatalf("%v: %d elements in a file of %d bytes", info, info.Len(), len(data))
			}
			if err := m.ReadF32(info.Name, make([]float32, info.Len())); (err == nil) != (info.Readable() == nil) {
				t.Fatal(err)
			}
		}
	})
}

// FuzzIndex feeds bytes to the index parser: every file it names is beside the index.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":8},"weight_map":{"a":"model.safetensors"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		index, err := parseIndex(data)
		if err != nil {
			return
		}
		for _, name := range index {
			if dir := filepath.Dir(filepath.Join("dir", name)); dir != "dir" {
				t.Fatalf("%q", name)
			}
		}
	})
}

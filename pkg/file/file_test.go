package file

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	for _, text := range []string{"one", "two"} { // the second replaces the first
		w, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if text == "one" && names(t, dir) == "a" {
			t.Error("the file is there before Commit")
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		if err := w.Commit(); err == nil {
			t.Error("committed twice")
		}
		if got := content(t, path); got != text {
			t.Errorf("%q, want %q", got, text)
		}
	}
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if names(t, dir) != "a" || content(t, path) != "two" {
		t.Error("Abort changed the folder")
	}
}

func TestCreateDir(t *testing.T) {
	parent := t.TempDir()
	path := filepath.Join(parent, "d")
	make := func(name string, replace bool) error {
		d, err := CreateDir(path)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Abort()
		if err := d.WriteFile(name, []byte(name)); err != nil {
			t.Fatal(err)
		}
		return d.Commit(replace)
	}
	for _, c := range []struct {
		name    string
		replace bool
		want    string
	}{
		{"a", true, "a"},
		{"b", false, "a"}, // refused
		{"c", true, "c"},
	} {
		err := make(c.name, c.replace)
		if (err != nil) != (c.want != c.name) || err != nil && !strings.Contains(err.Error(), path+" exists already") {
			t.Errorf("%s: %v", c.name, err)
		}
		if names(t, parent) != "d" || names(t, path) != c.want {
			t.Errorf("%s: %s holds %q, and %s %q", c.name, parent, names(t, parent), path, names(t, path))
		}
	}
}

// TestExchangeInSteps covers file systems that cannot swap two names at once.
func TestExchangeInSteps(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, path := range []string{a, b} {
		if err := os.WriteFile(path, []byte(path), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := exchangeInSteps(a, b); err != nil {
		t.Fatal(err)
	}
	if content(t, a) != b || content(t, b) != a || names(t, dir) != "a b" {
		t.Error("names were not exchanged")
	}
}

// TestStale leaves temporary names as a killed writer does, and as a living one does.
func TestStale(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "model")
	if err := os.WriteFile(filepath.Join(dir, ".model.partial-1"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, ".model.partial-2", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	living, err := CreateDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); got != filepath.Base(living.Path()) {
		t.Errorf("%s: what a killed writer left is there", got)
	}
	other, err := CreateDir(path)
	if err != nil {
		t.Fatal(err)
	}
	other.Abort()
	if err := living.Commit(false); err != nil {
		t.Error(err)
	}
}

func TestMap(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	for _, text := range []string{"", "hello"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := Map(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Bytes()) != text {
			t.Errorf("%q, want %q", m.Bytes(), text)
		}
		if err := errors.Join(m.Close(), m.Close()); err != nil || m.Bytes() != nil {
			t.Error(err)
		}
	}
	if _, err := ReadAll(path, 4); err == nil || !strings.Contains(err.Error(), "larger than 4 bytes") {
		t.Error(err)
	}
	if data, err := ReadAll(path, 5); err != nil || string(data) != "hello" {
		t.Error(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Map(pipe); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err) // and it must not wait for a writer
	}
}

func TestParallel(t *testing.T) {
	for _, n := range []int{0, 1, 99, 100, 101, 1234} {
		seen := make([]atomic.Int32, n)
		err := Parallel(n, 100, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				seen[i].Add(1)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range seen {
			if seen[i].Load() != 1 {
				t.Fatalf("n = %d: %d was visited %d times", n, i, seen[i].Load())
			}
		}
	}
}

// TestFault reads behind the end of a file that was truncated after it was mapped.
func TestFault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(path, make([]byte, 1<<16), 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := Map(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	for _, grain := range []int{1 << 16, 1 << 12} {
		var sum atomic.Int64
		err := Parallel(1<<16, grain, func(lo, hi int) {
			for _, b := range m.Bytes()[lo:hi] {
				sum.Add(int64(b))
			}
		})
		if err == nil || !strings.Contains(err.Error(), "could not be read") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v", err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a panic that is not a fault was swallowed")
		}
	}()
	_ = Parallel(1, 1, func(int, int) { panic("bug") })
}

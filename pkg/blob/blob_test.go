package blob

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	s, err := New(filepath.Join(t.TempDir(), "blobs [1]"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A killed writer can't clean up; the next start does, once nobody can still be writing.
func TestLeftoversAreSwept(t *testing.T) {
	s := newStore(t)
	left := filepath.Join(s.scratch, "put-killed")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		age  time.Duration
		want int
	}{{0, 1}, {2 * stale, 0}} {
		if err := os.Chtimes(left, time.Time{}, time.Now().Add(-c.age)); err != nil {
			t.Fatal(err)
		}
		_, err := New(s.files.dir)
		if entries, listed := os.ReadDir(s.scratch); err != nil || listed != nil || len(entries) != c.want {
			t.Errorf("after %v: %v left, %v %v", c.age, entries, err, listed)
		}
	}
}

func TestFilesShareTheirBytes(t *testing.T) {
	s := newStore(t)
	from := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(from, []byte("weights"), 0o644); err != nil {
		t.Fatal(err)
	}
	ref, err := s.PutFile(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.PutFile(t.Context(), from); err != nil || again != ref {
		t.Errorf("again: %+v, %v", again, err)
	}
	to := filepath.Join(t.TempDir(), "b")
	if err := s.Fetch(t.Context(), ref.SHA256, to); err != nil {
		t.Fatal(err)
	}
	a, errA := os.Stat(from)
	b, errB := os.Stat(to)
	if errA != nil || errB != nil || !os.SameFile(a, b) || a.Mode().Perm() != 0o444 {
		t.Errorf("not one read-only file: %v %v %v %v", a, b, errA, errB)
	}
	if err := s.Fetch(t.Context(), ref.SHA256, to); !errors.Is(err, fs.ErrExist) {
		t.Errorf("fetched over a file: %v", err)
	}
	if err := s.download(t.Context(), ref.SHA256, to); !errors.Is(err, fs.ErrExist) {
		t.Errorf("copied over a file: %v", err)
	}
	other := filepath.Join(filepath.Dir(to), "c")
	if err := s.download(t.Context(), ref.SHA256, other); err != nil {
		t.Fatal(err)
	}
	part, err := os.Open(other)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	third := filepath.Join(filepath.Dir(to), "d") // as onto another file system
	if err := copyTo(part, third); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{other, third} {
		if text, err := os.ReadFile(path); err != nil || string(text) != "weights" {
			t.Errorf("copied %q, %v", text, err)
		}
	}
	if err := s.Delete(t.Context(), ref.SHA256); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(to); err != nil || string(text) != "weights" {
		t.Errorf("a fetched file went with its blob: %q, %v", text, err)
	}
}

func TestTreeRefuses(t *testing.T) {
	digest := strings.Repeat("0", 64)
	for _, c := range []struct {
		what  string
		files []file
	}{
		{"nothing", nil},
		{"a way out", []file{{"../x", 1, digest}}},
		{"a folder", []file{{"a/b", 1, digest}}},
		{"the folder itself", []file{{".", 1, digest}}},
		{"twice", []file{{"a", 1, digest}, {"a", 1, digest}}},
		{"no digest", []file{{"a", 1, "x"}}},
		{"a negative size", []file{{"a", -1, digest}}},
		{"too many", make([]file, maxFiles+1)},
	} {
		data, err := json.Marshal(tree{c.files})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseTree(data); err == nil {
			t.Errorf("%s: taken", c.what)
		}
	}
	s := newStore(t)
	long, err := s.Put(t.Context(), bytes.NewReader(make([]byte, maxManifest+1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.FetchTree(t.Context(), long.SHA256, t.TempDir()); err == nil {
		t.Error("a list of any length is read")
	}
	if _, err := s.PutTree(t.Context(), t.TempDir(), func(string) bool { return true }); err == nil || !strings.Contains(err.Error(), "a list of 0 files") {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestTreePath(t *testing.T) {
	for path, want := range map[string]string{TreePath("abc", "model"): "abc", "blob:abc": "abc", "/models/blob:abc": "", "model": ""} {
		if digest, ok := ParseTreePath(path); digest != want && ok || ok != (want != "") {
			t.Errorf("%s: %q, %v", path, digest, ok)
		}
	}
}

func FuzzTree(f *testing.F) {
	f.Add([]byte(`{"files":[{"name":"a.json","size":1,"sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}]}`))
	f.Add([]byte(`{"files":[{"name":"../a"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := parseTree(data)
		if err != nil {
			return
		}
		for _, file := range parsed.Files {
			if path := filepath.Join("dir", file.Name); filepath.Dir(path) != "dir" || !isDigest(file.SHA256) {
				t.Errorf("%q leads to %s", file.Name, path)
			}
		}
	})
}

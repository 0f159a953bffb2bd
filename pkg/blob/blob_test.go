package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
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

func read(s *Store, digest string) (string, error) {
	r, err := s.Get(context.Background(), digest)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

// leftovers of unfinished writes
func leftovers(t *testing.T, s *Store) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, incoming))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestPutGet(t *testing.T) {
	s := newStore(t)
	// FIPS 180-2, appendix B
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	for range 2 {
		ref, err := s.Put(t.Context(), strings.NewReader("abc"))
		if err != nil || ref != (Ref{abc, 3}) {
			t.Fatalf("got %+v, %v", ref, err)
		}
	}
	if got, err := read(s, abc); err != nil || got != "abc" {
		t.Errorf("got %q, %v", got, err)
	}
	empty, err := s.Put(t.Context(), strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	refs, err := s.List()
	if err != nil || !slices.Equal(refs, []Ref{{abc, 3}, empty}) {
		t.Errorf("list: %+v, %v", refs, err)
	}
	if !s.Has(abc) || s.Has(strings.Repeat("0", 64)) || s.Has("../x") {
		t.Error("Has")
	}
	if err := s.Delete(abc); err != nil {
		t.Error(err)
	}
	if err := s.Delete(abc); err != nil {
		t.Errorf("deleted twice: %v", err)
	}
	for _, digest := range []string{abc, "", "../../etc/passwd", strings.ToUpper(abc)} {
		if _, err := s.Get(t.Context(), digest); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", digest, err)
		}
	}
	if !strings.HasPrefix(s.URI(), "file:///") {
		t.Errorf("URI %s", s.URI())
	}
}

func TestDamageIsFound(t *testing.T) {
	s := newStore(t)
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	ref, err := s.Put(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string][]byte{"short": data[:len(data)-1], "flipped": append(slices.Clone(data[:len(data)-1]), data[len(data)-1]^1)} {
		if err := os.Chmod(s.path(ref.SHA256), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(ref.SHA256), damage, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := read(s, ref.SHA256); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: read: %v", name, err)
		}
		target := filepath.Join(t.TempDir(), "model.safetensors")
		if err := s.Fetch(t.Context(), ref.SHA256, target); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: fetch: %v", name, err)
		}
		if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a file was left: %v", name, err)
		}
	}
}

func TestBrokenOffPutLeavesNothing(t *testing.T) {
	s := newStore(t)
	broken := errors.New("cable pulled")
	if _, err := s.Put(t.Context(), io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Put(ctx, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if refs, err := s.List(); err != nil || len(refs) != 0 || leftovers(t, s) != 0 {
		t.Errorf("left %+v and %d files, %v", refs, leftovers(t, s), err)
	}
	// A killed writer can't clean up; the next start does, once nobody can still be writing.
	left := filepath.Join(s.dir, incoming, "put-killed")
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
		if _, err := New(s.dir); err != nil || leftovers(t, s) != c.want {
			t.Errorf("after %v: %d files left, %v", c.age, leftovers(t, s), err)
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
	other := filepath.Join(filepath.Dir(to), "c")
	if err := s.copyOut(t.Context(), ref.SHA256, other); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(other); err != nil || string(text) != "weights" {
		t.Errorf("copied %q, %v", text, err)
	}
	if err := s.Delete(ref.SHA256); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(to); err != nil || string(text) != "weights" {
		t.Errorf("a fetched file went with its blob: %q, %v", text, err)
	}
}

func TestWritersOfOneBlobAgree(t *testing.T) {
	s := newStore(t)
	data := bytes.Repeat([]byte("spin"), 1<<16)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := s.Put(t.Context(), bytes.NewReader(data)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	refs, err := s.List()
	if err != nil || len(refs) != 1 || leftovers(t, s) != 0 {
		t.Fatalf("%+v, %v", refs, err)
	}
	if got, err := read(s, refs[0].SHA256); err != nil || got != string(data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

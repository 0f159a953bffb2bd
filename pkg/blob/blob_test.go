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
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type ref struct {
	digest string
	size   int64
}

func list(t *testing.T, s *Store) (refs []ref) {
	t.Helper()
	err := s.List(func(digest string, size int64) error { refs = append(refs, ref{digest, size}); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return refs
}

func has(t *testing.T, s *Store, digest string) bool {
	t.Helper()
	there, err := s.Has(digest)
	if err != nil {
		t.Fatal(err)
	}
	return there
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
	entries, err := os.ReadDir(s.Scratch())
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
		digest, size, err := s.Put(t.Context(), strings.NewReader("abc"))
		if err != nil || digest != abc || size != 3 {
			t.Fatalf("got %s of %d bytes, %v", digest, size, err)
		}
	}
	if got, err := read(s, abc); err != nil || got != "abc" {
		t.Errorf("got %q, %v", got, err)
	}
	empty, _, err := s.Put(t.Context(), strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	if refs := list(t, s); !slices.Equal(refs, []ref{{abc, 3}, {empty, 0}}) {
		t.Errorf("list: %+v", refs)
	}
	if !has(t, s, abc) || has(t, s, strings.Repeat("0", 64)) || has(t, s, "../x") {
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
	digest, _, err := s.Put(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string][]byte{"short": data[:len(data)-1], "flipped": append(slices.Clone(data[:len(data)-1]), data[len(data)-1]^1)} {
		if err := os.Chmod(s.path(digest), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(digest), damage, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := read(s, digest); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: read: %v", name, err)
		}
		target := filepath.Join(t.TempDir(), "model.safetensors")
		if err := s.Place(t.Context(), digest, target); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: place: %v", name, err)
		}
		if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a file was left: %v", name, err)
		}
	}
}

func TestBrokenOffPutLeavesNothing(t *testing.T) {
	s := newStore(t)
	broken := errors.New("cable pulled")
	if _, _, err := s.Put(t.Context(), io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Put(ctx, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if refs := list(t, s); len(refs) != 0 || leftovers(t, s) != 0 {
		t.Errorf("left %+v and %d files", refs, leftovers(t, s))
	}
	// A killed writer can't clean up; the next start does, once nobody can still be writing.
	left := filepath.Join(s.Scratch(), unfinished+"killed")
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
		if _, err := Open(s.root); err != nil || leftovers(t, s) != c.want {
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
	digest, size, err := s.PutFile(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	if again, _, err := s.PutFile(t.Context(), from); err != nil || again != digest || size != 7 {
		t.Errorf("again: %s, was %s of %d bytes, %v", again, digest, size, err)
	}
	to := filepath.Join(t.TempDir(), "b")
	if err := s.Place(t.Context(), digest, to); err != nil {
		t.Fatal(err)
	}
	a, errA := os.Stat(from)
	b, errB := os.Stat(to)
	if errA != nil || errB != nil || !os.SameFile(a, b) || a.Mode().Perm() != 0o444 {
		t.Errorf("not one read-only file: %v %v %v %v", a, b, errA, errB)
	}
	if err := s.Place(t.Context(), digest, to); !errors.Is(err, fs.ErrExist) {
		t.Errorf("placed over a file: %v", err)
	}
	other := filepath.Join(filepath.Dir(to), "c")
	if err := s.copyOut(t.Context(), digest, other); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(other); err != nil || string(text) != "weights" {
		t.Errorf("copied %q, %v", text, err)
	}
	if err := s.Delete(digest); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(to); err != nil || string(text) != "weights" {
		t.Errorf("a placed file went with its blob: %q, %v", text, err)
	}
}

func TestWritersOfOneBlobAgree(t *testing.T) {
	s := newStore(t)
	data := bytes.Repeat([]byte("spin"), 1<<16)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, _, err := s.Put(t.Context(), bytes.NewReader(data)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	refs := list(t, s)
	if len(refs) != 1 || leftovers(t, s) != 0 {
		t.Fatalf("%+v and %d files", refs, leftovers(t, s))
	}
	if got, err := read(s, refs[0].digest); err != nil || got != string(data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

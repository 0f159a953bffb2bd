// Package blobtest is what every driver of blobs must hold: one suite for the folder, JetStream's object store and S3.
package blobtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/seed-8780d58e/spin/pkg/blob"
)

// Large is the size of the suite's large blob: several parts of every driver, and a bit.
const Large = 20<<20 + 7

// Run runs the suite. open gives an empty driver each time, and the means to put other bytes, as many, in the place of a blob's.
func Run(t *testing.T, open func(t *testing.T) (d blob.Driver, damage func(t *testing.T, digest string, data []byte))) {
	data := Random(Large, 1)
	for name, test := range map[string]func(*testing.T, *suite){
		"put and get": putAndGet, "damage": damaged, "broken off puts": brokenOff, "broken off fetches": fetchesResume,
		"writers agree": writersAgree, "files": files, "retention": retention,
	} {
		t.Run(name, func(t *testing.T) {
			d, damage := open(t)
			test(t, &suite{driver: d, store: over(t, d), damage: damage, data: data})
		})
	}
}

type suite struct {
	driver blob.Driver
	store  *blob.Store
	damage func(t *testing.T, digest string, data []byte)
	data   []byte // Large bytes
}

// Random bytes, the same for one seed.
func Random(n int, seed byte) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // never fails
	return data
}

// Ref of some bytes.
func Ref(data []byte) blob.Ref {
	sum := sha256.Sum256(data)
	return blob.Ref{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data))}
}

func over(t *testing.T, d blob.Driver) *blob.Store {
	t.Helper()
	s, err := blob.Over(d, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *blob.Store, data []byte) blob.Ref {
	t.Helper()
	ref, err := s.Put(t.Context(), bytes.NewReader(data))
	if err != nil || ref != Ref(data) {
		t.Fatalf("put %d bytes: %+v, %v", len(data), ref, err)
	}
	return ref
}

func get(t *testing.T, s *blob.Store, digest string) ([]byte, error) {
	r, err := s.Get(t.Context(), digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func putAndGet(t *testing.T, s *suite) {
	// FIPS 180-2, appendix B
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	var want []blob.Ref
	for _, data := range [][]byte{[]byte("abc"), nil, s.data} {
		for range 2 { // the second time it is there
			put(t, s.store, data)
		}
		want = append(want, Ref(data))
		if got, err := get(t, s.store, Ref(data).SHA256); err != nil || !bytes.Equal(got, data) {
			t.Errorf("get %d bytes: %d, %v", len(data), len(got), err)
		}
		path := filepath.Join(t.TempDir(), "model.safetensors")
		if err := s.store.Fetch(t.Context(), Ref(data).SHA256, path); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Errorf("fetch %d bytes: %d, %v", len(data), len(got), err)
		}
		if err := s.store.Fetch(t.Context(), Ref(data).SHA256, path); !errors.Is(err, fs.ErrExist) {
			t.Errorf("fetched over a file: %v", err)
		}
	}
	slices.SortFunc(want, func(a, b blob.Ref) int { return strings.Compare(a.SHA256, b.SHA256) })
	if refs, err := s.store.List(t.Context()); err != nil || !slices.Equal(refs, want) {
		t.Errorf("list: %+v, %v, want %+v", refs, err, want)
	}
	for _, offset := range []int64{0, 1, Large / 2, Large - 1} {
		r, err := s.driver.Open(t.Context(), Ref(s.data).SHA256, offset)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(got, s.data[offset:]) {
			t.Errorf("from byte %d: %d bytes, %v", offset, len(got), err)
		}
	}
	for digest, there := range map[string]bool{abc: true, strings.Repeat("0", 64): false, "../x": false, strings.ToUpper(abc): false, "": false} {
		if has, err := s.store.Has(t.Context(), digest); has != there || err != nil {
			t.Errorf("has %q: %v, %v", digest, has, err)
		}
		if _, err := s.store.Get(t.Context(), digest); there != (err == nil) || err != nil && !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("get %q: %v", digest, err)
		}
		if err := s.store.Fetch(t.Context(), digest, filepath.Join(t.TempDir(), "x")); there != (err == nil) || err != nil && !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("fetch %q: %v", digest, err)
		}
	}
	if uri := s.store.URI(); !strings.Contains(uri, "://") {
		t.Errorf("URI %s", uri)
	}
}

// damaged: bytes that changed where they lie are never handed out as whole, and mended by whoever puts them again.
func damaged(t *testing.T, s *suite) {
	data := s.data[:Large/2]
	ref := put(t, s.store, data)
	flipped := slices.Clone(data)
	flipped[len(data)-1] ^= 1
	for name, repair := range map[string]func() error{
		"put": func() error { _, err := s.store.Put(t.Context(), bytes.NewReader(data)); return err },
		"put file": func() error {
			path := filepath.Join(t.TempDir(), "again")
			if err := os.WriteFile(path, data, 0o644); err != nil {
				return err
			}
			_, err := s.store.PutFile(t.Context(), path)
			return err
		},
	} {
		s.damage(t, ref.SHA256, flipped)
		if got, err := get(t, s.store, ref.SHA256); !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("%s: read %d bytes: %v", name, len(got), err)
		}
		target := filepath.Join(t.TempDir(), "model.safetensors")
		if err := s.store.Fetch(t.Context(), ref.SHA256, target); !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("%s: fetch: %v", name, err)
		}
		if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a file was left: %v", name, err)
		}
		if err := repair(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := get(t, s.store, ref.SHA256); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: after the repair %d bytes, %v", name, len(got), err)
		}
	}
}

// brokenOff: what was not written to its end is not there, and is written to its end by the next one.
func brokenOff(t *testing.T, s *suite) {
	broken := errors.New("cable pulled")
	if _, err := s.store.Put(t.Context(), io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.store.Put(ctx, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	ref := Ref(s.data)
	for range 2 {
		if err := s.driver.Write(t.Context(), ref, &breaking{bytes.NewReader(s.data), Large - 1000, broken}); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		if has, err := s.store.Has(t.Context(), ref.SHA256); has || err != nil {
			t.Errorf("half a blob is there: %v, %v", has, err)
		}
		if refs, err := s.store.List(t.Context()); err != nil || len(refs) != 0 {
			t.Errorf("left %+v, %v", refs, err)
		}
	}
	put(t, s.store, s.data)
	if got, err := get(t, s.store, ref.SHA256); err != nil || !bytes.Equal(got, s.data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	// What was broken off for good is swept; what is whole stays.
	other := Random(Large, 2)
	if err := s.driver.Write(t.Context(), Ref(other), &breaking{bytes.NewReader(other), Large - 1000, broken}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if err := s.driver.Sweep(t.Context(), -time.Minute); err != nil {
		t.Error(err)
	}
	if got, err := get(t, s.store, ref.SHA256); err != nil || !bytes.Equal(got, s.data) {
		t.Errorf("after the sweep %d bytes, %v", len(got), err)
	}
}

// breaking is a file that can't be read from some byte on.
type breaking struct {
	*bytes.Reader
	at  int64
	err error
}

func (b *breaking) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.at {
		return 0, b.err
	}
	return b.Reader.ReadAt(p, off)
}

// flaky is a driver of which so many readers break off after some bytes, and which counts what it gave.
type flaky struct {
	blob.Driver
	after int64
	left  atomic.Int64 // readers that break off
	given atomic.Int64
	died  atomic.Pointer[context.CancelFunc] // called once half of the blob was given
}

func (f *flaky) Open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error) {
	r, err := f.Driver.Open(ctx, digest, offset)
	if err != nil {
		return nil, err
	}
	left := int64(1 << 60)
	if f.left.Add(-1) >= 0 {
		left = f.after
	}
	return &flakyReader{ReadCloser: r, of: f, left: left}, nil
}

type flakyReader struct {
	io.ReadCloser
	of   *flaky
	left int64
}

func (r *flakyReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := r.ReadCloser.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if r.of.given.Add(int64(n)) >= Large/2 {
		if die := r.of.died.Swap(nil); die != nil {
			(*die)()
		}
	}
	return n, err
}

// fetchesResume: a download that breaks off, or whose process dies, costs no byte twice.
func fetchesResume(t *testing.T, s *suite) {
	ref := put(t, s.store, s.data)
	scratch := t.TempDir()
	f := &flaky{Driver: s.driver, after: Large / 7}
	f.left.Store(5)
	open := func() *blob.Store {
		store, err := blob.Over(f, scratch)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	r, err := open().Get(t.Context(), ref.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, s.data) || f.given.Load() != Large {
		t.Errorf("got %d bytes of %d that were sent, %v", len(got), f.given.Load(), err)
	}
	r.Close()

	f.given.Store(0)
	ctx, die := context.WithCancel(t.Context())
	f.died.Store(&die)
	path := filepath.Join(t.TempDir(), "model.safetensors")
	if err := open().Fetch(ctx, ref.SHA256, path); !errors.Is(err, context.Canceled) {
		t.Fatalf("a process that dies: %v", err)
	}
	if n := f.given.Load(); n < Large/2 || n >= Large {
		t.Fatalf("it died after %d of %d bytes", n, Large)
	}
	if err := open().Fetch(t.Context(), ref.SHA256, path); err != nil {
		t.Fatal(err)
	}
	if n := f.given.Load(); n > Large+1<<20 { // what was read and not yet written down may come again
		t.Errorf("%d bytes were sent for a blob of %d", n, Large)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, s.data) {
		t.Errorf("fetched %d bytes, %v", len(got), err)
	}
	left, err := os.ReadDir(scratch)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the scratch folder: %v, %v", left, err)
	}
	// A part that was damaged on the disk meanwhile is fetched again.
	if err := os.WriteFile(filepath.Join(scratch, "get-"+ref.SHA256), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), "again")
	if err := open().Fetch(t.Context(), ref.SHA256, again); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(again); err != nil || !bytes.Equal(got, s.data) {
		t.Errorf("fetched %d bytes, %v", len(got), err)
	}
}

func writersAgree(t *testing.T, s *suite) {
	data := s.data[:Large/2]
	var wg sync.WaitGroup
	for range 4 {
		store := over(t, s.driver)
		wg.Go(func() {
			if _, err := store.Put(t.Context(), bytes.NewReader(data)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	refs, err := s.store.List(t.Context())
	if err != nil || !slices.Equal(refs, []blob.Ref{Ref(data)}) {
		t.Fatalf("%+v, %v", refs, err)
	}
	if got, err := get(t, s.store, refs[0].SHA256); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// files: a model's folder goes in, and comes out elsewhere.
func files(t *testing.T, s *suite) {
	dir := t.TempDir()
	want := map[string]string{"config.json": "{}", "model.safetensors": string(s.data[:1<<20]), "tokenizer.json": "[]"}
	for name, text := range want {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "onnx"), 0o755), os.WriteFile(filepath.Join(dir, "README.md"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	keep := func(name string) bool { return !strings.HasSuffix(name, ".md") }
	digest, err := s.store.PutTree(t.Context(), dir, keep)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.store.PutTree(t.Context(), dir, keep); err != nil || again != digest {
		t.Errorf("again: %s, %v", again, err)
	}
	to := t.TempDir()
	if path, err := s.store.FetchTree(t.Context(), digest, to); err != nil || path != to {
		t.Fatalf("fetched %s, %v", path, err)
	}
	entries, err := os.ReadDir(to)
	if err != nil || len(entries) != len(want) {
		t.Errorf("%v, %v", entries, err)
	}
	for name, text := range want {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != text {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if blobs, err := s.store.TreeBlobs(t.Context(), digest); err != nil || len(blobs) != 1+len(want) || blobs[0] != digest {
		t.Errorf("%v, %v", blobs, err)
	}
	single, err := s.store.PutTree(t.Context(), filepath.Join(dir, "config.json"), keep)
	if err != nil {
		t.Fatal(err)
	}
	to = t.TempDir()
	if path, err := s.store.FetchTree(t.Context(), single, to); err != nil || path != filepath.Join(to, "config.json") {
		t.Errorf("fetched %s, %v", path, err)
	}
}

func retention(t *testing.T, s *suite) {
	kept, gone := put(t, s.store, s.data), put(t, s.store, []byte("old"))
	for range 2 { // the second time it isn't there
		if err := s.store.Delete(t.Context(), gone.SHA256); err != nil {
			t.Error(err)
		}
	}
	if err := s.store.Delete(t.Context(), "../../etc/passwd"); err != nil {
		t.Error(err)
	}
	if refs, err := s.store.List(t.Context()); err != nil || !slices.Equal(refs, []blob.Ref{kept}) {
		t.Errorf("%+v, %v", refs, err)
	}
	if _, err := get(t, s.store, gone.SHA256); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a deleted blob: %v", err)
	}
	if err := s.store.Delete(t.Context(), kept.SHA256); err != nil {
		t.Error(err)
	}
	if refs, err := s.store.List(t.Context()); err != nil || len(refs) != 0 {
		t.Errorf("%+v, %v", refs, err)
	}
	put(t, s.store, s.data)
	if got, err := get(t, s.store, kept.SHA256); err != nil || !bytes.Equal(got, s.data) {
		t.Errorf("put again after a deletion: %d bytes, %v", len(got), err)
	}
}

// Package blob keeps files by the SHA-256 of their bytes: the shards of checkpoints, which messages name and do not carry. A blob that is there is
// whole: it is written under a temporary name, hashed on the way, flushed, and renamed; whoever reads it checks the digest again.
//
// The store is a folder, shared by the services of one machine or by a network file system. Blobs are read-only files, so that one inode can be a
// checkpoint's file and its blob at once.
package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Errors that callers decide by.
var (
	// ErrNotFound: no blob of this digest.
	ErrNotFound = errors.New("no such blob")
	// ErrCorrupt: the bytes are not those of the digest. Remove the blob and put it again.
	ErrCorrupt = errors.New("blob is corrupt")
)

const (
	incoming = "incoming"     // folder of what is being written
	stale    = 24 * time.Hour // older files there were left by a killed writer
)

// Ref names a blob.
type Ref struct {
	SHA256 string // 64 lower-case hexadecimal digits
	Size   int64
}

// Store is a folder of blobs. It holds no state, so that several processes may use one folder.
type Store struct{ dir string }

// New opens the store in dir, making the folder if need be.
func New(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, incoming), 0o777); err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	s := &Store{dir: dir}
	s.sweep()
	return s, nil
}

// URI is where the blobs are, for a checkpoint's manifest: file:///dir.
func (s *Store) URI() string { return (&url.URL{Scheme: "file", Path: s.dir}).String() }

// Put stores what r gives, to its end. Bytes that are there already are not stored again.
func (s *Store) Put(ctx context.Context, r io.Reader) (Ref, error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, incoming), "put-")
	if err != nil {
		return Ref{}, fmt.Errorf("put blob: %w", err)
	}
	defer os.Remove(f.Name()) // gone already where the blob was put
	defer f.Close()
	digest := sha256.New()
	size, err := io.Copy(io.MultiWriter(f, digest), &contextReader{ctx, r})
	if err == nil {
		err = f.Chmod(0o444)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Close()
	}
	ref := Ref{SHA256: hex.EncodeToString(digest.Sum(nil)), Size: size}
	if err == nil {
		err = s.place(f.Name(), ref.SHA256, os.Rename)
	}
	if err != nil {
		return Ref{}, fmt.Errorf("put blob: %w", err)
	}
	return ref, nil
}

// PutFile stores a file that nobody will change any more: as a second name of the same bytes where the file system can, by copying otherwise. The file
// becomes read-only.
func (s *Store) PutFile(ctx context.Context, path string) (Ref, error) {
	path, err := filepath.EvalSymlinks(path) // a link to a link would be no file
	if err != nil {
		return Ref{}, fmt.Errorf("put blob: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return Ref{}, fmt.Errorf("put blob: %w", err)
	}
	defer f.Close()
	digest := sha256.New()
	size, err := io.Copy(digest, &contextReader{ctx, f})
	if err != nil {
		return Ref{}, fmt.Errorf("put blob %s: %w", path, err)
	}
	ref := Ref{SHA256: hex.EncodeToString(digest.Sum(nil)), Size: size}
	if s.Has(ref.SHA256) {
		return ref, nil
	}
	if err := f.Sync(); err != nil {
		return Ref{}, fmt.Errorf("put blob %s: %w", path, err)
	}
	err = s.place(path, ref.SHA256, os.Link)
	if err == nil {
		err = f.Chmod(0o444)
	}
	if err == nil {
		return ref, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil { // another file system, or one without links
		return Ref{}, fmt.Errorf("put blob %s: %w", path, err)
	}
	copied, err := s.Put(ctx, f)
	if err == nil && copied != ref {
		return Ref{}, fmt.Errorf("put blob %s: the file changed meanwhile", path)
	}
	return copied, err
}

// place gives a complete file its name in the store.
func (s *Store) place(from, digest string, move func(from, to string) error) error {
	to := s.path(digest)
	dir := filepath.Dir(to)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := move(from, to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, d := range []string{dir, s.dir} { // the names survive a power cut too
		f, err := os.Open(d)
		if err != nil {
			return err
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// Has reports whether the blob is there.
func (s *Store) Has(digest string) bool {
	if !isDigest(digest) {
		return false
	}
	info, err := os.Stat(s.path(digest))
	return err == nil && info.Mode().IsRegular()
}

// Get reads a blob. At its end the reader gives ErrCorrupt instead of io.EOF where the bytes are not those of the digest; a reader that stops before
// the end has checked nothing.
func (s *Store) Get(ctx context.Context, digest string) (io.ReadCloser, error) {
	if !isDigest(digest) {
		return nil, fmt.Errorf("blob %.70q: want 64 hexadecimal digits: %w", digest, ErrNotFound)
	}
	f, err := os.Open(s.path(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", digest, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("get blob: %w", err)
	}
	return &reader{file: f, from: &contextReader{ctx, f}, digest: digest, hash: sha256.New()}, nil
}

// Fetch checks a blob and makes it the file path, which must not exist: a second name of the same bytes, or a copy.
func (s *Store) Fetch(ctx context.Context, digest, path string) error {
	r, err := s.Get(ctx, digest)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	if err := os.Link(s.path(digest), path); err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return fmt.Errorf("fetch blob: %w", err)
		}
		return nil
	}
	return s.copyOut(ctx, digest, path)
}

func (s *Store) copyOut(ctx context.Context, digest, path string) error {
	r, err := s.Get(ctx, digest)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.CreateTemp(filepath.Dir(path), ".fetch-")
	if err != nil {
		return fmt.Errorf("fetch blob: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o444), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("fetch blob: %w", err)
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("fetch blob: %s: %w", path, fs.ErrExist)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("fetch blob: %w", err)
	}
	return nil
}

// Delete removes a blob; one that isn't there is no error.
func (s *Store) Delete(digest string) error {
	if !isDigest(digest) {
		return nil
	}
	if err := os.Remove(s.path(digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete blob: %w", err)
	}
	return nil
}

// List names every blob, in the order of their digests.
func (s *Store) List() ([]Ref, error) {
	paths, err := filepath.Glob(filepath.Join(globEscape(s.dir), "[0-9a-f][0-9a-f]", "*"))
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	var refs []Ref
	for _, path := range paths {
		digest := filepath.Base(path)
		info, err := os.Lstat(path)
		if err != nil || !isDigest(digest) || !info.Mode().IsRegular() { // deleted meanwhile, or not ours
			continue
		}
		refs = append(refs, Ref{SHA256: digest, Size: info.Size()})
	}
	slices.SortFunc(refs, func(a, b Ref) int {
		if a.SHA256 < b.SHA256 {
			return -1
		}
		return 1
	})
	return refs, nil
}

// path of a blob: dir/ab/abcdef…, so that no folder grows long.
func (s *Store) path(digest string) string { return filepath.Join(s.dir, digest[:2], digest) }

// sweep removes what killed writers left. It is a courtesy: errors are of no consequence.
func (s *Store) sweep() {
	entries, _ := os.ReadDir(filepath.Join(s.dir, incoming))
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > stale {
			_ = os.Remove(filepath.Join(s.dir, incoming, e.Name()))
		}
	}
}

// reader hashes what passes and checks it at the end.
type reader struct {
	file   *os.File
	from   io.Reader
	digest string
	hash   hash.Hash
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	r.hash.Write(p[:n])
	if err == io.EOF && hex.EncodeToString(r.hash.Sum(nil)) != r.digest {
		return n, fmt.Errorf("blob %s: %w", r.digest, ErrCorrupt)
	}
	return n, err
}

func (r *reader) Close() error { return r.file.Close() }

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && hex.EncodeToString(b) == s
}

// globEscape keeps a folder's own name from being read as a pattern.
func globEscape(s string) string {
	var b []rune
	for _, c := range s {
		if c == '*' || c == '?' || c == '[' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return string(b)
}

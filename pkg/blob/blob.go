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
	"strings"
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
	unfinished = "put-"         // prefix of what is being written, in the scratch folder
	stale      = 24 * time.Hour // older ones were left by a killed writer
)

// Store is a folder of blobs. It holds no state, so that several processes may use one folder.
type Store struct{ root string }

// Open opens the store in a folder, making it if need be.
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	s := &Store{root}
	for _, dir := range []string{s.blobs(), s.Scratch()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("open blob store: %w", err)
		}
	}
	s.sweep()
	return s, nil
}

// Scratch is a folder on the store's file system for what is not yet, or no longer, a blob: PutFile and Place need not copy there.
func (s *Store) Scratch() string { return filepath.Join(s.root, "tmp") }

func (s *Store) blobs() string { return filepath.Join(s.root, "blobs") }

// URI is where the blobs are, for a checkpoint's manifest: file:///dir.
func (s *Store) URI() string { return (&url.URL{Scheme: "file", Path: s.root}).String() }

// Put stores what r gives, to its end. Bytes that are there already are not stored again.
func (s *Store) Put(ctx context.Context, r io.Reader) (digest string, size int64, err error) {
	f, err := os.CreateTemp(s.Scratch(), unfinished+"*")
	if err != nil {
		return "", 0, fmt.Errorf("put blob: %w", err)
	}
	defer os.Remove(f.Name()) // gone already where the blob was put
	defer f.Close()
	sum := sha256.New()
	size, err = io.Copy(io.MultiWriter(f, sum), &contextReader{ctx, r})
	if err == nil {
		err = f.Chmod(0o444)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Close()
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	if err == nil {
		err = s.adopt(f.Name(), digest, os.Rename)
	}
	if err != nil {
		return "", 0, fmt.Errorf("put blob: %w", err)
	}
	return digest, size, nil
}

// PutFile stores a file that nobody will change any more: as a second name of the same bytes where the file system can, by copying otherwise. The file
// becomes read-only.
func (s *Store) PutFile(ctx context.Context, path string) (digest string, size int64, err error) {
	path, err = filepath.EvalSymlinks(path) // a link to a link would be no file
	if err != nil {
		return "", 0, fmt.Errorf("put blob: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("put blob: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if size, err = io.Copy(sum, &contextReader{ctx, f}); err != nil {
		return "", 0, fmt.Errorf("put blob %s: %w", path, err)
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	if there, err := s.Has(digest); err != nil || there {
		return digest, size, err
	}
	if err := f.Sync(); err != nil {
		return "", 0, fmt.Errorf("put blob %s: %w", path, err)
	}
	if s.adopt(path, digest, os.Link) == nil && f.Chmod(0o444) == nil {
		return digest, size, nil
	}
	// Another file system, or one without links.
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", 0, fmt.Errorf("put blob %s: %w", path, err)
	}
	copied, size, err := s.Put(ctx, f)
	if err == nil && copied != digest {
		return "", 0, fmt.Errorf("put blob %s: the file changed meanwhile", path)
	}
	return copied, size, err
}

// adopt gives a complete file its name in the store.
func (s *Store) adopt(from, digest string, move func(from, to string) error) error {
	to := s.path(digest)
	dir := filepath.Dir(to)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := move(from, to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, d := range []string{dir, s.blobs()} { // the names survive a power cut too
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
func (s *Store) Has(digest string) (bool, error) {
	if !isDigest(digest) {
		return false, nil
	}
	_, err := os.Stat(s.path(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for blob: %w", err)
	}
	return true, nil
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

// Place checks a blob and makes it the file path, which must not exist: a second name of the same bytes, or a copy. Nobody may write to it.
func (s *Store) Place(ctx context.Context, digest, path string) error {
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
			return fmt.Errorf("place blob: %w", err)
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
	f, err := os.CreateTemp(filepath.Dir(path), ".place-*")
	if err != nil {
		return fmt.Errorf("place blob: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o444), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("place blob: %w", err)
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("place blob: %s: %w", path, fs.ErrExist)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("place blob: %w", err)
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

// List calls yield for each blob, in the order of their digests.
func (s *Store) List(yield func(digest string, size int64) error) error {
	return filepath.WalkDir(s.blobs(), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
			return nil
		}
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		if !d.Type().IsRegular() || !isDigest(d.Name()) {
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		return yield(d.Name(), info.Size())
	})
}

// path of a blob: blobs/ab/abcdef…, so that no folder grows long.
func (s *Store) path(digest string) string { return filepath.Join(s.blobs(), digest[:2], digest) }

// sweep removes what killed writers left. It is a courtesy: errors are of no consequence.
func (s *Store) sweep() {
	entries, _ := os.ReadDir(s.Scratch())
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && strings.HasPrefix(e.Name(), unfinished) && time.Since(info.ModTime()) > stale {
			_ = os.Remove(filepath.Join(s.Scratch(), e.Name()))
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

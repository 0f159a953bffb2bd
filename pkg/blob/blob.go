// Package blob keeps files by the SHA-256 of their content: a checkpoint's files, which the bus only
// names. A blob is whole or absent, and never changes.
//
// The store here is a folder. (NATS's object store and S3 come with the event plane's own issue;
// then Store becomes what the three have in common.)
package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrNotFound: the store has no such blob.
var ErrNotFound = errors.New("no such blob")

// Store is a folder of blobs: blobs/<first two digits>/<digest>.
type Store struct{ root string }

// Open opens the store in a folder, which is made if need be.
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(root, "tmp"), 0o755); err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	return &Store{root}, nil
}

// URI says where the store is, for manifests.
func (s *Store) URI() string { return "file://" + s.root }

// Scratch is a folder on the store's file system for what is not yet, or no longer, a blob.
func (s *Store) Scratch() string { return filepath.Join(s.root, "tmp") }

func (s *Store) path(digest string) (string, error) {
	if b, err := hex.DecodeString(digest); err != nil || len(b) != sha256.Size || strings.ToLower(digest) != digest {
		return "", fmt.Errorf("blob %.70q: want 64 hexadecimal digits", digest)
	}
	return filepath.Join(s.root, "blobs", digest[:2], digest), nil
}

// Put stores what r gives, and returns its digest and size.
func (s *Store) Put(ctx context.Context, r io.Reader) (digest string, size int64, err error) {
	f, err := os.CreateTemp(filepath.Join(s.root, "tmp"), "put-*")
	if err != nil {
		return "", 0, fmt.Errorf("put a blob: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(io.MultiWriter(f, h), readerOf(ctx, r)); err != nil {
		return "", 0, fmt.Errorf("put a blob: %w", err)
	}
	if err := f.Sync(); err != nil {
		return "", 0, fmt.Errorf("put a blob: %w", err)
	}
	digest = hex.EncodeToString(h.Sum(nil))
	return digest, size, s.adopt(f.Name(), digest)
}

// PutFile stores a file without copying it where it lies on the store's own file system. The caller
// does not write to it any more.
func (s *Store) PutFile(ctx context.Context, path string) (digest string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("put %s: %w", path, err)
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, readerOf(ctx, f)); err != nil {
		return "", 0, fmt.Errorf("put %s: %w", path, err)
	}
	digest = hex.EncodeToString(h.Sum(nil))
	link := filepath.Join(s.root, "tmp", "link-"+digest)
	os.Remove(link)
	if err := os.Link(path, link); err != nil { // another file system
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return "", 0, fmt.Errorf("put %s: %w", path, err)
		}
		return s.Put(ctx, f)
	}
	defer os.Remove(link)
	if err := f.Sync(); err != nil {
		return "", 0, fmt.Errorf("put %s: %w", path, err)
	}
	return digest, size, s.adopt(link, digest)
}

// adopt gives a complete, flushed file of tmp its place.
func (s *Store) adopt(temporary, digest string) error {
	path, err := s.path(digest)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("put blob %.12s: %w", digest, err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("put blob %.12s: %w", digest, err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("put blob %.12s: %w", digest, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("put blob %.12s: %w", digest, err)
	}
	return nil
}

// Has reports whether the blob is there.
func (s *Store) Has(digest string) (bool, error) {
	path, err := s.path(digest)
	if err != nil {
		return false, err
	}
	_, err = os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Place makes the blob appear as the file path, after checking its content: a link where it can be,
// else a copy. Nobody may write to it.
func (s *Store) Place(ctx context.Context, digest, path string) error {
	from, err := s.path(digest)
	if err != nil {
		return err
	}
	f, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %.12s: %w", digest, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("blob %.12s: %w", digest, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, readerOf(ctx, f)); err != nil {
		return fmt.Errorf("blob %.12s: %w", digest, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != digest {
		return fmt.Errorf("blob %.12s is damaged: its content has digest %.12s; delete %s and put it again", digest, got, from)
	}
	if err := os.Link(from, path); err == nil {
		return nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("blob %.12s: %w", digest, err)
	}
	out, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("blob %.12s: %w", digest, err)
	}
	defer out.Close()
	if _, err := io.Copy(out, readerOf(ctx, f)); err != nil {
		return fmt.Errorf("blob %.12s: %w", digest, err)
	}
	return out.Close()
}

// Delete removes a blob; one that is not there is no error. Files placed from it stay.
func (s *Store) Delete(digest string) error {
	path, err := s.path(digest)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete blob %.12s: %w", digest, err)
	}
	return nil
}

// List calls yield for each blob.
func (s *Store) List(yield func(digest string, size int64) error) error {
	return filepath.WalkDir(filepath.Join(s.root, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return yield(d.Name(), info.Size())
	})
}

// readerOf stops reading when ctx ends.
func readerOf(ctx context.Context, r io.Reader) io.Reader { return reader{ctx, r} }

type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// Package blob keeps files by the SHA-256 of their bytes: the shards of checkpoints, the model and the data of a run, which messages name and do not
// carry. A blob that is there is whole, and whoever reads it checks the digest again.
//
// Store is what services use: it hashes, checks and resumes. Where the bytes lie is a Driver's business:
//
//	Files            a folder (here)
//	bus.Objects      JetStream's object store, for up to 2 GiB a blob
//	s3.Bucket        S3 and what speaks its protocol
//
// Transfers that break off go on where they were: downloads by ranges, uploads by parts. What was written under a digest before and has been damaged
// since is noticed when the blob is read or put again, and mended by the latter.
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
	"slices"
	"strings"
	"time"
)

// Errors that callers decide by.
var (
	// ErrNotFound: no blob of this digest.
	ErrNotFound = errors.New("no such blob")
	// ErrCorrupt: the bytes are not those of the digest. Put the blob again.
	ErrCorrupt = errors.New("blob is corrupt")
	// ErrTooLarge: the driver takes no blob of this size.
	ErrTooLarge = errors.New("too large")
)

// stale is how old an unfinished transfer is that nobody will go on with.
const stale = 24 * time.Hour

// Ref names a blob.
type Ref struct {
	SHA256 string // 64 lower-case hexadecimal digits
	Size   int64
}

// Driver moves bytes to and from where they are kept. It checks no digest: Store does. All methods may be called from several goroutines and
// processes at once; digests are well-formed.
type Driver interface {
	// URI says where the blobs are, without a secret.
	URI() string
	// Limit is the size of the largest blob.
	Limit() int64
	// Stat is the size of a complete blob; ErrNotFound.
	Stat(ctx context.Context, digest string) (int64, error)
	// Open reads a complete blob from a byte before its end on; ErrNotFound.
	Open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error)
	// Write stores the first ref.Size bytes of r, in place of what is there. Nobody sees a part of it. What a Write of the same digest left that was
	// broken off need not be sent again, as far as it is equal.
	Write(ctx context.Context, ref Ref, r io.ReaderAt) error
	// Delete removes a blob; one that isn't there is no error.
	Delete(ctx context.Context, digest string) error
	// List calls yield for every complete blob, in no order.
	List(ctx context.Context, yield func(Ref) error) error
	// Sweep removes what was left of writes that were broken off so long ago.
	Sweep(ctx context.Context, older time.Duration) error
}

// Store is the blobs of one driver.
type Store struct {
	driver  Driver
	files   *Files // the driver, where that is it: files are linked then, not copied
	scratch string // folder of unfinished transfers
}

// New opens the store in a folder, making it if need be.
func New(dir string) (*Store, error) {
	files, err := NewFiles(dir)
	if err != nil {
		return nil, err
	}
	return Over(files, filepath.Join(files.dir, incoming))
}

// Over is the store of a driver. What is under way lies in the folder scratch, which processes of one machine may share.
func Over(d Driver, scratch string) (*Store, error) {
	if err := os.MkdirAll(scratch, 0o777); err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	_ = sweep(scratch, stale) // a courtesy: an error is of no consequence
	files, _ := d.(*Files)
	return &Store{driver: d, files: files, scratch: scratch}, nil
}

// URI is where the blobs are, for a checkpoint's manifest: file:///dir, nats://bucket, s3://bucket/prefix.
func (s *Store) URI() string { return s.driver.URI() }

// Put stores what r gives, to its end.
func (s *Store) Put(ctx context.Context, r io.Reader) (Ref, error) {
	f, err := os.CreateTemp(s.scratch, "put-")
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
	ref := Ref{SHA256: hex.EncodeToString(digest.Sum(nil)), Size: size}
	if err == nil {
		err = s.put(ctx, ref, f, os.Rename)
	}
	if err != nil {
		return Ref{}, fmt.Errorf("put blob: %w", err)
	}
	return ref, nil
}

// PutFile stores a file that nobody will change any more: as a second name of the same bytes where the file system can, by copying otherwise. In the
// first case the file becomes read-only.
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
	if info, err := f.Stat(); err == nil { // before all of it is read
		if err := s.fits(info.Size()); err != nil {
			return Ref{}, fmt.Errorf("put blob %s: %w", path, err)
		}
	}
	digest := sha256.New()
	size, err := io.Copy(digest, &contextReader{ctx, f})
	if err == nil && s.files != nil {
		err = f.Sync()
	}
	ref := Ref{SHA256: hex.EncodeToString(digest.Sum(nil)), Size: size}
	if err == nil {
		err = s.put(ctx, ref, f, os.Link)
	}
	if err != nil {
		return Ref{}, fmt.Errorf("put blob %s: %w", path, err)
	}
	return ref, nil
}

// fits refuses what is too large for the driver.
func (s *Store) fits(size int64) error {
	if limit := s.driver.Limit(); size > limit {
		return fmt.Errorf("%d bytes, %s takes %d: %w", size, s.URI(), limit, ErrTooLarge)
	}
	return nil
}

// put stores an open file, unless a sound blob is there. move gives it a name in a folder of blobs.
func (s *Store) put(ctx context.Context, ref Ref, f *os.File, move func(from, to string) error) error {
	if err := s.fits(ref.Size); err != nil {
		return err
	}
	switch err := s.verify(ctx, ref, f); {
	case err == nil:
		return nil
	case errors.Is(err, ErrCorrupt):
		if err := s.driver.Delete(ctx, ref.SHA256); err != nil {
			return err
		}
	case !errors.Is(err, ErrNotFound):
		return err
	}
	if s.files == nil {
		return s.write(ctx, ref, f)
	}
	err := s.files.place(f.Name(), ref.SHA256, move)
	if err == nil {
		return f.Chmod(0o444)
	}
	return s.write(ctx, ref, f) // another file system, or one without links
}

// verify reads the blob that the store has and returns nil where its bytes are right; ErrNotFound, ErrCorrupt.
func (s *Store) verify(ctx context.Context, ref Ref, f *os.File) error {
	if s.files != nil {
		a, errA := f.Stat()
		b, errB := os.Stat(s.files.path(ref.SHA256))
		if errA == nil && errB == nil && os.SameFile(a, b) { // read a moment ago
			return nil
		}
	}
	r, err := s.Get(ctx, ref.SHA256)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// write sends the bytes and makes sure that they were those of the digest: the file may have changed since it was read.
func (s *Store) write(ctx context.Context, ref Ref, f *os.File) error {
	if err := s.driver.Write(ctx, ref, f); err != nil {
		return err
	}
	digest := sha256.New()
	_, err := io.Copy(digest, &contextReader{ctx, io.NewSectionReader(f, 0, ref.Size+1)})
	if err == nil && hex.EncodeToString(digest.Sum(nil)) != ref.SHA256 {
		err = errors.New("the file changed meanwhile")
	}
	if err != nil {
		return errors.Join(err, s.driver.Delete(context.WithoutCancel(ctx), ref.SHA256))
	}
	return nil
}

// Has reports whether the blob is there, without looking at its bytes.
func (s *Store) Has(ctx context.Context, digest string) (bool, error) {
	if !isDigest(digest) {
		return false, nil
	}
	_, err := s.driver.Stat(ctx, digest)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for blob %s: %w", digest, err)
	}
	return true, nil
}

// Delete removes a blob; one that isn't there is no error.
func (s *Store) Delete(ctx context.Context, digest string) error {
	if !isDigest(digest) {
		return nil
	}
	if err := s.driver.Delete(ctx, digest); err != nil {
		return fmt.Errorf("delete blob %s: %w", digest, err)
	}
	return nil
}

// List names every blob, in the order of their digests.
func (s *Store) List(ctx context.Context) ([]Ref, error) {
	var refs []Ref
	err := s.driver.List(ctx, func(r Ref) error {
		refs = append(refs, r)
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	slices.SortFunc(refs, func(a, b Ref) int { return strings.Compare(a.SHA256, b.SHA256) })
	return refs, nil
}

// Sweep removes what is left of writes that were broken off more than a day ago.
func (s *Store) Sweep(ctx context.Context) error {
	if err := errors.Join(sweep(s.scratch, stale), s.driver.Sweep(ctx, stale)); err != nil {
		return fmt.Errorf("sweep blobs: %w", err)
	}
	return nil
}

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

// exists reports whether a path names anything.
func exists(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	return nil
}

package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Get reads a blob, through interruptions. At its end the reader gives ErrCorrupt instead of io.EOF where the bytes are not those of the digest; a
// reader that stops before the end has checked nothing.
func (s *Store) Get(ctx context.Context, digest string) (io.ReadCloser, error) {
	from, err := s.open(ctx, digest, 0)
	if err != nil {
		return nil, err
	}
	return &reader{from: from, digest: digest, hash: sha256.New()}, nil
}

// open makes a source of the bytes from offset on.
func (s *Store) open(ctx context.Context, digest string, offset int64) (*source, error) {
	if !isDigest(digest) {
		return nil, fmt.Errorf("blob %.70q: want 64 hexadecimal digits: %w", digest, ErrNotFound)
	}
	size, err := s.driver.Stat(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", digest, err)
	}
	return &source{ctx: ctx, driver: s.driver, digest: digest, at: offset, size: size}, nil
}

// reader hashes what passes and checks it at the end.
type reader struct {
	from   *source
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

func (r *reader) Close() error { return r.from.Close() }

const (
	patience = 5                      // tries without a byte of progress
	pause    = 100 * time.Millisecond // before the second one; doubles
)

// source is a blob's bytes up to size. A driver's reader that breaks off is replaced by one that begins where it stopped.
type source struct {
	ctx      context.Context
	driver   Driver
	digest   string
	at, size int64
	body     io.ReadCloser
	tries    int
}

func (s *source) Read(p []byte) (int, error) {
	for {
		if s.ctx.Err() != nil {
			return 0, context.Cause(s.ctx)
		}
		if s.at >= s.size {
			return 0, io.EOF
		}
		n, err := s.read(p[:min(int64(len(p)), s.size-s.at)])
		s.at += int64(n)
		if n > 0 {
			s.tries = 0
			return n, nil
		}
		if err == nil {
			continue
		}
		s.Close()
		if s.tries++; errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) || s.tries == patience {
			return 0, fmt.Errorf("blob %s at byte %d: %w", s.digest, s.at, err)
		}
		select {
		case <-time.After(pause << (s.tries - 1)):
		case <-s.ctx.Done():
		}
	}
}

// read is one Read of the driver's; the end of its bytes before the blob's is an error.
func (s *source) read(p []byte) (n int, err error) {
	if s.body == nil {
		if s.body, err = s.driver.Open(s.ctx, s.digest, s.at); err != nil {
			s.body = nil
			return 0, err
		}
	}
	n, err = s.body.Read(p)
	if err == io.EOF && s.at+int64(n) < s.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (s *source) Close() error {
	if s.body == nil {
		return nil
	}
	err := s.body.Close()
	s.body = nil
	return err
}

// Fetch checks a blob and makes it the file path, which must not exist: a second name of the same bytes, or a copy. A download that was broken off,
// be it with the process, goes on where it was.
func (s *Store) Fetch(ctx context.Context, digest, path string) error {
	if s.files == nil {
		return s.download(ctx, digest, path)
	}
	r, err := s.Get(ctx, digest)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	err = os.Link(s.files.path(digest), path)
	if err == nil {
		return nil
	}
	if taken := exists(path); taken != nil {
		return fmt.Errorf("fetch blob: %w", taken)
	}
	return s.download(ctx, digest, path) // another file system, or one without links
}

// download copies a blob to path by way of a file of the scratch folder, which outlives an interruption.
func (s *Store) download(ctx context.Context, digest, path string) error {
	if !isDigest(digest) {
		return fmt.Errorf("blob %.70q: want 64 hexadecimal digits: %w", digest, ErrNotFound)
	}
	part, err := s.partial(digest)
	if err != nil {
		return fmt.Errorf("fetch blob: %w", err)
	}
	defer part.Close()
	switch err := s.complete(ctx, digest, part); {
	case errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotFound): // nothing to go on with
		return errors.Join(err, os.Remove(part.Name()))
	case err != nil:
		return err
	}
	if err := errors.Join(part.Chmod(0o444), part.Sync(), exists(path)); err != nil {
		return errors.Join(fmt.Errorf("fetch blob: %w", err), os.Remove(part.Name()))
	}
	if err := os.Rename(part.Name(), path); err == nil {
		return nil
	}
	defer os.Remove(part.Name())
	return copyTo(part, path)
}

// partial opens the file that holds what has come of a blob, locked; one of no name to others where somebody else has it.
func (s *Store) partial(digest string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(s.scratch, "get-"+digest), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		here, errA := f.Stat()
		named, errB := os.Stat(f.Name())
		if err == nil && errA == nil && errB == nil && os.SameFile(here, named) { // else it was finished and renamed meanwhile
			return f, nil
		}
		f.Close()
	}
	return os.CreateTemp(s.scratch, "get-")
}

// complete brings part to the whole blob and checks it. Bytes that were there from before are hashed too; where they prove wrong they are fetched
// again, once.
func (s *Store) complete(ctx context.Context, digest string, part *os.File) error {
	for {
		h := sha256.New()
		had, err := io.Copy(h, part)
		if err != nil {
			return fmt.Errorf("fetch blob: %w", err)
		}
		from, err := s.open(ctx, digest, had)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.MultiWriter(part, h), from)
		from.Close()
		if err != nil {
			return err
		}
		if hex.EncodeToString(h.Sum(nil)) == digest {
			return nil
		}
		if had == 0 {
			return fmt.Errorf("blob %s: %w", digest, ErrCorrupt)
		}
		if err := part.Truncate(0); err != nil {
			return fmt.Errorf("fetch blob: %w", err)
		}
		if _, err := part.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("fetch blob: %w", err)
		}
	}
}

// copyTo makes a whole file the new file path, on whatever file system that is.
func copyTo(from *os.File, path string) error {
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("fetch blob: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".fetch-")
	if err != nil {
		return fmt.Errorf("fetch blob: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	_, err = io.Copy(f, from)
	if err == nil {
		err = errors.Join(f.Chmod(0o444), f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("fetch blob: %w", err)
	}
	return nil
}

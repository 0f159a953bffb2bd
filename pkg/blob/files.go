package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Files is the driver over a folder, shared by the services of one machine or by a network file system. Blobs are read-only files, so that one inode
// can be a checkpoint's file and its blob at once. It holds no state: several processes may use one folder.
type Files struct{ dir string }

const incoming = "incoming" // folder of what is being written

// NewFiles opens the folder, making it if need be.
func NewFiles(dir string) (*Files, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, incoming), 0o777); err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	return &Files{dir: dir}, nil
}

// URI is file:///dir.
func (f *Files) URI() string { return (&url.URL{Scheme: "file", Path: f.dir}).String() }

// Limit is what file systems take.
func (f *Files) Limit() int64 { return 1 << 60 }

// Stat of a complete blob.
func (f *Files) Stat(_ context.Context, digest string) (int64, error) {
	info, err := os.Stat(f.path(digest))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return 0, ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Open reads from a byte on.
func (f *Files) Open(_ context.Context, digest string, offset int64) (io.ReadCloser, error) {
	file, err := os.Open(f.path(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// Write copies the bytes to a temporary name, flushes, and renames.
func (f *Files) Write(ctx context.Context, ref Ref, r io.ReaderAt) error {
	file, err := os.CreateTemp(filepath.Join(f.dir, incoming), "put-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // gone already where the blob was put
	defer file.Close()
	_, err = io.Copy(file, &contextReader{ctx, io.NewSectionReader(r, 0, ref.Size)})
	if err == nil {
		err = file.Chmod(0o444)
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = file.Close()
	}
	if err == nil {
		err = f.place(file.Name(), ref.SHA256, os.Rename)
	}
	return err
}

// place gives a complete file its name in the store.
func (f *Files) place(from, digest string, move func(from, to string) error) error {
	to := f.path(digest)
	dir := filepath.Dir(to)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := move(from, to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, d := range []string{dir, f.dir} { // the names survive a power cut too
		folder, err := os.Open(d)
		if err != nil {
			return err
		}
		err = folder.Sync()
		folder.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// Delete removes a blob.
func (f *Files) Delete(_ context.Context, digest string) error {
	if err := os.Remove(f.path(digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// List names every blob.
func (f *Files) List(_ context.Context, yield func(Ref) error) error {
	paths, err := filepath.Glob(filepath.Join(globEscape(f.dir), "[0-9a-f][0-9a-f]", "*"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		digest := filepath.Base(path)
		info, err := os.Lstat(path)
		if err != nil || !isDigest(digest) || !info.Mode().IsRegular() { // deleted meanwhile, or not ours
			continue
		}
		if err := yield(Ref{SHA256: digest, Size: info.Size()}); err != nil {
			return err
		}
	}
	return nil
}

// Sweep removes what killed writers left.
func (f *Files) Sweep(_ context.Context, older time.Duration) error {
	return sweep(filepath.Join(f.dir, incoming), older)
}

// path of a blob: dir/ab/abcdef…, so that no folder grows long.
func (f *Files) path(digest string) string { return filepath.Join(f.dir, digest[:2], digest) }

// sweep removes a folder's files that nobody has touched for so long.
func sweep(dir string, older time.Duration) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > older {
			_ = os.Remove(filepath.Join(dir, e.Name())) // or somebody else's sweep did
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
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

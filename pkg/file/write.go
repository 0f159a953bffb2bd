package file

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Writer is a file that appears at its path only when it is complete.
type Writer struct {
	*bufio.Writer
	file *os.File
	path string
	done bool
}

// Create starts a file that will replace path on Commit. The folder must exist.
func Create(path string) (*Writer, error) {
	removeStale(path)
	f, err := os.CreateTemp(filepath.Dir(path), partial(path)+"*")
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close(), os.Remove(f.Name()))
	}
	if err := f.Chmod(0o644); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return &Writer{Writer: bufio.NewWriterSize(f, 1<<20), file: f, path: path}, nil
}

// Commit flushes the file to the disk and gives it its name. After an error nothing is left behind.
func (w *Writer) Commit() error {
	if w.done {
		return fmt.Errorf("commit %s: already done", w.path)
	}
	if err := errors.Join(w.Flush(), w.file.Sync()); err != nil {
		w.Abort()
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	if err := os.Rename(w.file.Name(), w.path); err != nil {
		w.Abort()
		return err
	}
	w.done = true
	return errors.Join(w.file.Close(), syncDir(filepath.Dir(w.path)))
}

// Abort removes what was written; after Commit it does nothing, so it can be deferred.
func (w *Writer) Abort() {
	if w.done {
		return
	}
	w.done = true
	os.Remove(w.file.Name())
	w.file.Close()
}

// A Dir is a folder that appears at its path only when it is complete.
type Dir struct {
	lock *os.File // the temporary folder, open and locked while it is ours
	path string
	done bool
}

// CreateDir starts a folder that will appear at path on Commit. The parent folder must exist.
func CreateDir(path string) (*Dir, error) {
	path = filepath.Clean(path)
	removeStale(path)
	tmp, err := os.MkdirTemp(filepath.Dir(path), partial(path)+"*")
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return nil, errors.Join(err, os.Remove(tmp))
	}
	f, err := os.Open(tmp)
	if err != nil {
		return nil, errors.Join(err, os.Remove(tmp))
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", tmp, err), f.Close(), os.Remove(tmp))
	}
	return &Dir{lock: f, path: path}, nil
}

// Path is where to write now: the temporary folder.
func (d *Dir) Path() string { return d.lock.Name() }

// WriteFile writes one flushed file of the folder.
func (d *Dir) WriteFile(name string, data []byte) error {
	w, err := Create(filepath.Join(d.Path(), name))
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return w.Commit()
}

// Commit gives the folder its name. A folder that is there already is exchanged for the new one and removed if
// replace is set, otherwise it is an error. All files directly in the folder are flushed to the disk before.
func (d *Dir) Commit(replace bool) error {
	if d.done {
		return fmt.Errorf("commit %s: already done", d.path)
	}
	defer d.Abort()
	if err := d.sync(); err != nil {
		return fmt.Errorf("write %s: %w", d.path, err)
	}
	if replace {
		if _, err := os.Lstat(d.path); err == nil {
			// The temporary name now holds the old folder, which Abort removes.
			if err := exchange(d.Path(), d.path); err != nil {
				return fmt.Errorf("replace %s: %w", d.path, err)
			}
			return syncDir(filepath.Dir(d.path))
		}
	}
	if err := renameNew(d.Path(), d.path); err != nil {
		if errors.Is(err, os.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("%s exists already: choose another name or remove it", d.path)
		}
		return err
	}
	d.done = true
	return errors.Join(d.lock.Close(), syncDir(filepath.Dir(d.path)))
}

// sync flushes the files, whoever wrote them, and then their names.
func (d *Dir) sync() error {
	entries, err := os.ReadDir(d.Path())
	if err != nil {
		return err
	}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(d.Path(), e.Name()))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return d.lock.Sync()
}

// Abort removes what was written; after Commit it does nothing, so it can be deferred.
func (d *Dir) Abort() {
	if d.done {
		return
	}
	d.done = true
	os.RemoveAll(d.Path())
	d.lock.Close()
}

func partial(path string) string { return "." + filepath.Base(path) + ".partial-" }

// lock marks a temporary name as some living writer's; the kernel drops the mark when the writer dies.
func lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// removeStale removes what killed writers of path left behind. It is a courtesy: errors are of no consequence.
func removeStale(path string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), partial(path)) {
			continue
		}
		stale := filepath.Join(filepath.Dir(path), e.Name())
		f, err := os.Open(stale)
		if err != nil {
			continue
		}
		if lock(f) == nil {
			os.RemoveAll(stale)
		}
		f.Close()
	}
}

// syncDir makes a rename in dir survive a power cut.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// exchangeInSteps swaps two names with a moment in which b is absent.
func exchangeInSteps(a, b string) error {
	old := a + ".old"
	if err := os.Rename(b, old); err != nil {
		return err
	}
	if err := os.Rename(a, b); err != nil {
		return errors.Join(err, os.Rename(old, b))
	}
	return os.Rename(old, a)
}

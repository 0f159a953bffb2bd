package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/seed-8780d58e/spin/pkg/file"
)

// jsonLines is a file of JSON lines, each there as soon as it is written, so that a long run can be
// followed. The zero value writes nothing.
type jsonLines struct{ f *os.File }

func newLines(path string) (*jsonLines, error) {
	if path == "" {
		return &jsonLines{}, nil
	}
	f, err := os.Create(path)
	return &jsonLines{f}, err
}

func (l *jsonLines) write(line any) error {
	if l.f == nil {
		return nil
	}
	data, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = l.f.Write(append(data, '\n'))
	return err
}

func (l *jsonLines) close() error {
	if l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	return f.Close()
}

// writeSummary writes sum as JSON to the file, which appears when it is whole; to out where path is
// empty.
func writeSummary(path string, out io.Writer, sum any) error {
	data, err := json.MarshalIndent(sum, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if path == "" {
		_, err = out.Write(data)
		return err
	}
	w, err := file.Create(path)
	if err != nil {
		return badInput(err)
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Commit()
}

// replaceable refuses a folder that holds anything but a checkpoint: the new one takes its place.
func replaceable(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "config.json")); err != nil {
		return fmt.Errorf("%s holds something else than a checkpoint: choose another folder", dir)
	}
	return nil
}

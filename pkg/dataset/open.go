package dataset

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// maxLine bounds a line of JSON, and with it a row.
const maxLine = 8 << 20

// Open reads rows from a .parquet file, or from JSON Lines in any other. skipped lists the bad rows if opts has SkipBad;
// without it the first is the error.
func Open(path string, opts Options) (rows []Row, skipped []*Problem, err error) {
	return open(path, opts, (*record).row, rowOf)
}

// Read is Open for JSON Lines that come from anywhere; name says where from.
func Read(r io.Reader, name string, opts Options) (rows []Row, skipped []*Problem, err error) {
	return collect(name, opts, lines(r, name), (*record).row, rowOf)
}

// OpenPairs is Open for pairs.
func OpenPairs(path string, opts Options) (pairs []Pair, skipped []*Problem, err error) {
	return open(path, opts, (*record).pair, func(p *Pair) *Row { return &p.Row })
}

func rowOf(r *Row) *Row { return r }

// source hands over the records of a file, each with its place, until it returns false. What it returns itself is what
// ended it; a Problem of one record goes to the callback.
type source func(each func(rec *record, place string, problem error) bool) error

func open[T any](path string, opts Options, read func(*record, string) (T, error), row func(*T) *Row) ([]T, []*Problem, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	src := lines(f, path)
	if strings.EqualFold(filepath.Ext(path), ".parquet") {
		info, err := f.Stat()
		if err != nil {
			return nil, nil, err
		}
		src = parquetRows(f, info.Size(), path)
	}
	return collect(path, opts, src, read, row)
}

func collect[T any](name string, opts Options, src source, read func(*record, string) (T, error), row func(*T) *Row) (items []T, skipped []*Problem, err error) {
	places := map[string]string{} // by prompt id
	var first *Problem
	err = src(func(rec *record, place string, problem error) bool {
		var item T
		if problem == nil {
			item, problem = read(rec, place)
		}
		if problem == nil && !opts.Duplicates {
			id := row(&item).PromptID
			if before, ok := places[id]; ok {
				problem = fmt.Errorf("the same prompt as %s, want each prompt once", before)
			} else {
				places[id] = place
			}
		}
		if problem == nil {
			items = append(items, item)
			return true
		}
		bad := &Problem{place, problem.Error()}
		if opts.SkipBad {
			skipped = append(skipped, bad)
			return true
		}
		first = bad
		return false
	})
	switch {
	case first != nil:
		return nil, nil, first
	case err != nil:
		return nil, nil, err
	case len(items) == 0:
		return nil, nil, fmt.Errorf("%s: no usable rows, %d skipped: %s", name, len(skipped), rowLayouts)
	}
	return items, skipped, nil
}

// lines reads JSON Lines. Empty lines are passed over.
func lines(r io.Reader, name string) source {
	return func(each func(*record, string, error) bool) error {
		in := bufio.NewReaderSize(r, 64<<10)
		for n := 1; ; n++ {
			line, err := readLine(in)
			place := fmt.Sprintf("%s:%d", name, n)
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return nil
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("%s: %w", place, err)
			}
			if n == 1 {
				line = bytes.TrimPrefix(line, []byte("\ufeff"))
			}
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			rec, problem := parseLine(line)
			if !each(rec, place, problem) {
				return nil
			}
		}
	}
}

// readLine returns the next line, of at most maxLine bytes, with io.EOF where it is the last.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return nil, fmt.Errorf("a line of more than %d bytes", maxLine)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

func parseLine(line []byte) (*record, error) {
	if !utf8.Valid(line) {
		return nil, fmt.Errorf("not UTF-8")
	}
	rec := new(record)
	if err := json.Unmarshal(line, rec); err != nil {
		return nil, fmt.Errorf("%w: want one JSON object a line", err)
	}
	return rec, nil
}

package harness

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/seed-8780d58e/spin/pkg/dataset"
)

// Bounds of a data set's files.
const (
	maxRow  = 16 << 20 // bytes of one row as JSON
	maxRows = 1 << 20
	maxFile = 1 << 30
)

// Data is a folder of data sets in the shapes that the hub has: Parquet, JSON Lines, JSON (BIG-bench's task.json) or CSV.
// A split of the data set allenai/ai2_arc, ARC-Challenge is looked for in the folders allenai/ai2_arc/ARC-Challenge,
// ai2_arc/ARC-Challenge, ARC-Challenge, ai2_arc, arc_challenge (the task) and their subfolder data, in files whose names begin with the
// split's (test-00000-of-00001.parquet), and beside the folders in files such as arc_challenge_test.jsonl.
type Data struct{ Dir string }

// extensions that a data file may have, the first found is taken.
func extensions() []string { return []string{".parquet", ".jsonl", ".json", ".csv"} }

// Rows reads a split of the task's data set.
func (d Data) Rows(t *Task, split string) ([]Document, error) {
	files, looked := d.find(t, split)
	if len(files) == 0 {
		return nil, fmt.Errorf("task %s: no %s split of its data: looked for %s", t.Name, split, strings.Join(looked, ", "))
	}
	var all []Document
	for _, f := range files {
		rows, err := read(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		if all = append(all, rows...); len(all) > maxRows {
			return nil, fmt.Errorf("%s: more than %d rows", f, maxRows)
		}
	}
	return all, nil
}

// find lists the split's files, in name order, and where it looked.
func (d Data) find(t *Task, split string) (files, looked []string) {
	base := filepath.Base(t.DatasetPath)
	var names []string
	for _, name := range []string{filepath.Join(t.DatasetPath, t.DatasetName), filepath.Join(base, t.DatasetName), t.DatasetName, t.Name, base} {
		if name != "" && name != "." && !slices.Contains(names, name) && filepath.IsLocal(name) {
			names = append(names, name)
		}
	}
	for _, ext := range extensions() {
		for _, name := range names {
			for _, pattern := range []string{
				filepath.Join(name, split+"-*"+ext), filepath.Join(name, split+ext), filepath.Join(name, "data", split+"-*"+ext), name + "_" + split + ext,
			} {
				found, err := filepath.Glob(filepath.Join(d.Dir, pattern))
				if err == nil && len(found) > 0 {
					slices.Sort(found)
					return found, nil
				}
				if strings.Contains(pattern, "*") && ext == ".parquet" || pattern == name+"_"+split+ext && ext == ".jsonl" {
					looked = append(looked, filepath.Join(d.Dir, pattern))
				}
			}
		}
	}
	for _, name := range names { // one file for all: the task has but one split
		for _, ext := range extensions() {
			if _, err := os.Stat(filepath.Join(d.Dir, name+ext)); err == nil && t.onlySplit() {
				return []string{filepath.Join(d.Dir, name+ext)}, nil
			}
		}
	}
	return nil, looked
}

// onlySplit reports whether the task reads one split only.
func (t *Task) onlySplit() bool { return t.evalSplit() == t.exampleSplit() }

func read(path string) ([]Document, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%d bytes, want at most %d", info.Size(), maxFile)
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".parquet":
		return readParquet(f, info.Size())
	case ".csv":
		return readCSV(f)
	case ".json":
		return readJSON(f)
	}
	return readLines(f)
}

// ordered is a JSON object whose order matters: BIG-bench's target_scores.
type ordered []struct {
	key   string
	value any
}

func (o *ordered) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("target_scores is no object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var v any
		if err := d.Decode(&v); err != nil {
			return err
		}
		*o = append(*o, struct {
			key   string
			value any
		}{key.(string), v})
	}
	return nil
}

// UnmarshalJSON reads a row.
func (d *Document) UnmarshalJSON(data []byte) error {
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	var in struct {
		Scores ordered `json:"target_scores"`
	}
	if _, ok := m["target_scores"].(map[string]any); ok {
		if err := json.Unmarshal(data, &in); err != nil {
			return err
		}
		m["target_scores"] = in.Scores
	}
	*d = m
	return nil
}

func readLines(r io.Reader) ([]Document, error) {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), maxRow)
	var rows []Document
	for n := 1; in.Scan(); n++ {
		line := bytes.TrimSpace(in.Bytes())
		if len(line) == 0 {
			continue
		}
		var d Document
		if err := json.Unmarshal(line, &d); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		rows = append(rows, d)
	}
	return rows, in.Err()
}

// readJSON reads a list of rows, or the examples of a BIG-bench task.json.
func readJSON(r io.Reader) ([]Document, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '[' {
		var rows []Document
		return rows, json.Unmarshal(trimmed, &rows)
	}
	var task struct{ Examples []Document }
	if err := json.Unmarshal(data, &task); err != nil {
		return nil, err
	}
	if len(task.Examples) == 0 {
		return nil, errors.New("neither a list of rows nor a BIG-bench task with examples")
	}
	return task.Examples, nil
}

func readCSV(r io.Reader) ([]Document, error) {
	in := csv.NewReader(bufio.NewReader(r))
	header, err := in.Read()
	if err != nil {
		return nil, err
	}
	header = slices.Clone(header)
	header[0] = strings.TrimPrefix(header[0], "\ufeff")
	var rows []Document
	for {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		d := Document{}
		for i, name := range header {
			d[name] = fields[i]
		}
		rows = append(rows, d)
	}
}

// readParquet reads all columns, each row in the form of its JSON.
func readParquet(f io.ReaderAt, size int64) (rows []Document, err error) {
	defer func() { // parquet-go panics on some damaged files
		if r := recover(); r != nil {
			rows, err = nil, fmt.Errorf("damaged Parquet file: %v", r)
		}
	}()
	if err := dataset.CheckParquet(f, size); err != nil {
		return nil, err
	}
	file, err := parquet.OpenFile(f, size)
	if err != nil {
		return nil, err
	}
	in := parquet.NewGenericReader[any](file, file.Schema())
	defer in.Close()
	buffer := make([]any, 64)
	for {
		n, err := in.Read(buffer)
		for _, row := range buffer[:n] {
			data, err := json.Marshal(row)
			if err != nil {
				return nil, fmt.Errorf("row %d: %w", len(rows)+1, err)
			}
			var d Document
			if len(data) > maxRow {
				return nil, fmt.Errorf("row %d has more than %d bytes", len(rows)+1, maxRow)
			}
			if err := json.Unmarshal(data, &d); err != nil {
				return nil, fmt.Errorf("row %d: %w", len(rows)+1, err)
			}
			rows = append(rows, d)
		}
		if errors.Is(err, io.EOF) || err == nil && n == 0 {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

package dataset

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go"
)

// parquetRows reads the known columns of a Parquet file. Each row is put into the form of a JSON line, so that both kinds
// of file mean the same.
func parquetRows(f io.ReaderAt, size int64, name string) source {
	return func(each func(*record, string, error) bool) (err error) {
		defer func() { // parquet-go panics on some damaged files
			if r := recover(); r != nil {
				err = fmt.Errorf("%s: damaged Parquet file: %v", name, r)
			}
		}()
		file, err := parquet.OpenFile(f, size)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		group := parquet.Group{}
		for _, field := range file.Schema().Fields() {
			if slices.Contains(columns(), field.Name()) {
				group[field.Name()] = field
			}
		}
		if len(group) == 0 {
			return fmt.Errorf("%s: no known columns: %s", name, rowLayouts)
		}
		rows := parquet.NewGenericReader[any](file, parquet.NewSchema("row", group))
		defer rows.Close()
		buffer := make([]any, 64)
		for n := 1; ; {
			count, err := rows.Read(buffer)
			for _, row := range buffer[:count] {
				place := fmt.Sprintf("%s: row %d", name, n)
				n++
				rec, problem := fromParquet(row)
				if !each(rec, place, problem) {
					return nil
				}
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s: row %d: %w", name, n, err)
			}
		}
	}
}

func fromParquet(row any) (*record, error) {
	line, err := json.Marshal(row)
	if err != nil {
		return nil, err
	}
	if len(line) > maxLine {
		return nil, fmt.Errorf("a row of more than %d bytes", maxLine)
	}
	return parseLine(line)
}

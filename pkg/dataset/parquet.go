package dataset

import (
	"encoding/binary"
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
		if err := CheckParquet(f, size); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
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

// maxFooter bounds a Parquet file's metadata.
const maxFooter = 64 << 20

// CheckParquet holds the length that a file's end claims for its metadata against the file, before parquet-go takes that
// much memory (Parquet format: a file ends with the metadata, its length in 4 bytes, little-endian, and "PAR1").
func CheckParquet(f io.ReaderAt, size int64) error {
	var tail [8]byte
	if size < 12 {
		return fmt.Errorf("%d bytes are no Parquet file", size)
	}
	if _, err := f.ReadAt(tail[:], size-8); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if string(tail[4:]) != "PAR1" {
		return fmt.Errorf(`no Parquet file, which would end with "PAR1", or an encrypted one`)
	}
	if n := int64(binary.LittleEndian.Uint32(tail[:])); n > size-12 || n > maxFooter {
		return fmt.Errorf("damaged Parquet file: %d bytes of metadata in a file of %d", n, size)
	}
	return nil
}

package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// RowsDigest is a SHA-256, in hexadecimal, over all that a run's rows say and
// nothing that depends on luck: for each table with content columns, in name
// order, the names of these columns, then its rows in key order, each as the
// SHA-256 of its content columns in RowBinary (values little-endian, strings and
// arrays with their length). Which columns are content is read from their
// comments. The run's id is a circumstance, so two runs of one spec agree.
func (s *Store) RowsDigest(ctx context.Context, run string) (string, error) {
	tables, err := s.Schema(ctx)
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	for _, t := range tables {
		var content []string
		for _, c := range t.Columns {
			if c.Content {
				content = append(content, "`"+c.Name+"`")
			}
		}
		if t.View || len(content) == 0 {
			continue
		}
		fmt.Fprintf(digest, "%s %s\n", t.Name, strings.Join(content, " "))
		sql := "SELECT SHA256(formatRowNoNewline('RowBinary', " + strings.Join(content, ", ") + "))" +
			" FROM " + t.Name + " FINAL WHERE run_id = {run:String} ORDER BY " + t.Key
		rows, err := s.db.Query(ctx, sql, clickhouse.Named("run", run))
		if err != nil {
			return "", fmt.Errorf("digest %s: %w", t.Name, err)
		}
		for rows.Next() {
			var row string
			if err := rows.Scan(&row); err != nil {
				rows.Close()
				return "", fmt.Errorf("digest %s: %w", t.Name, err)
			}
			digest.Write([]byte(row))
		}
		if err := rows.Err(); err != nil {
			return "", fmt.Errorf("digest %s: %w", t.Name, err)
		}
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// TableDigest says what one table holds of a run.
type TableDigest struct {
	Table  string
	Rows   uint64
	SHA256 string // over the rows in key order, each as the SHA-256 of its content columns in RowBinary
}

// RowsDigest is a SHA-256, in hexadecimal, over all that a run's rows say and
// nothing that depends on luck. It is over the lines "table rows sha256\n" of
// TableDigests. The run's id is a circumstance, so two runs of one spec agree.
func (s *Store) RowsDigest(ctx context.Context, run string) (string, error) {
	tables, err := s.TableDigests(ctx, run)
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	for _, t := range tables {
		fmt.Fprintf(digest, "%s %d %s\n", t.Table, t.Rows, t.SHA256)
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// TableDigests are the digests of the tables that have content columns, in name
// order: where two runs' RowsDigest differ, they say in what. Which columns are
// content is read from their comments (Schema); they are hashed in declared
// order.
func (s *Store) TableDigests(ctx context.Context, run string) ([]TableDigest, error) {
	tables, err := s.Schema(ctx)
	if err != nil {
		return nil, err
	}
	var out []TableDigest
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
		d, err := s.tableDigest(ctx, t, content, run)
		if err != nil {
			return nil, fmt.Errorf("digest %s: %w", t.Name, err)
		}
		out = append(out, d)
	}
	return out, nil
}

func (s *Store) tableDigest(ctx context.Context, t Table, content []string, run string) (TableDigest, error) {
	d := TableDigest{Table: t.Name}
	rows, err := s.db.Query(ctx, "SELECT SHA256(formatRowNoNewline('RowBinary', "+strings.Join(content, ", ")+"))"+
		" FROM "+t.Name+" FINAL WHERE run_id = {run:String} ORDER BY "+t.Key, clickhouse.Named("run", run))
	if err != nil {
		return d, err
	}
	defer rows.Close()
	digest := sha256.New()
	var row string
	for rows.Next() {
		if err := rows.Scan(&row); err != nil {
			return d, err
		}
		digest.Write([]byte(row))
		d.Rows++
	}
	d.SHA256 = hex.EncodeToString(digest.Sum(nil))
	return d, rows.Err()
}

package store

import (
	"context"
	"fmt"
	"strings"
)

// Table is a table or view of the database, as its comments describe it.
type Table struct {
	Name    string
	Comment string
	View    bool
	Key     string // its rows' identity, an expression list; "" for a view
	Columns []Column
}

// Column of a Table. A view's columns have no comment and no kind.
type Column struct {
	Name    string
	Type    string
	Content bool   // part of rows_digest: the comment began with "content:"
	Made    bool   // by ClickHouse from other columns; SELECT * leaves it out
	Comment string // without that prefix
}

// Schema reads the tables and views that the migrations made, in name order,
// their columns in declared order. A table's column whose comment says neither
// content: nor circumstance: is an error.
func (s *Store) Schema(ctx context.Context) ([]Table, error) {
	rows, err := s.db.Query(ctx, `
		SELECT t.name, t.comment, t.engine = 'View', t.sorting_key, c.name, c.type, c.comment, c.default_kind = 'MATERIALIZED'
		FROM system.columns AS c INNER JOIN system.tables AS t ON t.database = c.database AND t.name = c.table
		WHERE c.database = currentDatabase() AND NOT startsWith(t.name, 'goose_') AND NOT startsWith(t.name, '.inner')
		ORDER BY t.name, c.position`)
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	defer rows.Close()
	var tables []Table
	for rows.Next() {
		var t Table
		var c Column
		var view, made uint8
		if err := rows.Scan(&t.Name, &t.Comment, &view, &t.Key, &c.Name, &c.Type, &c.Comment, &made); err != nil {
			return nil, fmt.Errorf("read the schema: %w", err)
		}
		t.View, c.Made = view == 1, made == 1
		if n := len(tables); n == 0 || tables[n-1].Name != t.Name {
			tables = append(tables, t)
		}
		if !t.View {
			kind, rest, _ := strings.Cut(c.Comment, ": ")
			if kind != "content" && kind != "circumstance" {
				return nil, fmt.Errorf("column %s.%s: its comment %q begins with neither content: nor circumstance: as it must", t.Name, c.Name, c.Comment)
			}
			c.Content, c.Comment = kind == "content", rest
		}
		last := &tables[len(tables)-1]
		last.Columns = append(last.Columns, c)
	}
	return tables, rows.Err()
}

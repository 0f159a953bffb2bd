package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Batch is what one Insert writes: rows of any tables. One message may make
// rows of several (a Game is a game, a prompt and its samples), so a range of a
// stream is one Batch under one token.
type Batch struct {
	Runs        []Run
	Iterations  []Iteration
	Checkpoints []Checkpoint
	Prompts     []Prompt
	Games       []Game
	Samples     []Sample
	Pairs       []Pair
	Steps       []Step
	Scores      []Score
	Events      []Event
}

// tables pairs each table's name with the batch's rows, a slice of structs.
func (b *Batch) tables() []table {
	return []table{
		{"runs", reflect.ValueOf(b.Runs)},
		{"iterations", reflect.ValueOf(b.Iterations)},
		{"checkpoints", reflect.ValueOf(b.Checkpoints)},
		{"prompts", reflect.ValueOf(b.Prompts)},
		{"games", reflect.ValueOf(b.Games)},
		{"samples", reflect.ValueOf(b.Samples)},
		{"pairs", reflect.ValueOf(b.Pairs)},
		{"steps", reflect.ValueOf(b.Steps)},
		{"scores", reflect.ValueOf(b.Scores)},
		{"events", reflect.ValueOf(b.Events)},
	}
}

type table struct {
	name string
	rows reflect.Value
}

// columns are the ch tags of the row type, in order.
func (t table) columns() []string {
	row := t.rows.Type().Elem()
	names := make([]string, row.NumField())
	for i := range names {
		names[i] = row.Field(i).Tag.Get("ch")
	}
	return names
}

// Len is the number of rows.
func (b *Batch) Len() int {
	n := 0
	for _, t := range b.tables() {
		n += t.rows.Len()
	}
	return n
}

// Rows calls yield for each table that the batch has rows for, with their number.
func (b *Batch) Rows(yield func(table string, rows int)) {
	for _, t := range b.tables() {
		if n := t.rows.Len(); n > 0 {
			yield(t.name, n)
		}
	}
}

// Reset empties the batch and keeps its memory for the next rows.
func (b *Batch) Reset() {
	clear(b.Runs)
	clear(b.Iterations)
	clear(b.Checkpoints)
	clear(b.Prompts)
	clear(b.Games)
	clear(b.Samples)
	clear(b.Pairs)
	clear(b.Steps)
	clear(b.Scores)
	clear(b.Events)
	*b = Batch{
		b.Runs[:0], b.Iterations[:0], b.Checkpoints[:0], b.Prompts[:0], b.Games[:0], b.Samples[:0], b.Pairs[:0], b.Steps[:0], b.Scores[:0], b.Events[:0],
	}
}

// MaxRows is how many rows of one table one Insert takes: they must be one block
// of ClickHouse, since deduplication is by block.
const MaxRows = 100_000

// ErrToken says that Insert was called without a token.
var ErrToken = errors.New("insert: empty token")

// Insert writes the batch exactly once: calling it again with the same token and
// an equal batch, after any failure, crash or lost answer, adds nothing that is
// there already. So the caller needs to remember the token and how to make the
// batch again *before* the first try (the recorder: a range of a stream's
// sequences, written ahead to its control key). The tables are written one
// after the other; those that a failed Insert had reached are skipped by the next.
//
// ClickHouse remembers a table's last 1,000 tokens: an Insert that may have
// happened must be repeated before a thousand others.
func (s *Store) Insert(ctx context.Context, token string, b *Batch) error {
	if token == "" {
		return ErrToken
	}
	for _, t := range b.tables() {
		if n := t.rows.Len(); n > MaxRows {
			return fmt.Errorf("insert %s: %d rows of %s, at most %d fit one block", token, n, t.name, MaxRows)
		}
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"insert_deduplicate":         1,
		"insert_deduplication_token": token,
		"async_insert":               0, // its buffer would cut the blocks anew
		"deduplicate_blocks_in_dependent_materialized_views": 1,
	}))
	for _, t := range b.tables() {
		if t.rows.Len() == 0 {
			continue
		}
		if err := s.insertTable(ctx, t); err != nil {
			return fmt.Errorf("insert %s into %s: %w", token, t.name, err)
		}
	}
	return nil
}

func (s *Store) insertTable(ctx context.Context, t table) error {
	names := t.columns()
	batch, err := s.db.PrepareBatch(ctx, "INSERT INTO "+t.name+" ("+strings.Join(names, ", ")+")")
	if err != nil {
		return err
	}
	defer batch.Close()
	columns := batch.Columns()
	if len(columns) != len(names) {
		return fmt.Errorf("the table gives %d columns, asked for %d", len(columns), len(names))
	}
	for i, c := range columns {
		if err := appendColumn(c, t.rows, i); err != nil {
			return fmt.Errorf("column %s: %w", c.Name(), err)
		}
	}
	return batch.Send()
}

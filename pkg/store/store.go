// Package store is the archive: every sample, pair, step, score and checkpoint
// of every run as a row of ClickHouse. The recorder writes it, by Insert; people
// read it, by SQL (Query) or through the few queries here.
//
// The same code speaks to the engine inside the process (pkg/store/embedded) and
// to a real server, by HTTP or by the native protocol. The tables are made by
// migrations/*.sql and described, comment by comment, in SCHEMA.md.
package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/pressly/goose/v3"
)

//go:generate env SPIN_WRITE_SCHEMA=1 SPIN_CHDB_REQUIRED=1 go test -count=1 -run ^TestSchemaMD$ .

//go:embed migrations/*.sql
var migrations embed.FS

// Store is one ClickHouse database. It is safe for concurrent use.
type Store struct {
	options *clickhouse.Options
	db      driver.Conn
	http    *url.URL // nil: not reachable by HTTP
	client  *http.Client
}

// Open connects and checks the connection. It makes no tables: Migrate does.
func Open(ctx context.Context, o Options) (*Store, error) {
	opt, web, client, err := o.dial()
	if err != nil {
		return nil, err
	}
	s := &Store{options: opt, http: web, client: client}
	if s.db, err = clickhouse.Open(opt); err != nil {
		return nil, fmt.Errorf("open clickhouse %s: %w", redact(o.URL), err)
	}
	if err := s.db.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open clickhouse %s: %w", redact(o.URL), err), s.db.Close())
	}
	return s, nil
}

// Ping asks whether ClickHouse answers.
func (s *Store) Ping(ctx context.Context) error { return s.db.Ping(ctx) }

// Close ends the connections.
func (s *Store) Close() error { return s.db.Close() }

// Migrate brings the tables and views to this version. Any number of times, and
// after a migration that was cut short, it ends in the same schema.
func (s *Store) Migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	db := clickhouse.OpenDB(s.options)
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectClickHouse, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate clickhouse: %w", err)
	}
	return nil
}

// Remove deletes a run's rows from every table.
func (s *Store) Remove(ctx context.Context, run string) error {
	tables, err := s.Schema(ctx)
	if err != nil {
		return err
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"lightweight_deletes_sync": 2}))
	for _, t := range tables {
		if t.View {
			continue
		}
		if err := s.db.Exec(ctx, "DELETE FROM "+t.Name+" WHERE run_id = {run:String}", clickhouse.Named("run", run)); err != nil {
			return fmt.Errorf("remove run %s from %s: %w", run, t.Name, err)
		}
	}
	return nil
}

// redact takes the password out of a URL, for messages.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(unreadable)"
	}
	return u.Redacted()
}

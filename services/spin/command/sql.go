package command

import (
	"bufio"
	"context"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/store"
	clickhouse "github.com/seed-8780d58e/spin/pkg/store/embedded"
)

// sql asks ClickHouse, also while a run goes on.
type sql struct {
	places
	format string
}

func (c *sql) flags(f *pflag.FlagSet) {
	c.places.flags(f)
	f.StringVar(&c.format, "format", "", "any format of ClickHouse by its name, e.g. JSONEachRow, CSVWithNames, Parquet (default: aligned on a terminal, else TabSeparatedWithNames)")
}

func (c *sql) run(ctx context.Context, args []string, s Streams) error {
	if len(args) != 1 {
		return badInput(fmt.Errorf("want one argument, the statement in quotes: spin sql 'SELECT …'"))
	}
	options, stop, err := c.reach(ctx)
	if err != nil {
		return badInput(err)
	}
	defer stop()
	db, err := store.Open(ctx, options)
	if err != nil {
		return badInput(err)
	}
	defer db.Close()
	format := c.format
	if format == "" {
		format = "TabSeparatedWithNames"
		if isTerminal(s.Out) {
			format = "PrettyCompactMonoBlock"
		}
	}
	w := bufio.NewWriter(s.Out)
	if err := db.Query(ctx, args[0], format, w); err != nil {
		w.Flush()
		return badInput(err)
	}
	return w.Flush()
}

// reach finds the ClickHouse to ask: the one that the flags name, that of a run which goes on in the
// folder, or an engine of our own on the folder.
func (c *sql) reach(ctx context.Context) (store.Options, func() error, error) {
	options := c.store
	if options.URL != "" {
		return options, func() error { return nil }, nil
	}
	if _, err := os.Stat(c.clickhouse()); err != nil {
		return options, nil, fmt.Errorf("%s holds no run: give --dir, the folder of one, or --clickhouse-url", c.dir)
	}
	cfg := c.engine
	cfg.Dir = c.clickhouse()
	url, stop, err := clickhouse.Reach(ctx, cfg)
	options.URL = url
	return options, stop, err
}

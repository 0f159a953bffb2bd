package command

import (
	"bufio"
	"context"
	"fmt"

	"github.com/spf13/pflag"
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
	db, stop, err := c.openStore(ctx)
	if err != nil {
		return err
	}
	defer stop()
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

package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/store"
)

// migrate makes a server's tables. The recorder does so too where it may; where its user can only
// insert, an administrator says this once for each version.
type migrate struct{ store store.Options }

func (c *migrate) flags(f *pflag.FlagSet) {
	c.store.Flags(f)
	f.Lookup("clickhouse-url").Usage = "ClickHouse server, http://host:8123/database, https:// or clickhouse://host:9000/database"
}

func (c *migrate) run(ctx context.Context, args []string, s Streams) error {
	switch {
	case len(args) > 0:
		return badInput(fmt.Errorf("want no argument, got %q", args[0]))
	case c.store.URL == "":
		return badInput(errors.New("--clickhouse-url is missing"))
	}
	if err := c.store.Check(); err != nil {
		return badInput(err)
	}
	db, err := store.Open(ctx, c.store)
	if err != nil {
		return badInput(err)
	}
	if err := errors.Join(db.Migrate(ctx), db.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.Out, "the tables are those of this version")
	return err
}

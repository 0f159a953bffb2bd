package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/seed-8780d58e/spin/pkg/store"
	clickhouse "github.com/seed-8780d58e/spin/pkg/store/embedded"
)

// openStore opens the ClickHouse to ask: the one that the flags name, that of a run which goes on in
// the folder, or an engine of our own on the folder. stop closes it.
func (p *places) openStore(ctx context.Context) (db *store.Store, stop func() error, err error) {
	options, leave, err := p.reach(ctx)
	if err != nil {
		return nil, nil, badInput(err)
	}
	if db, err = store.Open(ctx, options); err != nil {
		return nil, nil, badInput(errors.Join(err, leave()))
	}
	return db, func() error { return errors.Join(db.Close(), leave()) }, nil
}

func (p *places) reach(ctx context.Context) (store.Options, func() error, error) {
	options := p.store
	if err := options.Check(); err != nil {
		return options, nil, err
	}
	if options.URL != "" {
		return options, func() error { return nil }, nil
	}
	if _, err := os.Stat(p.clickhouse()); err != nil {
		return options, nil, fmt.Errorf("%s holds no run: give --dir, the folder of one, or --clickhouse-url", p.dir)
	}
	cfg := p.engine
	cfg.Dir = p.clickhouse()
	url, stop, err := clickhouse.Reach(ctx, cfg)
	options.URL = url
	return options, stop, err
}

// pick finds the place of a run in a list of ids, the newest first, by its id or the beginning of
// it; the newest where wanted is empty.
func pick(ids []string, wanted string) (int, error) {
	found := -1
	for i, id := range ids {
		switch {
		case wanted == "" || id == wanted:
			return i, nil
		case !strings.HasPrefix(id, wanted):
		case found >= 0:
			return 0, fmt.Errorf("more than one run begins with %s: %s, %s", wanted, ids[found], id)
		default:
			found = i
		}
	}
	switch {
	case len(ids) == 0:
		return 0, errors.New("no run is there yet")
	case found < 0:
		return 0, fmt.Errorf("no run %s; there are %s", wanted, strings.Join(ids[:min(len(ids), 5)], ", "))
	}
	return found, nil
}

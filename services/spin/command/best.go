package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/services/process"
)

// best is the flags that say of which run the best weights are wanted, and where its blobs lie.
type best struct {
	places
	broker
	folders process.Folders
	wanted  bool
	id      string
}

func (c *best) flags(f *pflag.FlagSet) {
	f.BoolVar(&c.wanted, "best", false, "instead of --model: of a run, the weights with the lowest held-out human NLL (view best_checkpoint)")
	f.StringVar(&c.id, "run", "", "its id or the beginning of one (default: the newest)")
	c.places.flags(f)
	c.broker.flags(f)
	c.folders.Flags(f)
	f.Lookup("blob-url").Usage += " (default: those of --dir)"
}

// fetch puts the files of the best weights into a folder of its own, which the caller removes.
func (c *best) fetch(ctx context.Context) (dir string, of store.Best, err error) {
	db, stop, err := c.places.openStore(ctx)
	if err != nil {
		return "", of, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	r, err := findRecord(ctx, db, c.id)
	if err != nil {
		return "", of, badInput(err)
	}
	of, err = db.Best(ctx, r.RunID)
	if errors.Is(err, store.ErrNotFound) {
		return "", of, badInput(fmt.Errorf("run %s has no measured checkpoint yet: --best needs held-out prompts (data.heldout) and an evaluator", r.RunID))
	}
	if err != nil {
		return "", of, err
	}
	c.folders.Default(c.places.blobs())
	if err := c.folders.Check(); err != nil {
		return "", of, err
	}
	var conn *bus.Conn
	if c.broker.set.Changed("nats-url") {
		var disconnect func() error
		if conn, disconnect, err = c.connect(ctx, false); err != nil {
			return "", of, err
		}
		defer func() { err = errors.Join(err, disconnect()) }()
	}
	blobs, scratch, err := c.folders.Open(ctx, conn, false)
	if err != nil {
		return "", of, err
	}
	if dir, err = os.MkdirTemp(scratch, "best-"); err != nil {
		return "", of, badInput(err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	for i, digest := range of.FileSHA256s {
		there, err := blobs.Has(ctx, digest)
		if err == nil && !there {
			err = badInput(fmt.Errorf("the best weights of run %s, %s %d with NLL %.4f, are not among its blobs any more: retention.best keeps them", r.RunID, of.Phase, of.Iteration, of.NLL))
		}
		if err == nil {
			err = blobs.Fetch(ctx, digest, filepath.Join(dir, filepath.Base(of.Files[i])))
		}
		if err != nil {
			return "", of, err
		}
	}
	return dir, of, nil
}

package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/services/process"
	"github.com/seed-8780d58e/spin/services/trainer/train"
)

// remove takes away all that a run has left: its rows, its messages, its state, and the blobs that no
// other run's checkpoint names. Interrupted, it is said again.
type remove struct {
	places
	broker
	folders process.Folders
}

func (c *remove) flags(f *pflag.FlagSet) {
	c.places.flags(f)
	c.broker.flags(f)
	c.folders.Flags(f)
	f.Lookup("blob-url").Usage += " (default: blobs in --dir)"
}

func (c *remove) run(ctx context.Context, args []string, s Streams) error {
	if len(args) != 1 {
		return badInput(errors.New("want one argument, the run: spin rm RUN"))
	}
	conn, disconnect, err := c.connect(ctx, false)
	if err != nil {
		return err
	}
	defer disconnect()
	r, _, err := findRun(ctx, conn, args[0])
	if err != nil {
		return err
	}
	if r.Status == run.Submitted || r.Status == run.Running {
		return badInput(fmt.Errorf("run %s is %s: abort it first, `spin abort %s`", r.ID, r.Status, r.ID))
	}
	var blobs *blob.Store
	if _, err := os.Stat(c.blobs()); err == nil || c.folders.Given() {
		c.folders.Default(c.blobs())
		if blobs, _, err = c.folders.Open(ctx, conn, false); err != nil {
			return err
		}
	}
	freed, err := c.removeFiles(ctx, conn, blobs, r.ID)
	if err != nil {
		return err
	}
	if err := c.removeRows(ctx, r.ID); err != nil {
		return err
	}
	if err := removeMessages(ctx, conn, r.ID); err != nil {
		return err
	}
	swept, err := sweep(ctx, conn, blobs)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "run %s is removed, %.1f MiB of checkpoints with it\n", r.ID, float64(freed+swept)/(1<<20))
	return err
}

// removeFiles drops the run's checkpoints.
func (c *remove) removeFiles(ctx context.Context, conn *bus.Conn, blobs *blob.Store, id string) (freed int64, err error) {
	if blobs != nil {
		if freed, err = train.DropCheckpoints(ctx, conn, blobs, id, func(*event.Checkpoint) bool { return false }); err != nil {
			return freed, err
		}
	}
	if err := train.DropSave(ctx, conn, blobs, id); err != nil {
		return freed, err
	}
	return freed, os.RemoveAll(filepath.Join(c.checkpoints(), id))
}

// sweep drops what nobody names, where no run is at work that may just be about to.
func sweep(ctx context.Context, conn *bus.Conn, blobs *blob.Store) (freed int64, err error) {
	entries, err := conn.Control().List(ctx, run.KeyPattern)
	if err != nil || blobs == nil {
		return 0, err
	}
	for _, e := range entries {
		r, _, err := bus.State[run.Run]{Bucket: conn.Control()}.Load(ctx, e.Key)
		if err != nil || !r.Status.Final() {
			return 0, err
		}
	}
	return train.SweepBlobs(ctx, conn, blobs)
}

func (c *remove) removeRows(ctx context.Context, id string) error {
	db, stop, err := c.openStore(ctx)
	if err != nil {
		return err
	}
	return errors.Join(db.Remove(ctx, id), stop())
}

// removeMessages empties the run's subjects; its key goes last, so that until then it can be named.
func removeMessages(ctx context.Context, conn *bus.Conn, id string) error {
	if err := conn.CloseQueue(ctx, id); err != nil {
		return err
	}
	for _, t := range tapped {
		if err := conn.Purge(ctx, t.stream, event.Filter(id, t.kind), 0); err != nil {
			return err
		}
	}
	for _, pattern := range []string{run.IterationPattern(id), run.AnswerPattern(id), run.GamesPattern(id), run.Key(id)} {
		entries, err := conn.Control().List(ctx, pattern)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := conn.Control().Delete(ctx, e.Key, e.Revision); err != nil {
				return err
			}
		}
	}
	return nil
}

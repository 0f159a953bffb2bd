package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// steer pauses, resumes or aborts a run: one compare-and-set on its state, which its trainer watches.
type steer struct {
	broker
	command run.Command
	reason  string
}

func (c *steer) flags(f *pflag.FlagSet) {
	f.StringVar(&c.reason, "reason", "", "why, for people")
	c.broker.flags(f)
}

func (c *steer) run(ctx context.Context, args []string, s Streams) error {
	if len(args) != 1 {
		return badInput(fmt.Errorf("want one argument, the run: spin %s RUN", c.command))
	}
	conn, disconnect, err := c.connect(ctx, false)
	if err != nil {
		return err
	}
	defer disconnect()
	r, err := command(ctx, conn, args[0], c.command, c.reason)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "run %s is %s\n", r.ID, r.Status)
	return err
}

// command changes a run's status, over whatever others change meanwhile.
func command(ctx context.Context, conn *bus.Conn, id string, c run.Command, reason string) (run.Run, error) {
	for {
		r, revision, err := findRun(ctx, conn, id)
		if err != nil {
			return r, err
		}
		next, err := r.Apply(c, reason)
		if err != nil {
			return r, badInput(fmt.Errorf("run %s: %w", r.ID, err))
		}
		_, err = bus.State[run.Run]{Bucket: conn.Control()}.Swap(ctx, run.Key(r.ID), next, revision)
		if !errors.Is(err, bus.ErrConflict) {
			return next, err
		}
	}
}

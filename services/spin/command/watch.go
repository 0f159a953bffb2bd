package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// watch shows the progress of a run that goes on elsewhere, as `spin run` would, until its end.
type watch struct {
	broker
	logging
	id string
}

func (c *watch) flags(f *pflag.FlagSet) {
	f.StringVar(&c.id, "run", "", "run id or the beginning of one (default: the newest)")
	c.broker.flags(f)
	c.logging.flags(f)
}

// errOver ends the watching of a run that has ended.
var errOver = errors.New("over")

func (c *watch) run(ctx context.Context, _ []string, s Streams) error {
	screen := newScreen(s, c.JSON())
	log, err := c.logger(screen)
	if err != nil {
		return err
	}
	conn, disconnect, err := c.connect(ctx, true)
	if err != nil {
		return err
	}
	defer disconnect()
	r, _, err := findRun(ctx, conn, c.id)
	if err != nil {
		return err
	}
	p := newProgress(conn, r, newDisplay(screen, log))
	p.alarms = true
	stop := p.follow(ctx)
	var last run.Run
	err = bus.State[run.Run]{Bucket: conn.Control()}.Watch(ctx, run.Key(r.ID), func(_ string, now *run.Run, _ uint64) error {
		if now == nil {
			return errOver
		}
		if now.Status != last.Status {
			log.Info().Str("run", now.ID).Str("reason", now.Reason).Msg("run is " + string(now.Status))
		}
		last = *now
		if now.Status.Final() || now.Status == run.Broken {
			return errOver
		}
		return nil
	})
	stop()
	switch {
	case !errors.Is(err, errOver):
		return err
	case last.Status != run.Finished:
		return fmt.Errorf("run %s is %s: %s", r.ID, last.Status, last.Reason)
	}
	return nil
}

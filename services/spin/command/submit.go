package command

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"
)

// submit hands a run file to the services of a fleet and prints the run's id. A file that is
// submitted twice is one run.
type submit struct {
	broker
	machine
	specFlags
}

func (c *submit) flags(f *pflag.FlagSet) {
	c.broker.flags(f)
	c.machine.flags(f)
	c.specFlags.flags(f)
}

func (c *submit) run(ctx context.Context, args []string, s Streams) error {
	switch {
	case len(args) > 1 || len(args) == 1 && c.config != "":
		return badInput(fmt.Errorf("want one run file: spin submit run.yaml"))
	case len(args) == 1:
		c.config = args[0]
	}
	spec, err := c.spec()
	if err != nil {
		return badInput(err)
	}
	p, err := c.prepare(&c.machine, spec)
	if err != nil {
		return err
	}
	defer p.close()
	conn, disconnect, err := c.connect(ctx, false)
	if err != nil {
		return err
	}
	defer disconnect()
	r, err := findOrSubmit(ctx, conn, p.spec)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.Out, r.ID)
	return err
}

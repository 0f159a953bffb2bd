package command

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/file"
	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/services/spin/page"
)

// report writes a run as one HTML page, also while it goes on; several runs side by side.
type report struct {
	places
	id     string
	output string
}

func (c *report) flags(f *pflag.FlagSet) {
	f.StringVar(&c.id, "run", "", "run id (default: the newest)")
	f.StringVar(&c.output, "output", "report.html", "file for the page; - is standard output")
	c.places.flags(f)
}

func (c *report) run(ctx context.Context, args []string, s Streams) error {
	switch {
	case len(args) > page.MostRuns:
		return badInput(fmt.Errorf("%d runs: want %d at most on one page", len(args), page.MostRuns))
	case len(args) > 0 && c.id != "":
		return badInput(fmt.Errorf("--run and %s: give one of them", args[0]))
	case len(args) == 0:
		args = []string{c.id}
	}
	db, stop, err := c.openStore(ctx)
	if err != nil {
		return err
	}
	defer stop()
	runs := make([]store.Run, len(args))
	var ids []string
	for i, id := range args {
		if runs[i], err = findRecord(ctx, db, id); err != nil {
			return badInput(err)
		}
		if slices.Contains(ids, runs[i].RunID) {
			return badInput(fmt.Errorf("run %s is given twice", runs[i].RunID))
		}
		ids = append(ids, runs[i].RunID)
	}
	if c.output == "-" {
		return page.Write(ctx, db, runs, s.Out)
	}
	w, err := file.Create(c.output)
	if err != nil {
		return badInput(err)
	}
	defer w.Abort()
	if err := page.Write(ctx, db, runs, w); err != nil {
		return err
	}
	if err := w.Commit(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "run %s: %s\n", strings.Join(ids, ", "), c.output)
	return err
}

// findRecord returns the recorded run that pick finds.
func findRecord(ctx context.Context, db *store.Store, id string) (store.Run, error) {
	runs, err := db.Runs(ctx)
	if err != nil {
		return store.Run{}, err
	}
	ids := make([]string, len(runs))
	for i := range runs {
		ids[i] = runs[i].RunID
	}
	i, err := pick(ids, id)
	if err != nil {
		return store.Run{}, err
	}
	return runs[i], nil
}

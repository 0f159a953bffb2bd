package command

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/services/process"
)

// submit hands a run file to the services of a fleet and prints the run's id. A file that is
// submitted twice is one run. Model and data go along into the blob store, so that no other machine
// needs to have them where this one does.
type submit struct {
	broker
	machine
	specFlags
	folders process.Folders
}

func (c *submit) flags(f *pflag.FlagSet) {
	c.broker.flags(f)
	c.machine.flags(f)
	c.specFlags.flags(f)
	c.folders.Flags(f)
	f.Lookup("blob-url").Usage += " (default: the trainer finds model and data by their paths)"
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
	if c.folders.Given() {
		blobs, _, err := c.folders.Open(ctx, conn, false)
		if err != nil {
			return err
		}
		if err := upload(ctx, blobs, &p.spec); err != nil {
			return err
		}
	}
	r, err := findOrSubmit(ctx, conn, p.spec)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.Out, r.ID)
	return err
}

// modelFiles are what a Hugging Face directory needs to hold for us.
var modelFiles = [...]string{".safetensors", ".json", ".jinja", ".model", ".txt"}

// upload puts the model's and the data's files into the blob store, and the spec's paths become their
// digests there. Where they lie is no part of what a run computes.
func upload(ctx context.Context, blobs *blob.Store, spec *run.Spec) error {
	for _, path := range []*string{&spec.Model.Path, &spec.Data.Path} {
		digest, err := blobs.PutTree(ctx, *path, func(name string) bool { return slices.Contains(modelFiles[:], filepath.Ext(name)) })
		if err != nil {
			return err
		}
		*path = blob.TreePath(digest, filepath.Base(*path))
	}
	return nil
}

package train

import (
	"context"
	"fmt"
	"os"

	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// fetchSources is the run's spec with its model and data as paths of this machine: what was submitted
// into the blob store is fetched from there. After forget such files are gone, but for whoever has
// them open.
func (l *lead) fetchSources(ctx context.Context) (spec run.Spec, forget func(), err error) {
	spec, forget = l.run.Spec, func() {}
	for what, path := range map[string]*string{"model": &spec.Model.Path, "data": &spec.Data.Path} {
		digest, stored := blob.ParseTreePath(*path)
		if !stored {
			continue
		}
		dir, err := os.MkdirTemp(l.cfg.Scratch, what+"-*")
		if err != nil {
			forget()
			return spec, nil, err
		}
		before := forget
		forget = func() { before(); os.RemoveAll(dir) }
		if *path, err = l.blobs.FetchTree(ctx, digest, dir); err != nil {
			forget()
			return spec, nil, fmt.Errorf("fetch the %s of the run: %w", what, err)
		}
	}
	return spec, forget, nil
}

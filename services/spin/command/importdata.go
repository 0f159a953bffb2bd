package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/dataset"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/store"
)

// importData puts pairs that others have published into ClickHouse as a run of their own, so that they can be asked about
// beside one's own: texts only, since nobody says which tokens and log-probabilities they had.
type importData struct {
	places
	name      string
	iteration uint32
	skipBad   bool
}

func (c *importData) flags(f *pflag.FlagSet) {
	f.StringVar(&c.name, "name", "", "name of the run that is made (default: that of the first file)")
	f.Uint32Var(&c.iteration, "iteration", 0, "iteration that the answers were generated in")
	f.BoolVar(&c.skipBad, "skip-bad-rows", false, "leave out rows that can't be used, and count them")
	c.places.flags(f)
}

func (c *importData) run(ctx context.Context, args []string, s Streams) error {
	if len(args) == 0 {
		return badInput(errors.New("want the files, Parquet or JSON Lines with real, generated or prompt, chosen, rejected: spin import-data train.parquet test.parquet"))
	}
	now := time.Now().UTC()
	id, err := run.NewID()
	if err != nil {
		return err
	}
	name := c.name
	if name == "" {
		name = filepath.Base(args[0])
	}
	im := imported{run: store.Run{RunID: id, Name: name, State: "imported", Spec: "{}", Config: "{}", CreatedAt: now, FinishedAt: &now}, iteration: c.iteration, prompts: map[string]uint32{}}
	skipped := 0
	for _, path := range args { // all are read before anything is written
		pairs, bad, err := dataset.OpenPairs(path, dataset.Options{SkipBad: c.skipBad, Duplicates: true})
		if err != nil {
			return badInput(err)
		}
		skipped += len(bad)
		if err := im.add(pairs, splitOf(path), now); err != nil {
			return badInput(fmt.Errorf("%s: %w", path, err))
		}
	}
	if err := c.insert(ctx, &im); err != nil {
		return err
	}
	note := ""
	if skipped > 0 {
		note = fmt.Sprintf(", %d bad rows left out", skipped)
	}
	_, err = fmt.Fprintf(s.Out, "run %s: %d prompts, %d answers%s\n", id, len(im.batch.Prompts), len(im.batch.Samples), note)
	return err
}

// splitOf takes a file's split from its name, as the hub does.
func splitOf(path string) string {
	base := strings.ToLower(filepath.Base(path))
	for _, heldout := range []string{"test", "heldout", "validation"} {
		if strings.HasPrefix(base, heldout) {
			return "heldout"
		}
	}
	return "train"
}

// imported is a run made of pairs.
type imported struct {
	run       store.Run
	iteration uint32
	batch     store.Batch
	prompts   map[string]uint32 // draws of each prompt so far
}

func (im *imported) add(pairs []dataset.Pair, split string, now time.Time) error {
	for _, p := range pairs {
		draw, known := im.prompts[p.PromptID]
		im.prompts[p.PromptID] = draw + 1
		if !known {
			messages, err := json.Marshal(p.Prompt)
			if err != nil {
				return fmt.Errorf("%s: %w", p.Place, err)
			}
			im.batch.Prompts = append(im.batch.Prompts, store.Prompt{
				RunID: im.run.RunID, PromptID: p.PromptID, Position: uint64(len(im.batch.Prompts)), Split: split,
				Prompt: p.Prompt[len(p.Prompt)-1].Content, Messages: string(messages), Real: p.Response,
			})
		}
		im.batch.Samples = append(im.batch.Samples, store.Sample{
			RunID: im.run.RunID, Iteration: im.iteration, PromptID: p.PromptID, Draw: draw, SampleID: fmt.Sprintf("%s/%d/%s/%d", im.run.RunID, im.iteration, p.PromptID, draw),
			Split: split, Text: p.Generated, CreatedAt: now,
		})
	}
	return nil
}

// insert writes the run's rows, the row of the run itself last: without it nobody sees the others.
func (c *importData) insert(ctx context.Context, im *imported) error {
	if c.store.URL == "" {
		if err := os.MkdirAll(c.clickhouse(), 0o755); err != nil {
			return badInput(err)
		}
	}
	db, stop, err := c.openStore(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	var batches []*store.Batch
	for rows := range slices.Chunk(im.batch.Prompts, store.MaxRows) {
		batches = append(batches, &store.Batch{Prompts: rows})
	}
	for rows := range slices.Chunk(im.batch.Samples, store.MaxRows) {
		batches = append(batches, &store.Batch{Samples: rows})
	}
	batches = append(batches, &store.Batch{Runs: []store.Run{im.run}})
	for i, b := range batches {
		if err := db.Insert(ctx, fmt.Sprintf("import/%s/%d", im.run.RunID, i), b); err != nil {
			return err
		}
	}
	return nil
}

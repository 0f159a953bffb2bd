package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/file"
	"github.com/seed-8780d58e/spin/pkg/store"
)

// exportData writes an iteration's pairs as a data set in a shape that the hub has: Parquet files of conversations, one a
// split, with a card that `datasets` reads.
type exportData struct {
	places
	id        string
	iteration int
	layout    string
	output    string
	replace   bool
}

func (c *exportData) flags(f *pflag.FlagSet) {
	f.StringVar(&c.id, "run", "", "run id (default: the newest)")
	f.IntVar(&c.iteration, "iteration", -1, "iteration whose samples are written (default: the last that has some)")
	f.StringVar(&c.layout, "layout", "spin", "spin: real, generated, as the paper's authors publish theirs; preference: prompt, chosen, rejected, as TRL reads")
	f.StringVar(&c.output, "output", "", "folder to write")
	f.BoolVar(&c.replace, "replace", false, "replace files that are there already")
	c.places.flags(f)
}

// dataLayouts are the columns of each layout: conversations, lists of {role, content}.
func dataLayouts() map[string]string {
	return map[string]string{
		"spin":       `arrayConcat(m, [tuple('assistant', p.real)::Tuple(role String, content String)]) AS real, arrayConcat(m, [tuple('assistant', s.text)::Tuple(role String, content String)]) AS generated`,
		"preference": `m AS prompt, [tuple('assistant', p.real)::Tuple(role String, content String)] AS chosen, [tuple('assistant', s.text)::Tuple(role String, content String)] AS rejected`,
	}
}

// dataFiles names the file of each of our splits as the hub does.
func dataFiles() map[string]string {
	return map[string]string{"train": "train-00000-of-00001.parquet", "heldout": "test-00000-of-00001.parquet"}
}

func (c *exportData) run(ctx context.Context, _ []string, s Streams) error {
	columns, ok := dataLayouts()[c.layout]
	switch {
	case !ok:
		return badInput(fmt.Errorf("--layout %q, want spin or preference", c.layout))
	case c.output == "":
		return badInput(errors.New("--output is missing: which folder to write"))
	}
	db, stop, err := c.openStore(ctx)
	if err != nil {
		return err
	}
	defer stop()
	r, err := findRecord(ctx, db, c.id)
	if err != nil {
		return badInput(err)
	}
	sampled, err := db.Sampled(ctx, r.RunID)
	if err != nil {
		return err
	}
	counts, err := pickIteration(sampled, c.iteration)
	if err != nil {
		return badInput(fmt.Errorf("run %s: %w", r.RunID, err))
	}
	data := filepath.Join(c.output, "data")
	if err := c.vacant(data); err != nil {
		return badInput(err)
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return badInput(err)
	}
	for split, name := range dataFiles() {
		if counts.Splits[split] == 0 {
			continue
		}
		path := filepath.Join(data, name)
		if err := writePairs(ctx, db, path, r.RunID, counts.Iteration, split, columns); err != nil {
			return err
		}
	}
	if err := c.card(r, counts); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "run %s, iteration %d: %d pairs to train on and %d held out in %s\n", r.RunID, counts.Iteration, counts.Splits["train"], counts.Splits["heldout"], c.output)
	return err
}

// vacant refuses a folder that holds what would be written.
func (c *exportData) vacant(data string) error {
	if c.replace {
		return nil
	}
	for _, path := range []string{filepath.Join(c.output, "README.md"), filepath.Join(data, dataFiles()["train"]), filepath.Join(data, dataFiles()["heldout"])} {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("--output: %s is there already; --replace replaces it", path)
		}
	}
	return nil
}

// pickIteration finds the wanted iteration among those that have samples; the last for a wanted one below 0.
func pickIteration(sampled []store.Sampled, wanted int) (store.Sampled, error) {
	if len(sampled) == 0 {
		return store.Sampled{}, errors.New("it has no samples")
	}
	last := sampled[len(sampled)-1]
	if wanted < 0 {
		return last, nil
	}
	for _, x := range sampled {
		if int(x.Iteration) == wanted {
			return x, nil
		}
	}
	return store.Sampled{}, fmt.Errorf("iteration %d has no samples, want one of %d to %d", wanted, sampled[0].Iteration, last.Iteration)
}

// writePairs writes a split's pairs, each draw a row, in the order of the prompts' positions. ClickHouse makes the Parquet file.
func writePairs(ctx context.Context, db *store.Store, path, runID string, iteration uint32, split, columns string) error {
	w, err := file.Create(path)
	if err != nil {
		return badInput(err)
	}
	defer w.Abort()
	sql := fmt.Sprintf(`WITH JSONExtract(p.messages, 'Array(Tuple(role String, content String))') AS m
		SELECT %s
		FROM (SELECT * FROM samples FINAL WHERE run_id = '%[2]s' AND iteration = %[3]d AND split = '%[4]s') AS s
		INNER JOIN (SELECT * FROM prompts FINAL WHERE run_id = '%[2]s' AND split = '%[4]s') AS p ON p.prompt_id = s.prompt_id
		ORDER BY p.position, s.draw SETTINGS output_format_parquet_string_as_string = 1`, columns, runID, iteration, split)
	if err := db.Query(ctx, sql, "Parquet", w); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return w.Commit()
}

// card writes the README.md from which the hub and `datasets` learn which file is which split.
func (c *exportData) card(r store.Run, counts store.Sampled) error {
	var b strings.Builder
	b.WriteString("---\nconfigs:\n- config_name: default\n  data_files:\n")
	for _, split := range []string{"train", "heldout"} {
		if counts.Splits[split] > 0 {
			name := dataFiles()[split]
			fmt.Fprintf(&b, "  - split: %s\n    path: data/%s\n", name[:strings.Index(name, "-")], name)
		}
	}
	fmt.Fprintf(&b, "---\n\nPairs of self-play fine-tuning (arXiv 2401.01335): a human answer, and an answer sampled by the model of iteration %d.\n\n"+
		"- run %s, seed %d\n- sampled by weights %s\n- engine %s\n", counts.Iteration, r.RunID, r.Seed, counts.WeightsSHA256, counts.Fingerprint)
	w, err := file.Create(filepath.Join(c.output, "README.md"))
	if err != nil {
		return badInput(err)
	}
	defer w.Abort()
	if _, err := w.Write([]byte(b.String())); err != nil {
		return err
	}
	return w.Commit()
}

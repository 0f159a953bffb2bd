package command_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/dataset"
	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// archive is a ClickHouse with a run of two iterations, three prompts to train on and one held out, two draws each.
func archive(t *testing.T) (url, id string) {
	t.Helper()
	srv, _ := storetest.Serve(t, t.TempDir())
	db, err := store.Open(t.Context(), store.Options{URL: srv.URL()})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	must(t, db.Migrate(t.Context()))
	id = strings.Repeat("0a", 16)
	b := &store.Batch{Runs: []store.Run{{RunID: id, State: "done", Seed: 9, CreatedAt: time.Now()}}}
	for p := range 4 {
		prompt, split := fmt.Sprint("p", p), "train"
		if p == 1 {
			split = "heldout"
		}
		b.Prompts = append(b.Prompts, store.Prompt{RunID: id, PromptID: prompt, Position: uint64(10 - p), Split: split, Real: fmt.Sprint("human ", p),
			Messages: fmt.Sprintf(`[{"role":"system","content":"Be brief."},{"role":"user","content":"What of %d? \"ß\"\n"}]`, p)})
		for i := range 8 {
			t, d := uint32(i/4), uint32(i%2) // each row is there twice
			b.Samples = append(b.Samples, store.Sample{RunID: id, Iteration: t, PromptID: prompt, Draw: d, Split: split, Text: fmt.Sprintf("draw %d of %d by %d", d, p, t), WeightsSHA256: fmt.Sprint("w", t), Revision: uint64(i)})
		}
	}
	must(t, db.Insert(t.Context(), "test", b))
	return srv.URL(), id
}

// TestExportData: what is exported reads as what the tables hold, in both layouts, and again after an import.
func TestExportData(t *testing.T) {
	url, id := archive(t)
	at := clickhouseFlags(t, url)
	for _, layout := range []string{"spin", "preference"} {
		dir := filepath.Join(t.TempDir(), "set")
		args := append([]string{"export-data", "--layout", layout, "--iteration", "0", "--output", dir}, at...)
		if out, want := mustSpin(t, args...), fmt.Sprintf("run %s, iteration 0: 6 pairs to train on and 2 held out in %s\n", id, dir); out != want {
			t.Errorf("%q, want %q", out, want)
		}
		train, test := filepath.Join(dir, "data", "train-00000-of-00001.parquet"), filepath.Join(dir, "data", "test-00000-of-00001.parquet")
		pairs, _, err := dataset.OpenPairs(train, dataset.Options{Duplicates: true})
		must(t, err)
		if len(pairs) != 6 {
			t.Fatalf("%d pairs", len(pairs))
		}
		for i, p := range pairs { // by position, which falls from prompt to prompt, and draw
			prompt := []int{3, 2, 0}[i/2]
			if len(p.Prompt) != 2 || p.Prompt[0].Content != "Be brief." || p.Prompt[1].Content != fmt.Sprintf("What of %d? \"ß\"\n", prompt) ||
				p.Response != fmt.Sprint("human ", prompt) || p.Generated != fmt.Sprintf("draw %d of %d by 0", i%2, prompt) {
				t.Errorf("pair %d: %+v", i, p)
			}
		}
		if code, _, stderr := spin(t.Context(), "", args...); code != 2 || !strings.Contains(stderr, "--replace") {
			t.Errorf("exit %d over a data set that is there: %s", code, stderr)
		}
		mustSpin(t, append(args, "--replace")...)

		out := mustSpin(t, append([]string{"import-data", "--name", "theirs", "--iteration", "3", train, test}, at...)...)
		imported := strings.TrimSuffix(strings.Fields(out)[1], ":")
		if !strings.HasSuffix(out, ": 4 prompts, 8 answers\n") {
			t.Errorf("%q", out)
		}
		ask := "SELECT count(), countIf(split = 'heldout'), uniqExact(prompt_id, draw), countIf(real LIKE 'human %'), any(iterations), countIf(texts[1] LIKE 'draw % by 0') FROM answers WHERE run_id = '" + imported + "'"
		if got := mustSpin(t, append([]string{"sql", "--format", "TSV", ask}, at...)...); got != "8\t2\t8\t8\t[3]\t8\n" {
			t.Errorf("imported: %q", got)
		}
		openInPython(t, dir, layout)
		mustSpin(t, append([]string{"sql", "--format", "TSV", "DELETE FROM runs WHERE run_id = '" + imported + "' SETTINGS lightweight_deletes_sync = 2"}, at...)...)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"iteration 7 has no samples, want one of 0 to 1", []string{"export-data", "--iteration", "7", "--output", t.TempDir()}},
		{"--layout \"x\", want spin or preference", []string{"export-data", "--layout", "x", "--output", t.TempDir()}},
		{"--output is missing", []string{"export-data"}},
		{"want the files", []string{"import-data"}},
		{"no such file", []string{"import-data", "nowhere.parquet"}},
	} {
		if code, _, stderr := spin(t.Context(), "", append(c.args, at...)...); code != 2 || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit %d, %s; want %q", c.args, code, stderr, c.want)
		}
	}
}

// openInPython reads the data set as its users do. SPIN_PYTHON names a python that has datasets.
func openInPython(t *testing.T, dir, layout string) {
	t.Helper()
	python := os.Getenv("SPIN_PYTHON")
	if python == "" {
		t.Log("SPIN_PYTHON names no python with datasets: not opened there")
		return
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", `
import json, sys, datasets
d = datasets.load_dataset(sys.argv[1])
print(json.dumps({"splits": {k: len(v) for k, v in d.items()}, "columns": d["train"].column_names, "first": d["train"][0]}))`, dir)
	cmd.Env = append(os.Environ(), "HF_HUB_OFFLINE=1", "HF_DATASETS_OFFLINE=1", "HF_HOME="+t.TempDir())
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got struct {
		Splits  map[string]int
		Columns []string
		First   map[string][]map[string]string
	}
	must(t, json.Unmarshal(out, &got))
	columns := map[string]string{"spin": "[real generated]", "preference": "[prompt chosen rejected]"}[layout]
	answers := got.First["generated"]
	if layout == "preference" {
		answers = got.First["rejected"]
	}
	if got.Splits["train"] != 6 || got.Splits["test"] != 2 || fmt.Sprint(got.Columns) != columns || answers[len(answers)-1]["role"] != "assistant" || answers[len(answers)-1]["content"] != "draw 0 of 3 by 0" {
		t.Errorf("%s", out)
	}
}

package command_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// TestEval: the file has lm-eval's shape, a group pools its subjects, and what is missing is named before a model is loaded.
func TestEval(t *testing.T) {
	data := "../../../pkg/harness/testdata/data"
	out := filepath.Join(t.TempDir(), "results.json")
	table := mustSpin(t, "eval", "--model", tiny, "--tasks", "arc_easy,mmlu_anatomy", "--task-data", data, "--limit", "4", "--num-fewshot", "2", "--log-samples", "--output", out)
	if lines := strings.Count(table, "\n"); lines != 5 || !strings.Contains(table, "arc_easy") {
		t.Errorf("%s", table)
	}
	var got struct {
		Results  map[string]map[string]any
		Versions map[string]float64
		Shots    map[string]int            `json:"n-shot"`
		N        map[string]map[string]int `json:"n-samples"`
		Samples  map[string][]map[string]any
		Weights  string `json:"weights_sha256"`
	}
	must(t, json.Unmarshal([]byte(read(t, out)), &got))
	if got.Versions["arc_easy"] != 1 || got.Shots["arc_easy"] != 2 || got.N["arc_easy"]["effective"] != 4 || len(got.Samples["mmlu_anatomy"]) != 4 || len(got.Weights) != 64 {
		t.Errorf("%+v", got)
	}
	for _, key := range []string{"acc,none", "acc_stderr,none", "acc_norm,none", "alias"} {
		if _, ok := got.Results["arc_easy"][key]; !ok {
			t.Errorf("no %s in %v", key, got.Results["arc_easy"])
		}
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"no task \"x\"", []string{"--tasks", "x", "--task-data", data}},
		{"--task-data is missing", []string{"--tasks", "gsm8k"}},
		{"no test split of its data: looked for", []string{"--tasks", "mmlu", "--task-data", t.TempDir()}},
	} {
		code, _, stderr := spin(t.Context(), "", append([]string{"eval", "--model", "nowhere"}, c.args...)...)
		if code != 2 || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit %d, %s", c.args, code, stderr)
		}
	}
}

package command_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// A run file's model, dtype and "all prompts" hold where no flag says anything else.
func TestPlan(t *testing.T) {
	model, err := filepath.Abs(tiny)
	must(t, err)
	dir := t.TempDir()
	file := write(t, dir, "run.yaml", "model: {path: "+model+"}\ndata: {path: "+answers(t, 8)+", prompts: 0, heldout: 2}\nengine: {dtype: bf16}\n")
	for flag, dtype := range map[string]string{"": "bf16", "f32": "f32"} {
		args := []string{"plan", "--config", file}
		if flag != "" {
			args = append(args, "--dtype", flag)
		}
		out := mustSpin(t, args...)
		for _, want := range []string{"parameters, " + dtype + "\n", "iteration 1, training", "in all"} {
			if !strings.Contains(out, want) {
				t.Errorf("--dtype %q: no %q in\n%s", flag, want, out)
			}
		}
	}
	if code, _, stderr := spin(t.Context(), "", "plan", "--config", write(t, dir, "early.yaml", "stop_when: {no_gain: true}\n"), "--model", model, "--data", answers(t, 8), "--prompts", "4", "--heldout", "2"); code != 2 || !strings.Contains(stderr, "not built yet") {
		t.Errorf("a setting that nothing heeds: exit %d, %s", code, stderr)
	}
}

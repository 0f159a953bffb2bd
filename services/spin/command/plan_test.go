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
	for rule, want := range map[string]string{"no_gain, accuracy_below=0.55": "", "no_gian": "want no_gain, accuracy_below=SHARE or none", "accuracy_below=55": "want a share"} {
		code, _, stderr := spin(t.Context(), "", "plan", "--stop-when", rule, "--model", model, "--data", answers(t, 8), "--prompts", "4", "--heldout", "2")
		if (code == 0) != (want == "") || !strings.Contains(stderr, want) {
			t.Errorf("--stop-when %q: exit %d, %s", rule, code, stderr)
		}
	}
}

package command_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// A run that its stop rule ends says so where it ends; the best of its weights are exported as they lie among its
// checkpoints.
func TestBest(t *testing.T) {
	server, _ := storetest.Serve(t, t.TempDir())
	at := clickhouseFlags(t, server.URL())
	dir, files := t.TempDir(), t.TempDir()
	code, out, stderr := spin(t.Context(), "", append([]string{"run", "--dir", dir, "--model", tiny, "--data", answers(t, 20), "--prompts", "16", "--heldout", "4",
		"--sft-epochs", "1", "--max-new-tokens", "8", "--iterations", "3", "--lr", "0.05", "--stop-when", "no_gain", "--dtype", "f32"}, at...)...)
	if code != 0 || !strings.Contains(out, "Stopped early, after 1 of 3 iterations: the held-out human NLL fell by -") || !strings.Contains(stderr, "the run stops here, 2 iterations before its last") {
		t.Fatalf("exit %d, %s\n%s", code, out, stderr)
	}
	flags := append([]string{"--dir", dir}, at...)
	best := strings.Fields(mustSpin(t, append([]string{"sql", "SELECT run_id, phase, iteration FROM best_checkpoint", "--format", "TSV"}, flags...)...))
	if len(best) != 3 || best[1] != "sft" {
		t.Fatalf("the best weights are %v, want θ_0", best)
	}
	for _, format := range []string{"safetensors", "gguf"} {
		file := filepath.Join(files, "best."+format)
		code, out, stderr := spin(t.Context(), "", append([]string{"export", "--best", "--format", format, "--output", file}, flags...)...)
		if code != 0 || out != file+"\n" || !strings.Contains(stderr, "run "+best[0]+", sft 0: held-out NLL ") {
			t.Fatalf("exit %d, %q, %s", code, out, stderr)
		}
		in := write(t, files, "in.jsonl", texts)
		want := mustSpin(t, "score", "--model", filepath.Join(dir, "checkpoints", best[0], "sft-0"), "--dtype", "f32", "--in", in)
		if got := mustSpin(t, "score", "--model", file, "--dtype", "f32", "--in", in); got != want {
			t.Errorf("%s scores %s, want %s", file, got, want)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*", "*", "best-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{append([]string{"--best", "--model", tiny}, flags...), "--best and --model: give one of them"},
		{append([]string{"--best", "--run", "ffff"}, flags...), "no run ffff"},
		{[]string{"--best", "--dir", files}, "holds no run"},
	} {
		if code, _, stderr := spin(t.Context(), "", append([]string{"export", "--output", filepath.Join(files, "x")}, c.args...)...); code != 2 || !strings.Contains(stderr, c.want) {
			t.Errorf("export %v: exit %d, %s", c.args, code, stderr)
		}
	}
}

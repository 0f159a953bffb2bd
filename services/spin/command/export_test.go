package command_test

import (
	"path/filepath"
	"testing"
)

// TestExport: a model scores the same to the bit after any way through F32 files, also with its
// shards, names and rows as GGUF keeps them; an export replaces a checkpoint only when told to.
func TestExport(t *testing.T) {
	dir := t.TempDir()
	in := write(t, dir, "in.jsonl", texts)
	score := func(model string) string {
		return mustSpin(t, "score", "--model", model, "--dtype", "f32", "--in", in)
	}
	want := score(tiny)
	file, folder := filepath.Join(dir, "tiny.gguf"), filepath.Join(dir, "tiny")
	if out := mustSpin(t, "export", "--model", tiny, "--format", "gguf", "--output", file); out != file+"\n" {
		t.Errorf("export says %q", out)
	}
	mustSpin(t, "export", "--model", file, "--output", folder)
	for _, path := range []string{file, folder} {
		if got := score(path); got != want {
			t.Errorf("%s scores %s, want %s", path, got, want)
		}
	}
	if code, _, _ := spin(t.Context(), "", "export", "--model", tiny, "--dtype", "bf16", "--output", folder); code != 2 || score(folder) != want {
		t.Errorf("exit %d over a checkpoint that is there, want 2 and the checkpoint untouched", code)
	}
	mustSpin(t, "export", "--model", tiny, "--dtype", "bf16", "--output", folder, "--replace")
	if score(folder) == want {
		t.Error("--replace left the old checkpoint")
	}
}

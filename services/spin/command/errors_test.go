package command_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// play is a short run of the tiny model, below dir.
func play(t *testing.T, dir string, more ...string) (code int, stdout, stderr string) {
	t.Helper()
	args := append([]string{"run", "--dir", dir, "--model", tiny, "--dtype", "f32", "--prompts", "4", "--heldout", "2", "--iterations", "1",
		"--sft-epochs", "0", "--max-new-tokens", "8"}, more...)
	return spin(t.Context(), "", args...)
}

// What a caller can mend is one line that says what, where and what would be right, and exit code 2,
// before anything is written.
func TestRunRefuses(t *testing.T) {
	storetest.Library(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	files := t.TempDir()
	good := answers(t, 8)
	row := func(prompt string) string { return `{"prompt": "` + prompt + `", "response": "Yes."}` + "\n" }
	six := row("1") + row("2") + row("3") + row("4") + row("5") + row("6")
	for _, c := range []struct {
		name string
		args []string
		want []string // in the line
	}{
		{"a used port", []string{"--data", good, "--listen", taken.Addr().String()}, []string{"broker address " + taken.Addr().String(), "in use", "or port 0 for any"}},
		{"a used port of ClickHouse", []string{"--data", good, "--clickhouse-addr", taken.Addr().String()}, []string{"ClickHouse port", "in use"}},
		{"a prompt twice", []string{"--data", write(t, files, "twice.jsonl", six+row("2"))}, []string{"twice.jsonl:7: the same prompt as", "twice.jsonl:2", "skip_bad_rows"}},
		{"an empty prompt", []string{"--data", write(t, files, "empty.jsonl", six+row(" "))}, []string{"empty.jsonl:7: ", "is empty", "skip_bad_rows"}},
		{"an empty answer", []string{"--data", write(t, files, "mute.jsonl", `{"prompt": "1", "response": ""}`)}, []string{"mute.jsonl:1: ", "is empty"}},
		{"a long prompt", []string{"--data", write(t, files, "long.jsonl", six+row(strings.Repeat("word ", 400)))}, []string{"long.jsonl:7: the prompt has ", "max_prompt_tokens is 256", "skip_bad_rows"}},
		{"too few rows", []string{"--data", good, "--prompts", "100"}, []string{"8 rows give 6 for training and 2 held out, want 100 and 2"}},
		{"no file", []string{"--data", filepath.Join(files, "none.jsonl")}, []string{"none.jsonl: no such file"}},
		{"an unknown key", []string{"--data", good, "--config", write(t, files, "run.yaml", "seed: 1\niterashons: 3\n")}, []string{"run.yaml:2:", "iterashons"}},
		{"an unknown flag", []string{"--iterashons", "3"}, []string{"--iterashons", "`spin run --help`"}},
		{"a bad value", []string{"--data", good, "--beta", "-1"}, []string{"beta", "-1"}},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		code, stdout, stderr := play(t, dir, c.args...)
		if code != 2 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "spin: ") {
			t.Errorf("%s: exit %d, %s%s", c.name, code, stdout, stderr)
		}
		for _, want := range c.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("%s: no %q in %s", c.name, want, stderr)
			}
		}
		if blobs, err := os.ReadDir(filepath.Join(dir, "blobs")); err == nil && len(blobs) > 1 { // the folder for incoming ones
			t.Errorf("%s: a checkpoint was written", c.name)
		}
	}
}

// A folder belongs to one run at a time.
func TestRunLocked(t *testing.T) {
	storetest.Library(t)
	dir := t.TempDir()
	other, err := embedded.Start(t.Context(), embedded.Config{Dir: filepath.Join(dir, "broker")}, zerolog.Nop())
	must(t, err)
	code, _, stderr := play(t, dir, "--data", answers(t, 8))
	if code != 2 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "in use by process") || !strings.Contains(stderr, "another --dir") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	must(t, other.Close())
}

// Bad rows are left out when asked, each is named, and they are counted.
func TestRunSkipsBadRows(t *testing.T) {
	storetest.Library(t)
	data, err := os.ReadFile(answers(t, 8))
	must(t, err)
	bad := string(data) + `{"prompt": "", "response": "Yes."}` + "\n" + `{"prompt": "` + strings.Repeat("word ", 400) + `", "response": "Yes."}` + "\n"
	code, stdout, stderr := play(t, t.TempDir(), "--skip-bad-rows", "--data", write(t, t.TempDir(), "bad.jsonl", bad))
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, want := range []string{"bad.jsonl:9: ", "bad.jsonl:10: ", "skipped=2"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in %s", want, stderr)
		}
	}
	if !strings.Contains(stdout, "rows_digest ") {
		t.Errorf("no result: %s", stdout)
	}
}

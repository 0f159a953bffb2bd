package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/services/spin/command"
)

// The trainer's tiny llama, and the pairs that TRL was trained on.
const (
	tiny  = "../../trainer/train/testdata/tiny"
	pairs = "../../trainer/train/testdata/pairs.jsonl"
)

// spin runs one command line in process.
func spin(ctx context.Context, stdin string, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = command.Main(ctx, args, command.Streams{In: strings.NewReader(stdin), Out: &out, Err: &err})
	return code, out.String(), err.String()
}

// mustSpin runs a command line that must succeed without a word on standard error.
func mustSpin(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := spin(t.Context(), "", args...)
	if code != 0 || stderr != "" {
		t.Fatalf("spin %s: exit %d, %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write makes a file for a test.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	must(t, os.WriteFile(path, []byte(content), 0o644))
	return path
}

// lines decodes JSON Lines.
func lines[T any](t *testing.T, text string) []T {
	t.Helper()
	var all []T
	for line := range strings.Lines(text) {
		var v T
		must(t, json.Unmarshal([]byte(line), &v))
		all = append(all, v)
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

// clickhouseFlags are the parts of a URL with a password as the command line wants them: the password in a file.
func clickhouseFlags(t testing.TB, raw string) []string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	name := u.User.Username()
	u.User = nil
	return []string{"--clickhouse-url", u.String(), "--clickhouse-user", name, "--clickhouse-password-file", file}
}

package secret

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		want, err     string
	}{
		{"own", " word\n", 0o600, "word", ""},
		{"group", "word", 0o440, "word", ""},
		{"world", "word", 0o644, "", "chmod 600"},
		{"writable by all", "word", 0o602, "", "chmod 600"},
		{"empty", "\n", 0o600, "", "want a secret"},
		{"long", strings.Repeat("x", most+1), 0o600, "", "want a secret"},
	} {
		path := filepath.Join(dir, c.name)
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "word")) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	if _, err := Read(dir); err == nil {
		t.Error("read a folder")
	}
	if _, err := Read(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
}

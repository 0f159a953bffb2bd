package e2e

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"
)

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

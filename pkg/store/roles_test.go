package store_test

import (
	"context"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/embedded"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

const usersFile = "../../deploy/clickhouse/spin.xml"

// users are the users of deploy/clickhouse, each as the XML inside its element.
func users(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile(usersFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Users struct {
			Each []struct {
				XMLName xml.Name
				Inner   string `xml:",innerxml"`
			} `xml:",any"`
		} `xml:"users"`
	}
	if err := xml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, u := range file.Users.Each {
		found[u.XMLName.Local] = u.Inner
	}
	return found
}

// as is a configuration for an engine whose only user, default, is one of deploy/clickhouse.
func as(t *testing.T, user string) string {
	t.Helper()
	data, err := os.ReadFile(usersFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(data), "<users>")
	_, after, _ := strings.Cut(rest, "</users>")
	dir := t.TempDir()
	before = strings.NewReplacer("<profiles>", "<profiles><default/>", "<quotas>", "<quotas><default/>").Replace(before) // as every server has them
	text := before + "<users><default><no_password/>" + users(t)[user] + "</default></users>" + after
	if err := os.WriteFile(filepath.Join(dir, "users.xml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.xml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "<clickhouse><users_config>%s</users_config></clickhouse>", filepath.Join(dir, "users.xml")), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// TestRoles holds what deploy/clickhouse grants each user, on the real tables: the engine in this process knows no logins but it keeps to the grants of
// its one user. Who that is is settled when a process first starts the engine, so that each user has a process.
func TestRoles(t *testing.T) {
	storetest.Library(t)
	if dir := os.Getenv("SPIN_TEST_ROLE_DIR"); dir != "" {
		playRole(t, dir, os.Getenv("SPIN_TEST_ROLE"))
		return
	}
	dir := t.TempDir()
	for _, user := range []string{"spin_admin", "spin_recorder", "spin_read"} {
		c := exec.Command(os.Args[0], "-test.run=^TestRoles$", "-test.v")
		c.Env = append(os.Environ(), "SPIN_TEST_ROLE_DIR="+dir, "SPIN_TEST_ROLE="+user)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", user, err, out)
		}
	}
}

// playRole does what a user may and tries what it may not, on a folder in which the administrator was first.
func playRole(t *testing.T, dir, user string) {
	srv, err := embedded.Open(embedded.Config{Library: storetest.Library(t), Dir: dir, ConfigFile: as(t, user)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	sql := func(s *store.Store, statement string) error {
		return s.Query(t.Context(), statement, "TSV", &strings.Builder{})
	}
	if user == "spin_admin" {
		s, err := store.Open(t.Context(), store.Options{URL: srv.URL()})
		if err != nil {
			t.Fatal(err)
		}
		if err := sql(s, "CREATE DATABASE spin"); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := store.Open(t.Context(), store.Options{URL: srv.URL() + "spin"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	row := &store.Batch{Samples: []store.Sample{{RunID: "r-" + user, PromptID: "p", Split: "train", Text: "text", WeightsSHA256: "w"}}}
	insert := func() error { return s.Insert(t.Context(), "test/"+user, row) }
	digest := func() error { _, err := s.RowsDigest(t.Context(), "r-spin_admin"); return err }
	migrate := func() error { return s.Migrate(t.Context()) }
	remove := func() error { return s.Remove(t.Context(), "r-spin_recorder") }
	for _, c := range []struct {
		what string
		do   func() error
		may  []string
	}{
		{"make the tables, or find them made", migrate, []string{"spin_admin", "spin_recorder", "spin_read"}},
		{"insert rows", insert, []string{"spin_admin", "spin_recorder"}},
		{"read", digest, []string{"spin_admin", "spin_recorder", "spin_read"}},
		{"read a view", func() error { return sql(s, "SELECT * FROM iteration_summary") }, []string{"spin_admin", "spin_recorder", "spin_read"}},
		{"choose a format's settings", func() error { return sql(s, "SELECT 1 SETTINGS output_format_json_quote_64bit_integers = 1") }, []string{"spin_admin", "spin_recorder", "spin_read"}},
		{"remove a run", remove, []string{"spin_admin"}},
		{"make a table", func() error { return sql(s, "CREATE TABLE other (a Int32) ENGINE = MergeTree ORDER BY a") }, []string{"spin_admin"}},
		{"drop a table", func() error {
			return sql(s, "DROP TABLE "+map[bool]string{true: "other", false: "samples"}[user == "spin_admin"])
		}, []string{"spin_admin"}},
		{"empty a table", func() error { return sql(s, "TRUNCATE TABLE steps") }, []string{"spin_admin"}},
		{"change a row", func() error { return sql(s, "ALTER TABLE samples UPDATE text = '' WHERE run_id = 'r'") }, []string{"spin_admin"}},
		{"read files of the server", func() error { return sql(s, "SELECT * FROM file('/etc/passwd', 'LineAsString')") }, nil},
		{"reach other hosts", func() error { return sql(s, "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')") }, nil},
		{"make users", func() error { return sql(s, "CREATE USER other") }, nil},
		{"grant", func() error { return sql(s, "GRANT SELECT ON spin.* TO default") }, nil},
		{"write elsewhere", func() error { return sql(s, "CREATE TABLE default.other (a Int32) ENGINE = Memory") }, nil},
	} {
		err := c.do()
		if may := slices.Contains(c.may, user); may && err != nil {
			t.Errorf("%s may not %s: %v", user, c.what, err)
		} else if !may && (err == nil || !strings.Contains(err.Error(), "ACCESS_DENIED") && !strings.Contains(err.Error(), "READONLY") && !strings.Contains(err.Error(), "Not enough privileges") && !strings.Contains(err.Error(), "readonly")) {
			t.Errorf("%s may %s: %v", user, c.what, err)
		}
	}
}

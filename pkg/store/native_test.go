package store

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// debian is another ClickHouse than ours: an old one, that knows neither our tables nor its HTTP interface's present protocol, but that speaks the
// native protocol, with TLS, and has users.
const debian = "18.16.1"

// installDebian lays Debian's clickhouse-server, with the libraries that it needs, into the project's cache folder, once. Nothing is installed.
func installDebian(t *testing.T) string {
	t.Helper()
	unable := t.Skipf
	if os.Getenv("SPIN_DEBIAN_CLICKHOUSE_REQUIRED") != "" {
		unable = t.Fatalf
	}
	cache := os.Getenv("SPIN_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			unable("no cache folder: %v", err)
		}
		cache = filepath.Join(dir, "spin")
	}
	root := filepath.Join(cache, "clickhouse-"+debian)
	if _, err := os.Stat(filepath.Join(root, "complete")); err == nil {
		return root
	}
	for _, tool := range []string{"apt-cache", "apt-get", "dpkg"} {
		if _, err := exec.LookPath(tool); err != nil {
			unable("no second ClickHouse: this is no Debian: %v", err)
		}
	}
	out, err := exec.Command("apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", "clickhouse-server").Output()
	if err != nil {
		unable("no second ClickHouse: apt-cache depends clickhouse-server: %v (apt-get update?)", err)
	}
	var packages []string
	for line := range strings.Lines(string(out)) {
		name := strings.TrimSpace(line)
		if regexp.MustCompile(`^(lib|clickhouse-)[a-z0-9.+-]+$`).MatchString(strings.TrimRight(line, "\n")) && !strings.HasPrefix(name, "libc6") && !strings.HasPrefix(name, "libc-") {
			packages = append(packages, name) // the C library must be the machine's
		}
	}
	debs := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	get := exec.CommandContext(ctx, "apt-get", append([]string{"download", "-q"}, packages...)...)
	get.Dir = debs
	if out, err := get.CombinedOutput(); err != nil {
		unable("no second ClickHouse: apt-get download: %v: %.300s", err, out)
	}
	found, _ := filepath.Glob(filepath.Join(debs, "*.deb"))
	for _, deb := range found {
		if out, err := exec.Command("dpkg", "-x", deb, root).CombinedOutput(); err != nil {
			t.Fatalf("dpkg -x %s: %v: %s", deb, err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "complete"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

// debianServer is a running one.
type debianServer struct {
	plain, secure string // host:port of the native protocol, without and with TLS
	keys          string // what deploy/keys.sh made
}

// startDebian starts it with the users and the TLS settings of deploy/clickhouse, word for word but for the names of that day.
func startDebian(t *testing.T) debianServer {
	t.Helper()
	root := installDebian(t)
	dir := t.TempDir()
	s := debianServer{keys: filepath.Join(dir, "keys")}
	if out, err := exec.Command("sh", "../../deploy/keys.sh", s.keys).CombinedOutput(); err != nil {
		t.Skipf("deploy/keys.sh: %v\n%s", err, out)
	}
	ports := make([]string, 2)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, ports[i], _ = net.SplitHostPort(l.Addr().String())
		l.Close()
	}
	s.plain, s.secure = "127.0.0.1:"+ports[0], "localhost:"+ports[1]
	old := strings.NewReplacer("<clickhouse>", "<yandex>", "</clickhouse>", "</yandex>", "/etc/clickhouse-server/tls", s.keys,
		"<https_port>8443</https_port>", "", "<tcp_port_secure>9440<", "<tcp_port_secure>"+ports[1]+"<", `<tcp_port remove="1"/>`, "<tcp_port>"+ports[0]+"</tcp_port>")
	for from, to := range map[string]string{
		"../../deploy/clickhouse/listen.xml":        "config.d/spin.xml",
		"../../deploy/clickhouse/spin.xml":          "users.d/spin.xml",
		filepath.Join(s.keys, "spin-passwords.xml"): "users.d/spin-passwords.xml",
	} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, to), old.Replace(string(text)))
	}
	write(t, filepath.Join(dir, "config.xml"), fmt.Sprintf(`<yandex><logger><level>warning</level><console>1</console></logger>
		<path>%[1]s/data/</path><tmp_path>%[1]s/tmp/</tmp_path><mark_cache_size>100000000</mark_cache_size>
		<users_config>users.xml</users_config><default_profile>default</default_profile><default_database>default</default_database></yandex>`, dir))
	write(t, filepath.Join(dir, "users.xml"), `<yandex><profiles><default/></profiles><quotas><default/></quotas><users/></yandex>`)
	c := exec.Command(filepath.Join(root, "usr", "sbin", "clickhouse-server"), "--config-file="+filepath.Join(dir, "config.xml"))
	c.Env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Join(root, "usr", "lib", "x86_64-linux-gnu")+":"+filepath.Join(root, "lib", "x86_64-linux-gnu"))
	c.Dir = dir
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("server: %s", &out)
		}
	})
	for _, address := range []string{s.plain, s.secure} {
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) { // until it answers
			if conn, err := net.Dial("tcp", address); err == nil {
				conn.Close()
				break
			}
			select {
			case err := <-ended:
				ended <- err
				t.Fatalf("Debian's server ends: %v\n%s", err, &out)
			default:
			}
			if time.Now().After(deadline) {
				t.Fatalf("Debian's server does not come up at %s\n%s", address, &out)
			}
		}
	}
	return s
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestNative speaks the native protocol to a second, independent server: dial, insert and select on a plain table, over TCP and over TLS; and tries the
// logins of deploy/clickhouse there.
func TestNative(t *testing.T) {
	server := startDebian(t)
	open := func(user, address, ca string) (*Store, error) {
		s, err := Open(t.Context(), Options{
			URL: "clickhouse://" + address + "/default", User: user, PasswordFile: filepath.Join(server.keys, user+".password"), CA: ca,
		})
		if err == nil {
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		return s, err
	}
	mustOpen := func(user, address, ca string) *Store {
		t.Helper()
		s, err := open(user, address, ca)
		if err != nil {
			t.Fatalf("%s at %s: %v", user, address, err)
		}
		return s
	}
	ca := filepath.Join(server.keys, "ca.crt")
	admin := mustOpen("spin_admin", server.secure, ca)
	if err := admin.db.Exec(t.Context(), "CREATE TABLE samples (id UInt64, text String, logps Array(Float32)) ENGINE = MergeTree ORDER BY id"); err != nil {
		t.Fatal(err)
	}
	const rows = 10_000
	for i, recorder := range []*Store{mustOpen("spin_recorder", server.plain, ""), mustOpen("spin_recorder", server.secure, ca)} {
		batch, err := recorder.db.PrepareBatch(t.Context(), "INSERT INTO samples (id, text, logps)") // so old a server wants the columns named
		if err != nil {
			t.Fatal(err)
		}
		for n := range rows {
			if err := batch.Append(uint64(i*rows+n), fmt.Sprint("answer ", n), []float32{-1, float32(n)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := batch.Send(); err != nil {
			t.Fatal(err)
		}
	}
	reader := mustOpen("spin_read", server.secure, ca)
	var count, sum uint64
	var text string
	var logps []float32
	if err := reader.db.QueryRow(t.Context(), "SELECT count(), sum(id) FROM samples").Scan(&count, &sum); err != nil || count != 2*rows || sum != 2*rows*(2*rows-1)/2 {
		t.Errorf("%d rows, sum of ids %d, %v", count, sum, err)
	}
	if err := reader.db.QueryRow(t.Context(), "SELECT text, logps FROM samples WHERE id = 10007").Scan(&text, &logps); err != nil || text != "answer 7" || !slices.Equal(logps, []float32{-1, 7}) {
		t.Errorf("%q %v, %v", text, logps, err)
	}
	for _, statement := range []string{
		"INSERT INTO samples (id) SELECT 1", "CREATE TABLE other (a Int32) ENGINE = Memory", "DROP TABLE samples", "ALTER TABLE samples DELETE WHERE 1", "SET readonly = 0",
	} {
		if err := reader.db.Exec(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "readonly") {
			t.Errorf("a reader may %s: %v", statement, err)
		}
	}

	// Who is not let in.
	write(t, filepath.Join(server.keys, "stranger.password"), "guessed")
	write(t, filepath.Join(server.keys, "default.password"), "guessed")
	for _, user := range []string{"stranger", "default"} {
		if _, err := open(user, server.secure, ca); err == nil {
			t.Errorf("%s is let in", user)
		}
	}
	if _, err := Open(t.Context(), Options{URL: "clickhouse://" + server.secure, User: "spin_read", PasswordFile: filepath.Join(server.keys, "stranger.password"), CA: ca}); err == nil {
		t.Error("a wrong password is let in")
	}
	if _, err := open("spin_read", server.secure, ""); err == nil {
		t.Error("speaks without TLS to a port that wants it")
	}
	other := filepath.Join(t.TempDir(), "other")
	if out, err := exec.Command("sh", "../../deploy/keys.sh", other).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := open("spin_read", server.secure, filepath.Join(other, "ca.crt")); err == nil {
		t.Error("trusts a server that another authority has signed")
	}
}

// TestOptionsRefuse: secrets come as files that not everybody can read.
func TestOptionsRefuse(t *testing.T) {
	dir := t.TempDir()
	word := filepath.Join(dir, "word")
	write(t, word, "sesame")
	if err := os.Chmod(word, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		o    Options
		want string
	}{
		{"a password in the URL", Options{URL: "http://spin:sesame@host:8123"}, "--clickhouse-password-file"},
		{"a password as an option", Options{URL: "clickhouse://host:9000?password=sesame"}, "--clickhouse-password-file"},
		{"half a certificate", Options{URL: "https://host:8443", Cert: word}, "give both or none"},
	} {
		if err := c.o.Check(); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	for _, c := range []struct {
		what string
		o    Options
		want string
	}{
		{"a password for all to see", Options{URL: "http://127.0.0.1:1", User: "spin", PasswordFile: word}, "chmod 600"},
		{"certificates for nothing", Options{URL: "http://127.0.0.1:1", CA: word}, "want PEM"},
		{"no such file", Options{URL: "https://127.0.0.1:1", CA: filepath.Join(dir, "none")}, "no such file"},
	} {
		if _, err := Open(t.Context(), c.o); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

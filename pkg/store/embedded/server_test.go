package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/embedded"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// TestMain is also the child process of the tests below: an engine on the folder
// that $SPIN_TEST_SERVE names, until it is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SPIN_TEST_SERVE"); dir != "" {
		srv, err := embedded.Open(embedded.Config{Library: os.Getenv("SPIN_TEST_LIB"), Dir: dir})
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println(srv.URL())
		fmt.Println("end:", srv.Run(context.Background()))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// child starts another process that serves dir; kill is kill -9.
func child(t *testing.T, dir string) (url string, kill func()) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "SPIN_TEST_SERVE="+dir, "SPIN_TEST_LIB="+storetest.Library(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := false
	kill = func() {
		if !done {
			done = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "http://") {
		t.Fatalf("the child says %q %v", line, err)
	}
	return strings.TrimSpace(line), kill
}

func TestKilled(t *testing.T) {
	dir := t.TempDir()
	rows := func(n int) *store.Batch {
		b := &store.Batch{}
		for i := range 500 {
			b.Events = append(b.Events, store.Event{RunID: "r", ID: fmt.Sprintf("%d-%d", n, i), CreatedAt: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), Kind: "x", Body: strings.Repeat("y", 1000)})
		}
		return b
	}
	const kills, each = 3, 5
	for k := range kills {
		url, kill := child(t, dir)
		s, err := store.Open(t.Context(), store.Options{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		for n := range k * each { // everything once more, as a recorder that lost its place would
			if err := s.Insert(t.Context(), fmt.Sprint("events/", n), rows(n)); err != nil {
				t.Fatal(err)
			}
		}
		for n := k * each; n < (k+1)*each; n++ {
			if err := s.Insert(t.Context(), fmt.Sprint("events/", n), rows(n)); err != nil {
				t.Fatal(err)
			}
		}
		// Killed in the middle of one more, whose fate nobody knows.
		inserting := make(chan error)
		go func() { inserting <- s.Insert(t.Context(), fmt.Sprint("events/", (k+1)*each), rows((k+1)*each)) }()
		if k%2 == 0 {
			<-inserting
			kill()
		} else {
			kill()
			<-inserting
		}
		s.Close()
	}
	if err := os.WriteFile(filepath.Join(dir, "spool", "insert-left"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv, _ := storetest.Serve(t, dir)
	c := client{t, srv.URL()}
	last := kills * each
	s, err := store.Open(t.Context(), store.Options{URL: srv.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Insert(t.Context(), fmt.Sprint("events/", last), rows(last)); err != nil {
		t.Fatal(err)
	}
	n := fmt.Sprint((last + 1) * 500)
	c.want(n+"\t"+n, "SELECT count(), uniqExact(id) FROM events")
	c.want("0", "SELECT count() FROM system.detached_parts")
	if left, err := os.ReadDir(filepath.Join(dir, "spool")); err != nil || len(left) > 0 {
		t.Errorf("the spool was not swept: %v %v", left, err)
	}
}

func TestFolderInUse(t *testing.T) {
	dir := t.TempDir()
	url, kill := child(t, dir)
	_, err := embedded.Open(embedded.Config{Library: storetest.Library(t), Dir: dir})
	var inUse *embedded.InUseError
	if !errors.As(err, &inUse) || inUse.PID == 0 || !strings.Contains(err.Error(), dir+" is in use by another process (pid ") {
		t.Errorf("%v", err)
	}
	// spin sql while a run goes on: through the other process's bridge.
	got, stop, err := embedded.Reach(t.Context(), embedded.Config{Library: storetest.Library(t), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if got != url {
		t.Errorf("reached %s, want %s", got, url)
	}
	client{t, got}.must("CREATE TABLE x ENGINE = MergeTree ORDER BY tuple() AS SELECT 42 AS a")
	if err := stop(); err != nil {
		t.Error(err)
	}
	// When it was killed, its url file lies there still: an engine of our own.
	kill()
	if _, err := embedded.Find(t.Context(), dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dead bridge: %v", err)
	}
	got, stop, err = embedded.Reach(t.Context(), embedded.Config{Library: storetest.Library(t), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	client{t, got}.want("42", "SELECT a FROM x")
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "url")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after a clean end the url file is there: %v", err)
	}
}

func TestTokenStays(t *testing.T) {
	dir := t.TempDir()
	a, stop := storetest.Serve(t, dir)
	before := a.URL()
	stop()
	b, _ := storetest.Serve(t, dir)
	if x, y := before[:strings.Index(before, "@")], b.URL()[:strings.Index(b.URL(), "@")]; x != y {
		t.Errorf("%s, then %s", x, y)
	}
}

// The end waits for what goes on, a little, and kills the rest.
func TestEndKillsWhatGoesOn(t *testing.T) {
	srv, err := embedded.Open(embedded.Config{Library: storetest.Library(t), Dir: t.TempDir(), Grace: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	c := client{t, srv.URL()}
	r, err := c.do(t.Context(), strings.NewReader("SELECT number FROM system.numbers FORMAT RowBinary"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	cancel()
	n, err := io.Copy(io.Discard, r.Body)
	if err == nil {
		t.Errorf("an endless answer ended after %d bytes without an error", n)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := http.Get(srv.URL()); err == nil {
		t.Error("it still answers")
	}
}

func TestOpenRefuses(t *testing.T) {
	lib := storetest.Library(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv, _ := storetest.Serve(t, t.TempDir())
	addr := strings.TrimSuffix(srv.URL()[strings.Index(srv.URL(), "@")+1:], "/")
	for _, c := range []struct {
		name string
		cfg  embedded.Config
		says string
	}{
		{"no library", embedded.Config{Library: file + "x", Dir: t.TempDir()}, "no ClickHouse engine at"},
		{"not a library", embedded.Config{Library: file, Dir: t.TempDir()}, "load the ClickHouse engine"},
		{"a file for a folder", embedded.Config{Library: lib, Dir: file}, "make the data folder"},
		{"not loopback", embedded.Config{Library: lib, Dir: t.TempDir(), Addr: "0.0.0.0:0"}, "not loopback"},
		{"used port", embedded.Config{Library: lib, Dir: t.TempDir(), Addr: addr}, "address already in use"},
		{"a second engine", embedded.Config{Library: lib, Dir: t.TempDir()}, "this process has an engine on another folder"},
	} {
		s, err := embedded.Open(c.cfg)
		if err == nil {
			t.Errorf("%s: it opens", c.name)
			s.Close()
		} else if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

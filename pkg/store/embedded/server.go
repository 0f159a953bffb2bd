// Package embedded is ClickHouse inside this process: the library libchdb,
// loaded at run time without cgo, behind ClickHouse's own HTTP interface on a
// loopback port. clickhouse-go, curl and BI tools speak to it as they would to a
// server, so the rest of spin has one code path for both.
//
//	srv, err := embedded.Open(embedded.Config{Library: lib, Dir: "spin-data/clickhouse"})
//	go srv.Run(ctx)             // serves until ctx ends, then closes cleanly
//	store.Open(ctx, store.Options{URL: srv.URL()})
//
// One engine per process and one process per folder: the first is libchdb's
// rule, the second is kept by a lock file that dies with its owner. Another
// process on the same machine finds the running bridge through the folder
// (Reach): the file url says where, the file token (mode 0600) lets in.
//
// The import makes the binary dynamically linked, also under CGO_ENABLED=0:
// purego asks the linker for libc's loader, and libchdb needs glibc. Nothing
// else needs to be done for it, but nothing that must stay static may import
// this package.
//
// Whoever holds the token acts with the rights of this process: ClickHouse's
// file() and url() table functions are not fenced in.
package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// The npm package whose file libchdb.so is the engine. PyPI's chdb-core exports
// no C interface.
const (
	Package       = "@chdb/lib-linux-x64-gnu"
	Version       = "26.5.3"
	PackageSHA256 = "b874e449710950da3abd7e20376f7bb3387d9e03adcc7082f022be18dfdf316a" // chdb-lib-linux-x64-gnu-26.5.3.tgz
	LibrarySHA256 = "4330da79405733f7572f27c1442f46c03a08301f00859dce0368645731b1e1dc" // package/libchdb.so in it
)

// LibraryPath is where the engine lies below the project's cache folder.
func LibraryPath(cacheDir string) string {
	return filepath.Join(cacheDir, "chdb-"+Version, "libchdb.so")
}

// Config of the embedded engine.
type Config struct {
	Library string        // path of libchdb.so
	Dir     string        // folder of the data, made if it is not there
	Addr    string        // loopback address of the bridge; "" is 127.0.0.1:0, any free port
	Clients int           // statements that run at once; 0 is 4
	Grace   time.Duration // for requests under way when Run ends; 0 is 10 s

	// ConfigFile is a server's config.xml of which the engine takes what concerns
	// it, users_config among it: whoever comes in is the user default of that file.
	ConfigFile string
}

// Flags registers the flags that people may want to set; Dir belongs to the caller.
func (c *Config) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Library, "chdb-lib", c.Library, "the ClickHouse engine, libchdb.so of npm's "+Package)
	fs.StringVar(&c.Addr, "clickhouse-addr", c.Addr, "loopback address for the embedded ClickHouse (default any free port)")
}

// Who may come in: a user of this name with the word in the folder's file of
// that name, which only its owner can read.
const (
	User      = "spin"
	TokenFile = "token"
)

const (
	urlFile  = "url"
	lockFile = "lock"
)

// Server is the engine and its bridge.
type Server struct {
	engine *engine
	http   *http.Server
	listen net.Listener
	lock   *os.File
	dir    string
	token  string
	grace  time.Duration
}

// InUseError says that the folder belongs to another process, PID if known.
type InUseError struct {
	Dir string
	PID int
}

func (e *InUseError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("another process (pid %d)", e.PID)
	}
	return fmt.Sprintf("the data folder %s is in use by %s: stop it, or give another --dir", e.Dir, who)
}

// Open locks the folder, starts the engine and opens the port. Requests are
// answered once Run runs. The folder in use is an *InUseError.
func Open(c Config) (s *Server, err error) {
	if c.Clients <= 0 {
		c.Clients = 4
	}
	if c.Grace <= 0 {
		c.Grace = 10 * time.Second
	}
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if err := loopback(c.Addr); err != nil {
		return nil, err
	}
	if _, err := os.Stat(c.Library); err != nil {
		return nil, fmt.Errorf("no ClickHouse engine at %q: `make run` fetches it (npm %s@%s), or give --chdb-lib FILE or --clickhouse-url URL", c.Library, Package, Version)
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	s = &Server{dir: dir, grace: c.Grace}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
			s = nil
		}
	}()
	if s.lock, err = lock(dir); err != nil {
		return s, err
	}
	spool := filepath.Join(dir, "spool")
	if err := os.RemoveAll(spool); err != nil { // what a killed process left
		return s, fmt.Errorf("sweep the spool: %w", err)
	}
	if err := os.Mkdir(spool, 0o700); err != nil {
		return s, err
	}
	if s.token, err = ownToken(dir); err != nil {
		return s, err
	}
	if s.listen, err = net.Listen("tcp", c.Addr); err != nil {
		return s, fmt.Errorf("open the ClickHouse port: %w", err)
	}
	if s.engine, err = openEngine(c.Library, filepath.Join(dir, "data"), c.ConfigFile, c.Clients); err != nil {
		return s, fmt.Errorf("open %s: %w", dir, err)
	}
	var said strings.Builder
	err = s.engine.run(context.Background(), statement{sql: "SELECT version(), timezone()", format: "TSVRaw"}, func(b []byte) error {
		said.Write(b)
		return nil
	})
	if err != nil {
		return s, fmt.Errorf("ask the engine its version: %w", err)
	}
	version, zone, _ := strings.Cut(strings.TrimSpace(said.String()), "\t")
	s.http = &http.Server{
		Handler:           &bridge{engine: s.engine, spool: spool, user: User, password: s.token, version: version, timezone: zone},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // errors reach the client
	}
	return s, replaceFile(filepath.Join(dir, urlFile), "http://"+s.listen.Addr().String()+"\n")
}

// URL of the bridge, with the name and the token in it.
func (s *Server) URL() string {
	u := url.URL{Scheme: "http", User: url.UserPassword(User, s.token), Host: s.listen.Addr().String(), Path: "/"}
	return u.String()
}

// Address of the bridge without them, for --clickhouse-url; --clickhouse-user is
// User and --clickhouse-password-file the folder's file TokenFile.
func (s *Server) Address() string {
	u := url.URL{Scheme: "http", Host: s.listen.Addr().String(), Path: "/"}
	return u.String()
}

// Run answers requests until ctx ends, lets those under way finish for Config.Grace,
// kills the rest, and closes the engine.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listen) }()
	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("serve ClickHouse on %s: %w", s.listen.Addr(), err)
	case <-ctx.Done():
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
		defer cancel()
		_ = s.http.Shutdown(end) // what goes on is killed by Close
		_ = s.http.Close()
	}
	return errors.Join(err, s.Close())
}

// Close ends what Open began. After Run it has been done.
func (s *Server) Close() error {
	if s.lock == nil {
		return nil
	}
	var err error
	if s.listen != nil {
		_ = os.Remove(filepath.Join(s.dir, urlFile))
		_ = s.listen.Close() // again, after Run
	}
	if s.engine != nil {
		end, cancel := context.WithTimeout(context.Background(), s.grace)
		err = s.engine.close(end)
		cancel()
	}
	if err == nil { // else the engine still writes there
		err = s.lock.Close()
	}
	s.lock = nil
	return err
}

// lock takes the folder for this process. The kernel lets go of it when the
// process dies, however it dies.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		b, _ := os.ReadFile(f.Name())
		_ = f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the data folder %s: %w", dir, err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return nil, &InUseError{Dir: dir, PID: pid}
	}
	if err := errors.Join(f.Truncate(0), func() error { _, err := fmt.Fprintln(f, os.Getpid()); return err }()); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the data folder: %w", err), f.Close())
	}
	return f, nil
}

// ownToken reads the folder's token, or makes one. It stays the same, so that a
// BI tool need not be told a new one each time.
func ownToken(dir string) (string, error) {
	path := filepath.Join(dir, TokenFile)
	switch b, err := os.ReadFile(path); {
	case err == nil && len(strings.TrimSpace(string(b))) >= 20:
		return strings.TrimSpace(string(b)), os.Chmod(path, 0o600)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := rand.Text()
	return token, replaceFile(path, token+"\n")
}

// replaceFile writes a file that only its owner may read, whole or not at all.
func replaceFile(path, content string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func loopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("address %q is not loopback: the embedded engine serves this machine only, e.g. 127.0.0.1:8123", addr)
	}
	return nil
}

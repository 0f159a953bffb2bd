// Package embedded runs the broker, a nats-server with JetStream on files, inside this process: what `spin run` uses, and the tests. Services connect to
// it as they would to a cluster, each with its own connection, so that the code path is the production one; unless told to listen it opens no port.
package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
)

const (
	maxPayload   = 8 << 20   // larger messages harm the stream's index (nats-server 6797)
	maxMemory    = 256 << 20 // of memory streams, which spin does not use
	startTimeout = 30 * time.Second
)

// Config says where the broker keeps its files and whether others may connect.
type Config struct {
	// Dir holds the streams. One process at a time: it is locked.
	Dir string
	// Listen is a loopback host:port for other processes, port 0 for any; empty: none. They find it by Dir/url and need the token in Dir/token, which only this
	// user can read.
	Listen string
	// SyncInterval is how long an acknowledged message may be in the page cache only; 0: 10 s. A crash of the process loses nothing, a power
	// failure what is younger.
	SyncInterval time.Duration
	// SyncAlways fsyncs before every acknowledgement: a power failure loses nothing, at a thousand messages a second.
	SyncAlways bool
	// MaxStore bounds all streams, bytes; 0: three quarters of the free disk.
	MaxStore int64
}

// Server is a running broker.
type Server struct {
	server *server.Server
	lock   *os.File
	token  string

	urlPath string // of the file with our address; empty: not listening

	stuck   atomic.Bool // a stream could not be written
	closing chan struct{}
	tending sync.WaitGroup
}

// Start locks the folder, starts the broker, and returns when it takes connections. Close it.
func Start(ctx context.Context, cfg Config, log zerolog.Logger) (*Server, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, cfg, log)
	if err != nil {
		lock.Close()
		return nil, err
	}
	s.lock = lock
	if cfg.Listen != "" {
		if err := s.announce(cfg.Dir); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func start(ctx context.Context, cfg Config, log zerolog.Logger) (*Server, error) {
	options := &server.Options{
		ServerName: "spin", JetStream: true, StoreDir: cfg.Dir, JetStreamMaxMemory: maxMemory, JetStreamMaxStore: cfg.MaxStore,
		MaxPayload: maxPayload, WriteDeadline: 10 * time.Second, SyncInterval: 10 * time.Second, SyncAlways: cfg.SyncAlways,
		NoSigs: true, DontListen: true,
	}
	if cfg.SyncInterval > 0 {
		options.SyncInterval = cfg.SyncInterval
	}
	s := &Server{closing: make(chan struct{})}
	if cfg.Listen != "" {
		host, port, err := net.SplitHostPort(cfg.Listen)
		if err == nil {
			options.Port, err = strconv.Atoi(port)
		}
		if err != nil || options.Port < 0 || options.Port > 65535 {
			return nil, fmt.Errorf("broker address %q: want host:port, e.g. 127.0.0.1:4222", cfg.Listen)
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, fmt.Errorf("broker address %q is not loopback, and this broker knows no TLS: other machines need a nats-server, see deploy/nats", cfg.Listen)
		}
		if err := probe(cfg.Listen); err != nil {
			return nil, err
		}
		if options.Port == 0 {
			options.Port = server.RANDOM_PORT
		}
		if s.token, err = readToken(filepath.Join(cfg.Dir, tokenFile)); err != nil {
			return nil, err
		}
		options.Host, options.DontListen, options.Authorization = host, false, s.token
	}
	var err error
	if s.server, err = server.NewServer(options); err != nil {
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	fatal := make(chan string, 1)
	s.server.SetLogger(&logger{log: log.With().Str("component", "broker").Logger(), fatal: fatal, stuck: &s.stuck}, false, false)
	go s.server.Start() // returns at once without a listener, at shutdown with one

	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !s.server.ReadyForConnections(time.Millisecond) {
		select {
		case <-tick.C:
			continue
		case reason := <-fatal:
			err = errors.New(reason)
		case <-deadline.C:
			err = fmt.Errorf("not ready after %v", startTimeout)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		s.server.Shutdown()
		return nil, fmt.Errorf("start the broker in %s: %w", cfg.Dir, err)
	}
	s.tending.Go(func() { s.keepGoing(options, log) })
	return s, nil
}

// Config is how a service of this process connects; name is service/instance.
func (s *Server) Config(name string) bus.Config {
	return bus.Config{Server: s, Token: s.token, Name: name}
}

// InProcessConn opens a connection without a port; bus.Connect calls it.
func (s *Server) InProcessConn() (net.Conn, error) { return s.server.InProcessConn() }

// URL is where other processes connect, with the token in Dir/token; empty where the broker does not listen.
func (s *Server) URL() string {
	if s.token == "" {
		return ""
	}
	return s.server.ClientURL()
}

// Close stops the broker after its files are written, and unlocks the folder.
func (s *Server) Close() error {
	close(s.closing)
	s.tending.Wait()
	s.server.Shutdown()
	s.server.WaitForShutdown()
	return errors.Join(s.withdraw(), s.lock.Close())
}

// probe reports a port in use in words; the server itself would exit the process.
func probe(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("broker address %s: %w: choose another, or port 0 for any", address, err)
	}
	return l.Close()
}

// readToken reads the token file, or makes it.
func readToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		if token := strings.TrimSpace(string(b)); len(token) >= 16 {
			return token, os.Chmod(path, 0o600) // whoever copied the folder may have widened it
		}
		return "", fmt.Errorf("%s: want a token of 16 characters or more; remove the file to get a new one", path)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("broker token: %w", err)
	}
	token := rand.Text()
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("broker token: %w", err)
	}
	return token, nil
}

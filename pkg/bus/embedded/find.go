package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
)

// Files in a broker's folder that say where other processes reach it. Only this user can read them.
const (
	tokenFile = "token"
	urlFile   = "url"
)

// Find is how a process of this user connects to the broker that another one runs in dir; name is service/instance. os.ErrNotExist means that none does,
// or that it does not listen.
func Find(ctx context.Context, dir, name string) (bus.Config, error) {
	address, err := os.ReadFile(filepath.Join(dir, urlFile))
	if err != nil {
		return bus.Config{}, err
	}
	token, err := os.ReadFile(filepath.Join(dir, tokenFile))
	if err != nil {
		return bus.Config{}, err
	}
	cfg := bus.Config{URL: strings.TrimSpace(string(address)), Token: strings.TrimSpace(string(token)), Name: name}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "nats" || u.Host == "" {
		return bus.Config{}, fmt.Errorf("%s: want nats://host:port", filepath.Join(dir, urlFile))
	}
	dialer := net.Dialer{Timeout: 2 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return bus.Config{}, fmt.Errorf("%w: %w", os.ErrNotExist, err) // killed before it could take its file away
	}
	return cfg, conn.Close()
}

// announce leaves the address for Find.
func (s *Server) announce(dir string) error {
	s.urlPath = filepath.Join(dir, urlFile)
	if err := os.WriteFile(s.urlPath, []byte(s.URL()+"\n"), 0o600); err != nil {
		return fmt.Errorf("announce the broker: %w", err)
	}
	return nil
}

// withdraw takes the address away.
func (s *Server) withdraw() error {
	if s.urlPath == "" {
		return nil
	}
	if err := os.Remove(s.urlPath); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

package embedded

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
)

func open(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFolderBelongsToOneBroker(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	_, err := Start(t.Context(), Config{Dir: dir}, zerolog.Nop())
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
		t.Errorf("a second broker on the folder: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, Config{Dir: dir, SyncAlways: true}).Close(); err != nil {
		t.Error(err)
	}
}

func TestStateSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	for start := range 2 {
		s := open(t, Config{Dir: dir})
		if s.URL() != "" {
			t.Errorf("listens on %s without being told to", s.URL())
		}
		c, err := bus.Init(t.Context(), s.Config("spin/1"), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		if start == 0 {
			_, err = c.Control().Create(t.Context(), "run.x", []byte("1"))
		} else {
			_, err = c.Control().Get(t.Context(), "run.x")
		}
		if err != nil {
			t.Error(err)
		}
		c.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestListeningNeedsTheToken(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir, Listen: "127.0.0.1:0"})
	inside, err := bus.Init(t.Context(), s.Config("spin/1"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	path := filepath.Join(dir, "token")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("token file: %v, %v", info, err)
	}
	token, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	outside, err := bus.Connect(t.Context(), bus.Config{URL: s.URL(), Token: strings.TrimSpace(string(token))}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	outside.Close()
	found, err := Find(t.Context(), dir, "spin/2")
	if err != nil {
		t.Fatal(err)
	}
	if outside, err = bus.Connect(t.Context(), found, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	outside.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := bus.Connect(ctx, bus.Config{URL: s.URL(), Token: "wrong"}, zerolog.Nop()); err == nil {
		t.Error("a wrong token connected")
	}
	address, err := os.ReadFile(filepath.Join(dir, "url"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(t.Context(), dir, "spin/3"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a broker that is closed is found: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "url"), address, 0o600); err != nil { // as one that was killed leaves it
		t.Fatal(err)
	}
	if _, err := Find(t.Context(), dir, "spin/3"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a broker that was killed is found: %v", err)
	}
}

func TestBadAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct{ listen, want string }{
		{l.Addr().String(), "choose another"},
		{"localhost", "want host:port"},
		{"127.0.0.1:99999", "want host:port"},
		{"0.0.0.0:0", "is not loopback"},
		{":0", "is not loopback"},
		{"broker.example:4222", "is not loopback"},
	} {
		_, err := Start(t.Context(), Config{Dir: t.TempDir(), Listen: c.listen}, zerolog.Nop())
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", c.listen, err)
		}
	}
	if _, err := Start(t.Context(), Config{Dir: filepath.Join(os.DevNull, "x")}, zerolog.Nop()); err == nil {
		t.Error("started in a folder that can't be")
	}
}

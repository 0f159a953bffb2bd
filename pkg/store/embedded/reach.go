package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Find returns the URL of the bridge that serves the folder, name and token in
// it, after asking it whether it is there. os.ErrNotExist means that no process
// serves it.
func Find(ctx context.Context, dir string) (string, error) {
	token, err := os.ReadFile(filepath.Join(dir, TokenFile))
	if err != nil {
		return "", err
	}
	addr, err := os.ReadFile(filepath.Join(dir, urlFile))
	if err != nil {
		return "", err
	}
	u, err := url.Parse(strings.TrimSpace(string(addr)))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", filepath.Join(dir, urlFile), err)
	}
	if err := loopback(u.Host); err != nil {
		return "", fmt.Errorf("read %s: %w", filepath.Join(dir, urlFile), err)
	}
	u.User, u.Path = url.UserPassword(User, strings.TrimSpace(string(token))), "/"
	if err := ask(ctx, *u); err != nil {
		return "", fmt.Errorf("%w: %w", os.ErrNotExist, err) // killed before it could take its files away
	}
	return u.String(), nil
}

func ask(ctx context.Context, u url.URL) error {
	u.RawQuery = "query=SELECT+1"
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 200))
	if err == nil && string(b) != "1\n" {
		err = fmt.Errorf("%s answers %q", u.Redacted(), b)
	}
	return err
}

// startup is how long a process may take to start or to end.
const startup = 10 * time.Second

// Reach returns the URL of a bridge on c.Dir: that of the process that has the
// folder open, or else of an engine started here, which stop ends. It waits a
// few seconds for a process that is just starting or ending.
func Reach(ctx context.Context, c Config) (address string, stop func() error, err error) {
	deadline, cancel := context.WithTimeout(ctx, startup)
	defer cancel()
	for {
		var inUse *InUseError
		address, err := Find(deadline, c.Dir)
		if err == nil {
			return address, func() error { return nil }, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", nil, err
		}
		switch s, err := Open(c); {
		case err == nil:
			run, end := context.WithCancel(context.WithoutCancel(ctx))
			done := make(chan error, 1)
			go func() { done <- s.Run(run) }()
			return s.URL(), func() error { end(); return <-done }, nil
		case !errors.As(err, &inUse):
			return "", nil, err
		}
		select {
		case <-deadline.Done():
			return "", nil, inUse
		case <-time.After(100 * time.Millisecond):
		}
	}
}

package bus

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/seed-8780d58e/spin/pkg/secret"
)

// Security is who a service is to the broker and how both know each other: paths of files. deploy/nats has the broker's side.
type Security struct {
	// Creds is a credentials file: a user's JWT and its key.
	Creds string
	// NKey is a file with the seed of a user's key; the broker's configuration names the public half.
	NKey string
	// CA has the certificates, PEM, that the broker's must be signed by; empty: the system's. Giving it asks for TLS.
	CA string
	// Cert and Key are our own certificate, PEM, where the broker wants one.
	Cert, Key string
	// Inbox begins the subjects on which answers come, _INBOX_<role>, so that no role can listen to another's; empty: _INBOX.
	Inbox string
}

// options checks the files and makes them options of the connection.
func (c Config) options() ([]nats.Option, error) {
	var options []nats.Option
	given := 0
	for _, way := range []string{c.Token, c.Creds, c.NKey} {
		if way != "" {
			given++
		}
	}
	switch {
	case given > 1:
		return nil, errors.New("a token, a credentials file and an nkey: give one of them")
	case (c.Cert == "") != (c.Key == ""):
		return nil, errors.New("a certificate without its key, or a key without its certificate")
	case c.Token != "" && c.Server == nil && !c.encrypted() && !onLoopback(c.URL):
		return nil, errors.New("a token to another machine could be read on the way: use tls://, or an nkey")
	}
	for _, path := range []string{c.Creds, c.NKey, c.Key} {
		if path == "" {
			continue
		}
		if err := secret.Check(path); err != nil {
			return nil, err
		}
	}
	if c.Creds != "" {
		options = append(options, nats.UserCredentials(c.Creds))
	}
	if c.NKey != "" {
		option, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			return nil, fmt.Errorf("%s: want the seed of a user's nkey: %w", c.NKey, err)
		}
		options = append(options, option)
	}
	if c.CA != "" {
		if _, err := os.Stat(c.CA); err != nil {
			return nil, err
		}
		options = append(options, nats.RootCAs(c.CA))
	}
	if c.Cert != "" {
		options = append(options, nats.ClientCert(c.Cert, c.Key))
	}
	if c.Inbox != "" {
		options = append(options, nats.CustomInboxPrefix(c.Inbox))
	}
	return options, nil
}

// encrypted reports whether the connection will be refused unless it is.
func (c Config) encrypted() bool {
	return c.CA != "" || c.Cert != "" || strings.HasPrefix(c.URL, "tls://") || strings.HasPrefix(c.URL, "wss://")
}

// onLoopback reports whether all brokers of a list of URLs are on this machine.
func onLoopback(urls string) bool {
	for raw := range strings.SplitSeq(urls, ",") {
		raw = strings.TrimSpace(raw)
		if !strings.Contains(raw, "://") {
			raw = "nats://" + raw
		}
		u, err := url.Parse(raw)
		if err != nil {
			return false
		}
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && u.Hostname() != "" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// redacted leaves what is before an @ out of a list of URLs, for messages.
func redacted(urls string) string {
	list := strings.Split(urls, ",")
	for i, raw := range list {
		if scheme, rest, ok := strings.Cut(raw, "://"); ok {
			list[i] = scheme + "://" + rest[strings.LastIndex(rest, "@")+1:]
		} else {
			list[i] = raw[strings.LastIndex(raw, "@")+1:]
		}
	}
	return strings.Join(list, ",")
}

// denials counts what the broker refused to carry. It says so beside the conversation: whoever waits for an answer to a refused message would wait
// for ever.
type denials struct {
	mu   sync.Mutex
	n    int
	last error
}

func (d *denials) note(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n, d.last = d.n+1, err
}

func (d *denials) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

// since is the last refusal, if there was one after the n-th.
func (d *denials) since(n int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.n == n {
		return nil
	}
	return d.last
}

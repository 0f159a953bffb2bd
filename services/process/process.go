// Package process is what the binaries of the services have in common beside pkg/cli: which broker,
// which blobs, which device. It is the only package beside `spin` that names a backend: what is
// below gets a compute.Device.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/cli"
	"github.com/seed-8780d58e/spin/pkg/secret"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// Broker says how to reach NATS, and who we are there. Secrets come as files only.
type Broker struct {
	url, tokenFile string
	security       bus.Security
	replicas       int
}

// Flags registers --nats-url and the ways to be known there.
func (b *Broker) Flags(f *pflag.FlagSet) {
	f.StringVar(&b.url, "nats-url", "nats://127.0.0.1:4222", "broker, several separated by commas")
	f.StringVar(&b.security.NKey, "nats-nkey", "", "file with the seed of our key there")
	f.StringVar(&b.security.Creds, "nats-creds", "", "file with our credentials there, a JWT and its key")
	f.StringVar(&b.tokenFile, "nats-token-file", "", "file with a token for it, as the broker of `spin run` has")
	f.StringVar(&b.security.CA, "nats-ca", "", "certificates that the broker's is signed by, PEM; giving it asks for TLS")
	f.StringVar(&b.security.Cert, "nats-cert", "", "our certificate for it, PEM")
	f.StringVar(&b.security.Key, "nats-key", "", "our certificate's key, PEM")
}

// InitFlags registers what only the service has that makes the broker's streams.
func (b *Broker) InitFlags(f *pflag.FlagSet) {
	f.IntVar(&b.replicas, "replicas", 0, "copies of every stream: 1, or 3 or 5 in a cluster; streams that are there are changed (default: as they are, else 1)")
}

// Connect waits for the broker until ctx ends, and returns the connection with a name for this
// process: service-xxxxxxxx, new for each start. monitor, if not nil, counts what the connection does.
func (b *Broker) Connect(ctx context.Context, service string, monitor *telemetry.Monitor, log zerolog.Logger) (*bus.Conn, string, error) {
	return b.connect(ctx, service, monitor, log, bus.Connect)
}

// Init is Connect for the service that makes the broker's streams, the trainer.
func (b *Broker) Init(ctx context.Context, service string, monitor *telemetry.Monitor, log zerolog.Logger) (*bus.Conn, string, error) {
	return b.connect(ctx, service, monitor, log, bus.Init)
}

func (b *Broker) connect(ctx context.Context, service string, monitor *telemetry.Monitor, log zerolog.Logger, connect func(context.Context, bus.Config, zerolog.Logger) (*bus.Conn, error)) (*bus.Conn, string, error) {
	cfg, instance, err := b.config(service)
	if err != nil {
		return nil, "", cli.BadInput(err)
	}
	if monitor != nil {
		cfg.Metrics = telemetry.NewBus(monitor.Registry)
	}
	conn, err := connect(ctx, cfg, log)
	return conn, instance, err
}

// config reads the files, so that a wrong path is bad input and no failure of the broker's.
func (b *Broker) config(service string) (cfg bus.Config, instance string, err error) {
	instance = service + "-" + uuid.NewString()[:8]
	cfg = bus.Config{URL: b.url, Security: b.security, Name: service + "/" + instance}
	cfg.Inbox = "_INBOX_" + service // deploy/nats lets a role listen to its own answers only
	if strings.Contains(b.url, "@") {
		return cfg, "", errors.New("--nats-url holds a name or a password, which others can read off the command line: give --nats-nkey, --nats-creds or --nats-token-file")
	}
	if b.replicas != 0 && b.replicas != 1 && b.replicas != 3 && b.replicas != 5 {
		return cfg, "", fmt.Errorf("--replicas is %d, want 1, 3 or 5", b.replicas)
	}
	cfg.Replicas = b.replicas
	given := 0
	for _, path := range []string{b.security.NKey, b.security.Creds, b.tokenFile} {
		if path != "" {
			given++
		}
	}
	if given > 1 {
		return cfg, "", errors.New("--nats-nkey, --nats-creds and --nats-token-file: give one of them")
	}
	if (b.security.Cert == "") != (b.security.Key == "") {
		return cfg, "", errors.New("--nats-cert and --nats-key: give both or none")
	}
	for _, file := range []struct {
		flag, path string
		check      func(string) error
	}{
		{"--nats-nkey", b.security.NKey, secret.Check}, {"--nats-creds", b.security.Creds, secret.Check}, {"--nats-key", b.security.Key, secret.Check},
		{"--nats-ca", b.security.CA, readable}, {"--nats-cert", b.security.Cert, readable},
	} {
		if file.path == "" {
			continue
		}
		if err := file.check(file.path); err != nil {
			return cfg, "", fmt.Errorf("%s: %w", file.flag, err)
		}
	}
	if b.tokenFile != "" {
		if cfg.Token, err = secret.Read(b.tokenFile); err != nil {
			return cfg, "", fmt.Errorf("--nats-token-file: %w", err)
		}
	}
	return cfg, instance, nil
}

func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// Package process is what the binaries of the services have in common beside pkg/cli: which broker,
// which folders, which device. It is the only package beside `spin` that names a backend: what is
// below gets a compute.Device.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/cli"
)

// Broker says how to reach NATS.
type Broker struct {
	url, creds, tokenFile string
}

// Flags registers --nats-url, --nats-creds and --nats-token-file.
func (b *Broker) Flags(f *pflag.FlagSet) {
	f.StringVar(&b.url, "nats-url", "nats://127.0.0.1:4222", "broker, several separated by commas")
	f.StringVar(&b.creds, "nats-creds", "", "credentials file for it")
	f.StringVar(&b.tokenFile, "nats-token-file", "", "file with a token for it")
}

// Connect waits for the broker until ctx ends, and returns the connection with a name for this
// process: service-xxxxxxxx, new for each start.
func (b *Broker) Connect(ctx context.Context, service string, log zerolog.Logger) (*bus.Conn, string, error) {
	return b.connect(ctx, service, log, bus.Connect)
}

// Init is Connect for the service that makes the broker's streams, the trainer.
func (b *Broker) Init(ctx context.Context, service string, log zerolog.Logger) (*bus.Conn, string, error) {
	return b.connect(ctx, service, log, bus.Init)
}

func (b *Broker) connect(ctx context.Context, service string, log zerolog.Logger, connect func(context.Context, bus.Config, zerolog.Logger) (*bus.Conn, error)) (*bus.Conn, string, error) {
	instance := service + "-" + uuid.NewString()[:8]
	cfg := bus.Config{URL: b.url, Creds: b.creds, Name: service + "/" + instance}
	if b.creds != "" && b.tokenFile != "" {
		return nil, "", cli.BadInput(errors.New("--nats-creds and --nats-token-file: give one of them"))
	}
	for flag, path := range map[string]string{"--nats-creds": b.creds, "--nats-token-file": b.tokenFile} {
		if path == "" {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, "", cli.BadInput(fmt.Errorf("%s: %w", flag, err))
		}
		if path == b.tokenFile {
			cfg.Token = strings.TrimSpace(string(data))
		}
	}
	conn, err := connect(ctx, cfg, log)
	return conn, instance, err
}

// Folders are where a service finds checkpoints and works on them.
type Folders struct {
	blobs, scratch string
}

// Flags registers --blob-dir and --scratch.
func (d *Folders) Flags(f *pflag.FlagSet) {
	f.StringVar(&d.blobs, "blob-dir", "", "folder of the checkpoints, shared by all services of a fleet")
	f.StringVar(&d.scratch, "scratch", "", "folder for checkpoints in work, best on the same file system (default: scratch in the blob folder)")
}

// Open makes the folders where they are missing.
func (d *Folders) Open() (blobs *blob.Store, scratch string, err error) {
	if d.blobs == "" {
		return nil, "", cli.BadInput(errors.New("--blob-dir is missing: the folder of the checkpoints, shared by all services of a fleet"))
	}
	if blobs, err = blob.New(d.blobs); err != nil {
		return nil, "", cli.BadInput(err)
	}
	scratch = d.scratch
	if scratch == "" {
		scratch = filepath.Join(d.blobs, "scratch")
	}
	return blobs, scratch, cli.BadInput(os.MkdirAll(scratch, 0o755))
}

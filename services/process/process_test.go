package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/cli"
)

// flags parses a command line for both.
func flags(t *testing.T, args ...string) (*Broker, *Folders) {
	t.Helper()
	b, d := &Broker{}, &Folders{}
	f := pflag.NewFlagSet("service", pflag.ContinueOnError)
	b.Flags(f)
	d.Flags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return b, d
}

func TestBrokerRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("sesame sesame sesame"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	own, open := file("own", 0o600), file("open", 0o644)
	for _, c := range []struct {
		args, want string
	}{
		{"--nats-url nats://spin:sesame@broker:4222", "--nats-url holds a name or a password"},
		{"--nats-url nats://sesame@broker:4222", "--nats-url holds a name or a password"},
		{"--nats-nkey " + own + " --nats-creds " + own, "give one of them"},
		{"--nats-token-file " + own + " --nats-creds " + own, "give one of them"},
		{"--nats-cert " + own, "give both or none"},
		{"--nats-nkey " + open, "--nats-nkey: " + open + " holds a secret and everybody may open it (mode 0644): chmod 600 " + open},
		{"--nats-creds " + open, "--nats-creds: " + open},
		{"--nats-token-file " + open, "--nats-token-file: " + open},
		{"--nats-cert " + open + " --nats-key " + open, "--nats-key: " + open},
		{"--nats-ca " + filepath.Join(dir, "none"), "--nats-ca: open " + filepath.Join(dir, "none")},
		{"--nats-nkey " + dir, "is a folder"},
	} {
		b, _ := flags(t, strings.Fields(c.args)...)
		_, _, err := b.Connect(t.Context(), "generator", nil, zerolog.Nop())
		if cli.ExitCode(err) != cli.ExitBadInput || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", c.args, err)
		}
	}
	b, _ := flags(t, "--nats-token-file", own)
	if cfg, instance, err := b.config("generator"); err != nil || cfg.Token != "sesame sesame sesame" || cfg.Inbox != "_INBOX_generator" || cfg.Name != "generator/"+instance {
		t.Errorf("%+v, %s, %v", cfg, instance, err)
	}
}

func TestBlobURL(t *testing.T) {
	for _, c := range []struct {
		args, want, err string
	}{
		{"", "", "--blob-url is missing"},
		{"--blob-url /shared/blobs", "file:///shared/blobs", ""},
		{"--blob-url file:///shared/blobs", "file:///shared/blobs", ""},
		{"--blob-dir /shared/blobs", "file:///shared/blobs", ""},
		{"--blob-url nats://", "nats://spin_blobs", ""},
		{"--blob-url nats://others", "nats://others", ""},
		{"--blob-url s3://bucket/prefix?region=x", "s3://bucket/prefix?region=x", ""},
		{"--blob-url a --blob-dir b", "", "give one of them"},
		{"--blob-url file://host/blobs", "", "want file:///folder"},
		{"--blob-url nats://bucket/prefix", "", "want file:///folder"},
		{"--blob-url ftp://host/blobs", "", "want file:///folder"},
		{"--blob-url s3://me:sesame@bucket", "", "credentials in a file"},
	} {
		_, d := flags(t, strings.Fields(c.args)...)
		u, err := d.place()
		switch {
		case c.err == "" && (err != nil || u.String() != c.want):
			t.Errorf("%s: %v, %v, want %s", c.args, u, err, c.want)
		case c.err != "" && (err == nil || cli.ExitCode(d.Check()) != cli.ExitBadInput || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "sesame")):
			t.Errorf("%s: %v, want %s", c.args, err, c.err)
		}
	}
	dir := filepath.Join(t.TempDir(), "blobs")
	_, d := flags(t, "--blob-url", dir)
	blobs, scratch, err := d.Open(t.Context(), nil, true)
	if err != nil || blobs.URI() != "file://"+dir || scratch != filepath.Join(dir, "scratch") {
		t.Errorf("%v, %s, %v", blobs, scratch, err)
	}
	if _, err := os.Stat(scratch); err != nil {
		t.Error(err)
	}
}

package process

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/blob/s3"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/cli"
)

// Folders are where a service finds checkpoints and works on them.
type Folders struct {
	url, dir        string
	credentials, ca string
	scratch         string
}

// Flags registers --blob-url and what belongs to it, and --scratch.
func (d *Folders) Flags(f *pflag.FlagSet) {
	f.StringVar(&d.url, "blob-url", "", "where checkpoints lie: file:///folder that all services share, nats://bucket on the broker, or s3://bucket/prefix?endpoint=https://host:port")
	f.StringVar(&d.dir, "blob-dir", "", "a folder, short for --blob-url file:///folder")
	f.StringVar(&d.credentials, "blob-credentials", "", "file with credentials for S3: [default], aws_access_key_id, aws_secret_access_key")
	f.StringVar(&d.ca, "blob-ca", "", "certificates that the S3 endpoint's is signed by, PEM")
	f.StringVar(&d.scratch, "scratch", "", "folder for checkpoints in work, best on the same file system (default: scratch in the blob folder, else in the user's cache)")
}

// Given reports whether the flags name a place.
func (d *Folders) Given() bool { return d.url != "" || d.dir != "" }

// Default names the place where the flags don't.
func (d *Folders) Default(dir string) {
	if !d.Given() {
		d.dir = dir
	}
}

// Check finds what is wrong with the flags before anything is started.
func (d *Folders) Check() error {
	_, err := d.place()
	return cli.BadInput(err)
}

const wantURL = "want file:///folder, nats://bucket or s3://bucket/prefix?endpoint=https://host:port"

// place is the flags' URL; a path is a folder.
func (d *Folders) place() (*url.URL, error) {
	switch {
	case d.url != "" && d.dir != "":
		return nil, errors.New("--blob-url and --blob-dir: give one of them")
	case !d.Given():
		return nil, errors.New("--blob-url is missing: where the checkpoints lie, the same for all services of a fleet; " + wantURL)
	case d.dir != "":
		return &url.URL{Scheme: "file", Path: d.dir}, nil
	case !strings.Contains(d.url, "://"):
		return &url.URL{Scheme: "file", Path: d.url}, nil
	}
	u, err := url.Parse(d.url)
	switch {
	case err != nil || u.User != nil: // it is not said again, lest a password is
		return nil, errors.New("--blob-url: " + wantURL + ", and credentials in a file")
	case u.Scheme == "file" && u.Host == "" && u.Path != "", u.Scheme == "s3":
		return u, nil
	case u.Scheme == "nats" && u.Path == "" && u.RawQuery == "":
		if u.Host == "" {
			u.Host = bus.BlobBucket
		}
		return u, nil
	}
	return nil, fmt.Errorf("--blob-url %s: %s", u.Redacted(), wantURL)
}

// Open opens the blob store and makes the scratch folder. conn is the broker, which may hold the
// blobs; create says that this service makes what is missing there.
func (d *Folders) Open(ctx context.Context, conn *bus.Conn, create bool) (blobs *blob.Store, scratch string, err error) {
	u, err := d.place()
	if err != nil {
		return nil, "", cli.BadInput(err)
	}
	scratch = d.scratch
	if scratch == "" && u.Scheme == "file" {
		scratch = filepath.Join(u.Path, "scratch")
	} else if scratch == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			cache = os.TempDir()
		}
		scratch = filepath.Join(cache, "spin", "scratch")
	}
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return nil, "", cli.BadInput(err)
	}
	var driver blob.Driver
	switch u.Scheme {
	case "file":
		blobs, err = blob.New(u.Path)
		return blobs, scratch, cli.BadInput(err)
	case "nats":
		driver, err = conn.Objects(ctx, u.Host, create)
	case "s3":
		driver, err = s3.Open(ctx, s3.Config{URL: d.url, Credentials: d.credentials, CA: d.ca})
	}
	if err != nil {
		return nil, "", cli.BadInput(fmt.Errorf("--blob-url: %w", err))
	}
	blobs, err = blob.Over(driver, filepath.Join(scratch, "transfers"))
	return blobs, scratch, cli.BadInput(err)
}

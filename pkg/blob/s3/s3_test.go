package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/blob/blobtest"
)

// moto is the S3 server of the tests, a Python package.
const moto = "moto[server,s3]==5.2.5"

// install makes a virtual environment with moto in the project's cache folder, once, and returns its Python.
func install(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("SPIN_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatalf("no cache folder, set SPIN_CACHE: %v", err)
		}
		cache = filepath.Join(dir, "spin")
	}
	venv := filepath.Join(cache, "moto-5.2.5")
	python, done := filepath.Join(venv, "bin", "python"), filepath.Join(venv, "installed")
	if _, err := os.Stat(done); err == nil {
		return python
	}
	for _, command := range [][]string{
		{"python3", "-m", "venv", "--clear", venv},
		{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", moto},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
		cancel()
		if err != nil {
			if os.Getenv("SPIN_S3_REQUIRED") != "" {
				t.Fatalf("SPIN_S3_REQUIRED is set: %s: %v: %s", strings.Join(command, " "), err, out)
			}
			t.Skipf("no S3 server to test with: %s: %v: %.300s", strings.Join(command, " "), err, out)
		}
	}
	if err := os.WriteFile(done, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return python
}

const key, word = "spin", "a secret of the test's own"

// server starts moto on a free port, and returns its address.
func server(t *testing.T) *url.URL {
	t.Helper()
	python := install(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	l.Close()
	var out bytes.Buffer
	c := exec.Command(python, "-m", "moto.server", "-H", "127.0.0.1", "-p", port)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // until it answers
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return &url.URL{Scheme: "http", Host: address}
		}
		if time.Now().After(deadline) {
			t.Fatalf("moto does not come up: %s", &out)
		}
	}
}

// counting sums up what is sent.
type counting struct {
	http.RoundTripper
	sent atomic.Int64
}

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPut {
		c.sent.Add(r.ContentLength)
	}
	return c.RoundTripper.RoundTrip(r)
}

func credentialsFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", key, word)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestS3(t *testing.T) {
	endpoint := server(t)
	client, err := minio.New(endpoint.Host, &minio.Options{Creds: credentials.NewStaticV4(key, word, "")})
	if err != nil {
		t.Fatal(err)
	}
	file := credentialsFile(t)
	buckets := 0
	bucket := func(t *testing.T) *Bucket {
		t.Helper()
		buckets++
		name := fmt.Sprintf("blobs-%d", buckets)
		at := "s3://" + name + "/a/prefix?region=us-east-1&endpoint=" + endpoint.String()
		if _, err := Open(t.Context(), Config{URL: at, Credentials: file}); err == nil || !strings.Contains(err.Error(), "no bucket "+name) {
			t.Errorf("opened a bucket that isn't there: %v", err)
		}
		if err := client.MakeBucket(t.Context(), name, minio.MakeBucketOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.PutObject(t.Context(), name, "a/prefix/README", strings.NewReader("not ours"), 8, minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		b, err := Open(t.Context(), Config{URL: at, Credentials: file})
		if err != nil {
			t.Fatal(err)
		}
		if want := "s3://" + name + "/a/prefix"; b.URI() != want {
			t.Errorf("URI %s, want %s", b.URI(), want)
		}
		return b
	}
	blobtest.Run(t, func(t *testing.T) (blob.Driver, func(*testing.T, string, []byte)) {
		b := bucket(t)
		return b, func(t *testing.T, digest string, data []byte) {
			if _, err := client.PutObject(t.Context(), b.bucket, b.key(digest), bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("uploads resume", func(t *testing.T) {
		b := bucket(t)
		transport := &counting{RoundTripper: http.DefaultTransport}
		counted, err := open(t.Context(), b.bucket, b.prefix, endpoint, &minio.Options{Creds: credentials.NewStaticV4(key, word, ""), Transport: transport})
		if err != nil {
			t.Fatal(err)
		}
		data := blobtest.Random(blobtest.Large, 4)
		broken := errors.New("cable pulled")
		if err := counted.Write(t.Context(), blobtest.Ref(data), errorAfter{bytes.NewReader(data), partSize + 1, broken}); !errors.Is(err, broken) {
			t.Fatal(err)
		}
		if sent := transport.sent.Load(); sent > 2*partSize {
			t.Errorf("%d bytes were sent before the end", sent)
		}
		// At least the first part is there, whatever became of those beside it.
		if err := counted.Write(t.Context(), blobtest.Ref(data), bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		if sent := transport.sent.Load(); sent > blobtest.Large+partSize {
			t.Errorf("%d bytes were sent for a blob of %d", sent, blobtest.Large)
		}
	})
}

// errorAfter is a file that can't be read from some byte on, and says so once what is before it has been sent.
type errorAfter struct {
	io.ReaderAt
	at  int64
	err error
}

func (e errorAfter) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > e.at {
		return 0, e.err
	}
	return e.ReaderAt.ReadAt(p, off)
}

func TestOpenRefuses(t *testing.T) {
	file := credentialsFile(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("[default]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.WriteFile(open, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		cfg  Config
		want string
	}{
		{"no bucket", Config{URL: "s3:///prefix", Credentials: file}, "want s3://bucket/prefix"},
		{"a password", Config{URL: "s3://me:sesame@bucket", Credentials: file}, "without a name or password"},
		{"a password for the endpoint", Config{URL: "s3://bucket?endpoint=http://me:sesame@host", Credentials: file}, "want s3://bucket/prefix"},
		{"an unknown option", Config{URL: "s3://bucket?endpont=http://host", Credentials: file}, `unknown option "endpont"`},
		{"no scheme", Config{URL: "s3://bucket?endpoint=host:9000", Credentials: file}, "endpoint: want"},
		{"no credentials", Config{URL: "s3://bucket"}, "needs a file with credentials"},
		{"credentials for all to see", Config{URL: "s3://bucket", Credentials: open}, "chmod 600"},
		{"empty credentials", Config{URL: "s3://bucket", Credentials: empty}, "aws_access_key_id"},
		{"no certificate", Config{URL: "s3://bucket", Credentials: file, CA: file}, "holds no certificate"},
	} {
		_, err := Open(t.Context(), c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// Package s3 is the driver of pkg/blob over S3 and what speaks its protocol, and the only package that knows a client for it. A blob is the object
// prefix/ab/abcdef…; a large one is sent in parts, several at a time, and a broken upload goes on with the parts that are missing.
package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/secret"
)

// Bounds of an upload. S3 takes parts of 5 MiB or more, and at most 10,000 of them.
const (
	partSize = 8 << 20
	maxParts = 9_000
	parallel = 4
	maxTries = 3
	limit    = 5 << 40 // of an object
)

// Config says which bucket, and who we are.
type Config struct {
	// URL is s3://bucket/prefix, with ?endpoint=https://host:port where it isn't Amazon's, and &region=….
	URL string
	// Credentials is a file as Amazon's tools have it: [default], aws_access_key_id, aws_secret_access_key.
	Credentials string
	// CA is a file of certificates, PEM, that the endpoint's must be signed by; empty: the system's.
	CA string
}

// Bucket is a blob.Driver.
type Bucket struct {
	client *minio.Core
	bucket string
	prefix string // with / at its end; empty: none
}

// Open checks the settings and that the bucket is there.
func Open(ctx context.Context, cfg Config) (*Bucket, error) {
	bucket, prefix, endpoint, region, err := parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.Credentials == "" {
		return nil, fmt.Errorf("%s needs a file with credentials", cfg.URL)
	}
	if err := secret.Check(cfg.Credentials); err != nil {
		return nil, err
	}
	who := credentials.NewFileAWSCredentials(cfg.Credentials, "default")
	if v, err := who.GetWithContext(nil); err != nil || v.AccessKeyID == "" || v.SecretAccessKey == "" {
		return nil, fmt.Errorf("%s: want [default] with aws_access_key_id and aws_secret_access_key", cfg.Credentials)
	}
	secure := endpoint.Scheme == "https"
	transport, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, err
	}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate, want PEM", cfg.CA)
		}
	}
	return open(ctx, bucket, prefix, endpoint, &minio.Options{Creds: who, Secure: secure, Region: region, Transport: transport})
}

func open(ctx context.Context, bucket, prefix string, endpoint *url.URL, options *minio.Options) (*Bucket, error) {
	client, err := minio.NewCore(endpoint.Host, options)
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", endpoint, err)
	}
	b := &Bucket{client: client, bucket: bucket, prefix: prefix}
	there, err := client.BucketExists(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("look for bucket %s at %s: %w", bucket, endpoint, err)
	}
	if !there {
		return nil, fmt.Errorf("%s has no bucket %s: make it first", endpoint, bucket)
	}
	return b, nil
}

// parse takes a URL apart.
func parse(raw string) (bucket, prefix string, endpoint *url.URL, region string, err error) {
	const want = "want s3://bucket/prefix?endpoint=https://host:port&region=name"
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.User != nil {
		return "", "", nil, "", errors.New("blob url: " + want + ", without a name or password") // the URL may hold one: it isn't said again
	}
	for key := range u.Query() {
		if !slices.Contains([]string{"endpoint", "region"}, key) {
			return "", "", nil, "", fmt.Errorf("blob url: unknown option %q: %s", key, want)
		}
	}
	at := u.Query().Get("endpoint")
	if at == "" {
		at = "https://s3.amazonaws.com"
	}
	if endpoint, err = url.Parse(at); err != nil || endpoint.Scheme != "http" && endpoint.Scheme != "https" || endpoint.Host == "" || endpoint.User != nil || strings.Trim(endpoint.Path, "/") != "" {
		return "", "", nil, "", errors.New("blob url: endpoint: " + want)
	}
	if prefix = strings.Trim(u.Path, "/"); prefix != "" {
		prefix += "/"
	}
	return u.Host, prefix, endpoint, u.Query().Get("region"), nil
}

// URI is s3://bucket/prefix.
func (b *Bucket) URI() string { return "s3://" + path.Join(b.bucket, b.prefix) }

// Limit is S3's own.
func (b *Bucket) Limit() int64 { return limit }

func (b *Bucket) key(digest string) string { return b.prefix + digest[:2] + "/" + digest }

// Stat asks for the object's size.
func (b *Bucket) Stat(ctx context.Context, digest string) (int64, error) {
	info, err := b.client.StatObject(ctx, b.bucket, b.key(digest), minio.StatObjectOptions{})
	return info.Size, translate(err)
}

// Open reads a range.
func (b *Bucket) Open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error) {
	var o minio.GetObjectOptions
	if offset > 0 {
		if err := o.SetRange(offset, 0); err != nil {
			return nil, err
		}
	}
	body, _, _, err := b.client.GetObject(ctx, b.bucket, b.key(digest), o)
	return body, translate(err)
}

// Write sends the blob whole, or in parts.
func (b *Bucket) Write(ctx context.Context, ref blob.Ref, r io.ReaderAt) error {
	size := int64(partSize)
	for ref.Size > size*maxParts {
		size *= 2
	}
	if ref.Size <= size {
		_, err := b.client.PutObject(ctx, b.bucket, b.key(ref.SHA256), io.NewSectionReader(r, 0, ref.Size), ref.Size, "", ref.SHA256, minio.PutObjectOptions{})
		return translate(err)
	}
	// Writers of one blob share an upload, and the first who is through ends it under the others.
	for try := 1; ; try++ {
		err := b.upload(ctx, ref, r, size)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if there, lookup := b.Stat(ctx, ref.SHA256); lookup == nil && there == ref.Size {
			return nil
		}
		if !errors.Is(err, blob.ErrNotFound) || try == maxTries {
			return err
		}
	}
}

// upload sends the parts that are missing, and makes them one object.
func (b *Bucket) upload(ctx context.Context, ref blob.Ref, r io.ReaderAt, size int64) error {
	id, there, err := b.resume(ctx, ref.SHA256)
	if err != nil {
		return err
	}
	parts, err := b.sendParts(ctx, ref, r, size, id, there)
	if err != nil {
		return err
	}
	_, err = b.client.CompleteMultipartUpload(ctx, b.bucket, b.key(ref.SHA256), id, parts, minio.PutObjectOptions{})
	return translate(err)
}

// resume finds the newest upload of the blob that was broken off, with its parts by number, or begins one.
func (b *Bucket) resume(ctx context.Context, digest string) (id string, there map[int]minio.ObjectPart, err error) {
	key := b.key(digest)
	there = map[int]minio.ObjectPart{}
	uploads, err := b.client.ListMultipartUploads(ctx, b.bucket, key, "", "", "", 100)
	if err != nil {
		return "", nil, translate(err)
	}
	var newest time.Time
	for _, u := range uploads.Uploads {
		if u.Key == key && u.Initiated.After(newest) {
			id, newest = u.UploadID, u.Initiated
		}
	}
	if id == "" {
		id, err = b.client.NewMultipartUpload(ctx, b.bucket, key, minio.PutObjectOptions{ContentType: "application/octet-stream"})
		return id, there, translate(err)
	}
	for marker := 0; ; {
		list, err := b.client.ListObjectParts(ctx, b.bucket, key, id, marker, 1000)
		if err != nil {
			return "", nil, translate(err)
		}
		for _, p := range list.ObjectParts {
			there[p.PartNumber] = p
		}
		if !list.IsTruncated || list.NextPartNumberMarker <= marker {
			return id, there, nil
		}
		marker = list.NextPartNumberMarker
	}
}

// sendParts sends those that are not there with the same bytes, and returns all in order.
func (b *Bucket) sendParts(ctx context.Context, ref blob.Ref, r io.ReaderAt, size int64, id string, there map[int]minio.ObjectPart) ([]minio.CompletePart, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parts := make([]minio.CompletePart, (ref.Size+size-1)/size)
	numbers := make(chan int, len(parts))
	for i := range parts {
		numbers <- i + 1
	}
	close(numbers)
	var senders sync.WaitGroup
	for range parallel {
		senders.Go(func() {
			buffer := make([]byte, min(size, ref.Size))
			for n := range numbers {
				if ctx.Err() != nil {
					return
				}
				at := int64(n-1) * size
				data := buffer[:min(size, ref.Size-at)]
				etag, err := b.sendPart(ctx, ref, r, at, data, id, n, there[n])
				if err != nil {
					cancel(err)
					return
				}
				parts[n-1] = minio.CompletePart{PartNumber: n, ETag: etag}
			}
		})
	}
	senders.Wait()
	return parts, context.Cause(ctx)
}

func (b *Bucket) sendPart(ctx context.Context, ref blob.Ref, r io.ReaderAt, at int64, data []byte, id string, number int, old minio.ObjectPart) (etag string, err error) {
	if _, err := r.ReadAt(data, at); err != nil && err != io.EOF {
		return "", err
	}
	sum := md5.Sum(data) // what an ETag is, but for buckets with keys of their own: there the part is sent again
	if old.Size == int64(len(data)) && strings.Trim(old.ETag, `"`) == hex.EncodeToString(sum[:]) {
		return old.ETag, nil
	}
	digest := sha256.Sum256(data)
	part, err := b.client.PutObjectPart(ctx, b.bucket, b.key(ref.SHA256), id, number, bytes.NewReader(data), int64(len(data)),
		minio.PutObjectPartOptions{Md5Base64: base64.StdEncoding.EncodeToString(sum[:]), Sha256Hex: hex.EncodeToString(digest[:])})
	return part.ETag, translate(err)
}

// Delete removes the object.
func (b *Bucket) Delete(ctx context.Context, digest string) error {
	if err := translate(b.client.RemoveObject(ctx, b.bucket, b.key(digest), minio.RemoveObjectOptions{})); err != nil && !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	return nil
}

// List goes through the objects below the prefix.
func (b *Bucket) List(ctx context.Context, yield func(blob.Ref) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for o := range b.client.Client.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.prefix, Recursive: true}) {
		if o.Err != nil {
			return translate(o.Err)
		}
		digest := path.Base(o.Key)
		if len(digest) != 2*sha256.Size || o.Key != b.key(digest) { // not ours
			continue
		}
		if err := yield(blob.Ref{SHA256: digest, Size: o.Size}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Sweep ends uploads that were broken off. A lifecycle rule of the bucket does the same.
func (b *Bucket) Sweep(ctx context.Context, older time.Duration) error {
	key, id := "", ""
	for {
		list, err := b.client.ListMultipartUploads(ctx, b.bucket, b.prefix, key, id, "", 1000)
		if err != nil {
			return translate(err)
		}
		for _, u := range list.Uploads {
			if time.Since(u.Initiated) < older {
				continue
			}
			if err := translate(b.client.AbortMultipartUpload(ctx, b.bucket, u.Key, u.UploadID)); err != nil && !errors.Is(err, blob.ErrNotFound) {
				return err
			}
		}
		if !list.IsTruncated || list.NextKeyMarker == key && list.NextUploadIDMarker == id {
			return nil
		}
		key, id = list.NextKeyMarker, list.NextUploadIDMarker
	}
}

// translate makes the server's answers ours.
func translate(err error) error {
	if err == nil {
		return nil
	}
	switch answer := minio.ToErrorResponse(err); {
	case answer.Code == minio.NoSuchKey || answer.Code == "NoSuchUpload" || answer.StatusCode == http.StatusNotFound && answer.Code != "NoSuchBucket":
		return blob.ErrNotFound
	case answer.Code == "XAmzContentSHA256Mismatch" || answer.Code == "BadDigest":
		return fmt.Errorf("%w on the way: %v", blob.ErrCorrupt, err)
	}
	return err
}

package bus

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-8780d58e/spin/pkg/blob"
)

// BlobBucket is the object store that blobs lie in unless another is named.
const BlobBucket = "spin_blobs"

const (
	objectPart    = 4 << 20          // an object, the unit of resumption
	objectLimit   = 2 << 30          // of a blob: all of it goes through the broker's one disk
	objectTimeout = 30 * time.Second // to move a part
	sizeKey       = "size"           // metadata of a blob's mark
)

// Objects is the blob.Driver over JetStream's object store, for fleets without a shared folder or S3. The object store can neither begin in the
// middle nor resume, so a blob is many objects, <digest>/0, <digest>/1, … of 4 MiB, and one without content, <digest>, that says how long it is and
// that all are there.
type Objects struct {
	conn  *Conn
	name  string
	store jetstream.ObjectStore
}

// Objects opens a bucket, making it where create says so: the trainer's business, as the streams are.
func (c *Conn) Objects(ctx context.Context, bucket string, create bool) (*Objects, error) {
	o := &Objects{conn: c, name: bucket}
	err := c.retry(ctx, "open object store "+bucket, func(ctx context.Context, _ bool) (err error) {
		o.store, err = c.js.ObjectStore(ctx, bucket)
		if create && errors.Is(err, jetstream.ErrBucketNotFound) {
			o.store, err = c.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{
				Bucket: bucket, Description: "blobs by digest", Storage: jetstream.FileStorage, Replicas: max(c.limits.Replicas, 1),
			})
			if errors.Is(err, jetstream.ErrBucketExists) { // another trainer's
				o.store, err = c.js.ObjectStore(ctx, bucket)
			}
		}
		return err
	})
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, fmt.Errorf("the broker has no object store %s: start a trainer with this --blob-url first", bucket)
	}
	if err != nil {
		return nil, fmt.Errorf("open object store %s: %w", bucket, err)
	}
	return o, nil
}

// URI is nats://bucket: the broker is the one that whoever reads it is connected to.
func (o *Objects) URI() string { return "nats://" + o.name }

// Limit is 2 GiB.
func (o *Objects) Limit() int64 { return objectLimit }

func partName(digest string, i int64) string { return digest + "/" + strconv.FormatInt(i, 10) }

// Stat reads the mark.
func (o *Objects) Stat(ctx context.Context, digest string) (int64, error) {
	info, err := o.info(ctx, digest)
	if err != nil {
		return 0, err
	}
	return markedSize(info)
}

// markedSize is what a mark says.
func markedSize(info *jetstream.ObjectInfo) (int64, error) {
	size, err := strconv.ParseInt(info.Metadata[sizeKey], 10, 64)
	if err != nil || size < 0 || size > objectLimit {
		return 0, fmt.Errorf("object %s has the size %.40q: %w", info.Name, info.Metadata[sizeKey], blob.ErrCorrupt)
	}
	return size, nil
}

func (o *Objects) info(ctx context.Context, name string) (info *jetstream.ObjectInfo, err error) {
	err = o.conn.retry(ctx, "look for object "+name, func(ctx context.Context, _ bool) (err error) {
		info, err = o.store.GetInfo(ctx, name)
		return err
	})
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, blob.ErrNotFound
	}
	return info, err
}

// Write stores the parts that are not there yet, then the mark.
func (o *Objects) Write(ctx context.Context, ref blob.Ref, r io.ReaderAt) error {
	for at := int64(0); at < ref.Size; at += objectPart {
		part := make([]byte, min(objectPart, ref.Size-at))
		if _, err := r.ReadAt(part, at); err != nil && err != io.EOF {
			return err
		}
		if err := o.put(ctx, jetstream.ObjectMeta{Name: partName(ref.SHA256, at/objectPart)}, part); err != nil {
			return err
		}
	}
	return o.put(ctx, jetstream.ObjectMeta{Name: ref.SHA256, Metadata: map[string]string{sizeKey: strconv.FormatInt(ref.Size, 10)}}, nil)
}

// put stores an object, unless one with these bytes is there.
func (o *Objects) put(ctx context.Context, meta jetstream.ObjectMeta, data []byte) error {
	digest := sha256.New()
	digest.Write(data)
	want := jetstream.GetObjectDigestValue(digest)
	if info, err := o.info(ctx, meta.Name); err == nil && info.Digest == want && info.Size == uint64(len(data)) && info.Metadata[sizeKey] == meta.Metadata[sizeKey] {
		return nil
	}
	err := o.conn.retryEach(ctx, objectTimeout, "put object "+meta.Name, func(ctx context.Context, _ bool) error {
		_, err := o.store.Put(ctx, meta, bytes.NewReader(data))
		return err
	})
	if isFull(err) {
		return fmt.Errorf("put object %s: %w (%v)", meta.Name, ErrFull, err)
	}
	return err
}

// Open reads from a byte on, a part at a time.
func (o *Objects) Open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error) {
	size, err := o.Stat(ctx, digest)
	if err != nil {
		return nil, err
	}
	return &objectReader{ctx: ctx, objects: o, digest: digest, at: offset, size: size}, nil
}

// objectReader holds the part that is being read.
type objectReader struct {
	ctx      context.Context
	objects  *Objects
	digest   string
	at, size int64
	part     []byte // what is left of it
}

func (r *objectReader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if len(r.part) == 0 {
		i := r.at / objectPart
		part, err := r.objects.get(r.ctx, partName(r.digest, i))
		if err != nil {
			return 0, err
		}
		if want := min(objectPart, r.size-i*objectPart); int64(len(part)) != want {
			return 0, fmt.Errorf("part %d has %d bytes, want %d: %w", i, len(part), want, blob.ErrCorrupt)
		}
		r.part = part[r.at-i*objectPart:]
	}
	n := copy(p, r.part)
	r.part, r.at = r.part[n:], r.at+int64(n)
	return n, nil
}

func (r *objectReader) Close() error { return nil }

// get reads a part; it is as long as a part can be at most.
func (o *Objects) get(ctx context.Context, name string) ([]byte, error) {
	info, err := o.info(ctx, name)
	if err != nil {
		return nil, err
	}
	if info.Size > objectPart {
		return nil, fmt.Errorf("object %s has %d bytes, want at most %d: %w", name, info.Size, objectPart, blob.ErrCorrupt)
	}
	var data []byte
	err = o.conn.retryEach(ctx, objectTimeout, "get object "+name, func(ctx context.Context, _ bool) error {
		object, err := o.store.Get(ctx, name)
		if err != nil {
			return err
		}
		defer object.Close()
		data, err = io.ReadAll(io.LimitReader(object, objectPart+1))
		return err
	})
	switch {
	case errors.Is(err, jetstream.ErrObjectNotFound):
		return nil, blob.ErrNotFound
	case errors.Is(err, jetstream.ErrDigestMismatch):
		return nil, fmt.Errorf("object %s: %w", name, blob.ErrCorrupt)
	}
	return data, err
}

// Delete removes the mark, and then nobody sees the parts.
func (o *Objects) Delete(ctx context.Context, digest string) error {
	parts := int64(0)
	switch size, err := o.Stat(ctx, digest); {
	case errors.Is(err, blob.ErrNotFound):
		return nil
	case errors.Is(err, blob.ErrCorrupt):
		parts = objectLimit / objectPart
	case err != nil:
		return err
	default:
		parts = (size + objectPart - 1) / objectPart
	}
	if err := o.remove(ctx, digest); err != nil {
		return err
	}
	for i := range parts {
		if err := o.remove(ctx, partName(digest, i)); err != nil {
			return err
		}
	}
	return nil
}

func (o *Objects) remove(ctx context.Context, name string) error {
	err := o.conn.retry(ctx, "delete object "+name, func(ctx context.Context, _ bool) error { return o.store.Delete(ctx, name) })
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil
	}
	return err
}

// List names the blobs that have a mark.
func (o *Objects) List(ctx context.Context, yield func(blob.Ref) error) error {
	objects, err := o.list(ctx)
	for _, info := range objects {
		if strings.Contains(info.Name, "/") {
			continue
		}
		size, err := markedSize(info)
		if err != nil {
			return err
		}
		if err := yield(blob.Ref{SHA256: info.Name, Size: size}); err != nil {
			return err
		}
	}
	return err
}

func (o *Objects) list(ctx context.Context) (objects []*jetstream.ObjectInfo, err error) {
	err = o.conn.retryEach(ctx, objectTimeout, "list objects", func(ctx context.Context, _ bool) (err error) {
		objects, err = o.store.List(ctx)
		return err
	})
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, nil
	}
	return objects, err
}

// Sweep removes parts that never came to have a mark.
func (o *Objects) Sweep(ctx context.Context, older time.Duration) error {
	objects, err := o.list(ctx)
	if err != nil {
		return err
	}
	marked := map[string]bool{}
	for _, info := range objects {
		marked[info.Name] = true
	}
	for _, info := range objects {
		digest, _, part := strings.Cut(info.Name, "/")
		if !part || marked[digest] || time.Since(info.ModTime) < older {
			continue
		}
		if err := o.remove(ctx, info.Name); err != nil {
			return err
		}
	}
	return nil
}

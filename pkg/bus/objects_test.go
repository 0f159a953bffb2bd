package bus_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/blob/blobtest"
	"github.com/seed-8780d58e/spin/pkg/bus"
)

func TestObjects(t *testing.T) {
	b := newBroker(t, quick())
	c := b.connect("trainer")
	buckets := 0
	blobtest.Run(t, func(t *testing.T) (blob.Driver, func(*testing.T, string, []byte)) {
		buckets++
		o, err := c.Objects(t.Context(), fmt.Sprintf("blobs_%d", buckets), true)
		if err != nil {
			t.Fatal(err)
		}
		return o, func(t *testing.T, digest string, data []byte) {
			if err := o.Overwrite(t.Context(), digest, data); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestObjectsResume(t *testing.T) {
	b := newBroker(t, quick())
	c := b.connect("trainer")
	if _, err := c.Objects(t.Context(), bus.BlobBucket, false); err == nil {
		t.Error("opened a bucket that nobody has made")
	}
	o, err := c.Objects(t.Context(), bus.BlobBucket, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Objects(t.Context(), bus.BlobBucket, true); err != nil {
		t.Errorf("made twice: %v", err)
	}
	last := func() uint64 {
		info, err := c.StreamInfo(t.Context(), "OBJ_"+bus.BlobBucket)
		if err != nil {
			t.Fatal(err)
		}
		return info.Last
	}
	data := blobtest.Random(blobtest.Large, 3)
	broken := errors.New("cable pulled")
	half := io.NewSectionReader(errorAfter{bytes.NewReader(data), blobtest.Large / 2, broken}, 0, blobtest.Large)
	if err := o.Write(t.Context(), blobtest.Ref(data), half); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	sent := last()
	b.stop() // what was sent is on the disk
	b.start()
	if err := o.Write(t.Context(), blobtest.Ref(data), half); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if again := last(); again != sent {
		t.Errorf("%d messages were sent again", again-sent)
	}
	if err := o.Write(t.Context(), blobtest.Ref(data), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	r, err := o.Open(t.Context(), blobtest.Ref(data).SHA256, 0)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil || fmt.Sprintf("%x", h.Sum(nil)) != blobtest.Ref(data).SHA256 {
		t.Errorf("read again: %x, %v", h.Sum(nil), err)
	}

	// Nothing above 2 GiB is begun.
	store, err := blob.Over(o, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	before := last()
	if _, err := store.PutFile(t.Context(), sparse(t, o.Limit()+1)); !errors.Is(err, blob.ErrTooLarge) || last() != before {
		t.Errorf("a byte more: %v, %d messages", err, last()-before)
	}
}

// errorAfter is a file that can't be read from some byte on.
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

// sparse is a file of so many zeros, which takes no room.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "large")
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

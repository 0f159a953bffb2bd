// Package weights brings published checkpoints to a device: manifest, blobs, model. Services in one
// process share what is loaded, by digest and read-only.
package weights

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
)

// ErrNotPublished: no checkpoint of the run has these weights, so far.
var ErrNotPublished = errors.New("weights are not published")

// Cache loads checkpoints for sampling and scoring, and keeps one while anybody uses it.
type Cache struct {
	bus   *bus.Conn
	blobs *blob.Store
	// scratch is a folder for what is being opened.
	scratch string
	dev     compute.Device
	dtype   compute.DType
	// maxContext bounds the RoPE tables; 0: the model's own context.
	maxContext int

	mu     sync.Mutex
	loaded map[string]*Loaded
}

// NewCache makes a cache for one device and dtype.
func NewCache(conn *bus.Conn, blobs *blob.Store, scratch string, dev compute.Device, dtype compute.DType, maxContext int) *Cache {
	return &Cache{bus: conn, blobs: blobs, scratch: scratch, dev: dev, dtype: dtype, maxContext: maxContext, loaded: map[string]*Loaded{}}
}

// ByDType are caches by the name of their dtype, as manifests have it.
func ByDType(caches ...*Cache) map[string]*Cache {
	by := map[string]*Cache{}
	for _, c := range caches {
		by[c.dtype.String()] = c
	}
	return by
}

// Fingerprint is the engine that the cache's models run on: the device and the dtype.
func (c *Cache) Fingerprint() string { return c.dev.Fingerprint() + "/" + c.dtype.String() }

// Loaded is a checkpoint on the device. Its files are closed: weights cannot be read from it.
type Loaded struct {
	*pretrained.Pretrained
	Digest string
	Model  *model.Model

	cache *Cache
	users int
	ready chan struct{} // closed when loading is over
	err   error
}

// Get returns the weights of a run by their digest, loading them if need be. The caller releases
// them.
func (c *Cache) Get(ctx context.Context, runID, digest string) (*Loaded, error) {
	c.mu.Lock()
	l := c.loaded[digest]
	first := l == nil
	if first {
		l = &Loaded{Digest: digest, cache: c, ready: make(chan struct{})}
		c.loaded[digest] = l
	}
	l.users++
	c.mu.Unlock()
	if first {
		l.err = l.load(ctx, runID)
		close(l.ready)
	}
	select {
	case <-l.ready:
	case <-ctx.Done():
		l.Release()
		return nil, context.Cause(ctx)
	}
	if l.err != nil {
		l.Release()
		return nil, l.err
	}
	return l, nil
}

// Fingerprint is the engine that the model runs on.
func (l *Loaded) Fingerprint() string { return l.cache.Fingerprint() }

func (l *Loaded) load(ctx context.Context, runID string) error {
	c := l.cache
	manifest, err := c.find(ctx, runID, l.Digest)
	if err != nil {
		return err
	}
	if l.Pretrained, err = Open(ctx, c.blobs, c.scratch, manifest); err != nil {
		return err
	}
	l.Model, err = model.New(c.dev, c.dev.NewBackend(), l.ModelConfig, l.Pretrained, model.Options{DType: c.dtype, MaxContext: c.maxContext})
	return errors.Join(err, l.Pretrained.Close()) // its files are on the device now; tokenizer and template stay
}

// find reads the manifest of these weights out of the run's checkpoints.
func (c *Cache) find(ctx context.Context, runID, digest string) (*event.Checkpoint, error) {
	var found *event.Checkpoint
	err := c.bus.Read(ctx, bus.ReadConfig{Stream: bus.Checkpoints, Filters: []string{event.Filter(runID, event.Checkpoints)}}, func(d bus.Delivery) error {
		if m, ok := d.Message.(*event.Checkpoint); ok && m.GetWeightsSha256() == digest {
			found = m
		}
		return nil // what cannot be decoded is not what we look for
	})
	if err == nil && found == nil {
		err = fmt.Errorf("run %s, weights %.12s: %w", runID, digest, ErrNotPublished)
	}
	return found, err
}

// Release says that the caller is done. The last one's release frees the memory.
func (l *Loaded) Release() {
	c := l.cache
	c.mu.Lock()
	l.users--
	last := l.users == 0
	if last {
		delete(c.loaded, l.Digest)
	}
	c.mu.Unlock()
	if !last {
		return
	}
	<-l.ready
	if l.Model != nil {
		l.Model.Free()
	}
}

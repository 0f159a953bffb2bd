package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Bucket is a key-value bucket in which every write says what it replaces.
type Bucket struct {
	conn *Conn
	kv   jetstream.KeyValue
	name string
}

// Entry is one key's value at one revision.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
	Deleted  bool // removed, or expired
}

// Get reads a key; ErrNotFound where it isn't there.
func (b *Bucket) Get(ctx context.Context, key string) (Entry, error) {
	var e Entry
	err := b.conn.retry(ctx, "read "+key, func(ctx context.Context, _ bool) error {
		kv, err := b.kv.Get(ctx, key)
		if err == nil {
			e = Entry{Key: key, Value: kv.Value(), Revision: kv.Revision()}
		}
		return err
	})
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return e, fmt.Errorf("%s %s: %w", b.name, key, ErrNotFound)
	}
	if err != nil {
		return e, fmt.Errorf("read %s %s: %w", b.name, key, err)
	}
	return e, nil
}

// Create writes a key that isn't there and returns its revision; ErrConflict where it is.
func (b *Bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	return b.write(ctx, key, value, 0)
}

// Update replaces the value of a revision and returns the new one; ErrConflict where the key has another.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.write(ctx, key, value, revision)
}

func (b *Bucket) write(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	var written uint64
	var ours bool
	err := b.conn.retry(ctx, "write "+key, func(ctx context.Context, again bool) (err error) {
		if revision == 0 {
			written, err = b.kv.Create(ctx, key, value)
		} else {
			written, err = b.kv.Update(ctx, key, value, revision)
		}
		if again && isRevisionMismatch(err) { // perhaps the first try got through and its answer did not
			if now, lookup := b.kv.Get(ctx, key); lookup == nil && now.Revision() > revision && bytes.Equal(now.Value(), value) {
				written, ours = now.Revision(), true
				return nil
			}
		}
		return err
	})
	switch {
	case ours || err == nil:
		return written, nil
	case isRevisionMismatch(err):
		return 0, fmt.Errorf("%s %s at revision %d: %w", b.name, key, revision, ErrConflict)
	}
	return 0, fmt.Errorf("write %s %s: %w", b.name, key, err)
}

// Delete removes a key of a revision; ErrConflict where it has another.
func (b *Bucket) Delete(ctx context.Context, key string, revision uint64) error {
	err := b.conn.retry(ctx, "delete "+key, func(ctx context.Context, _ bool) error {
		return b.kv.Delete(ctx, key, jetstream.LastRevision(revision))
	})
	if isRevisionMismatch(err) {
		return fmt.Errorf("%s %s at revision %d: %w", b.name, key, revision, ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", b.name, key, err)
	}
	return nil
}

// List reads the keys that match a pattern (run.*, iter.<run>.>), in no order.
func (b *Bucket) List(ctx context.Context, pattern string) ([]Entry, error) {
	var entries []Entry
	err := b.conn.retry(ctx, "list "+pattern, func(ctx context.Context, _ bool) error {
		entries = nil
		w, err := b.kv.Watch(ctx, pattern, jetstream.IgnoreDeletes())
		if err != nil {
			return err
		}
		defer w.Stop()
		for {
			select {
			case e := <-w.Updates():
				if e == nil {
					return nil
				}
				entries = append(entries, Entry{Key: e.Key(), Value: e.Value(), Revision: e.Revision()})
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list %s %s: %w", b.name, pattern, err)
	}
	return entries, nil
}

// Watch calls handle with each matching key's present value and then with every change, until ctx ends (its cause is returned) or handle fails.
// After an outage a value may come twice, none is left out that is still the newest.
func (b *Bucket) Watch(ctx context.Context, pattern string, handle func(Entry) error) error {
	for {
		session := b.conn.current()
		var w jetstream.KeyWatcher
		err := b.conn.retry(ctx, "watch "+pattern, func(context.Context, bool) (err error) {
			w, err = b.kv.Watch(ctx, pattern)
			return err
		})
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("watch %s %s: %w", b.name, pattern, err)
		}
		again, err := watch(ctx, w, session.Done(), handle)
		_ = w.Stop() // the connection may be gone
		if !again {
			return err
		}
		if !b.conn.sleep(ctx, b.conn.current(), retryMin) {
			return context.Cause(ctx)
		}
	}
}

func watch(ctx context.Context, w jetstream.KeyWatcher, over <-chan struct{}, handle func(Entry) error) (again bool, err error) {
	for {
		select {
		case e, open := <-w.Updates():
			if !open {
				return true, nil
			}
			if e == nil { // the present values are through
				continue
			}
			err := handle(Entry{Key: e.Key(), Value: e.Value(), Revision: e.Revision(), Deleted: e.Operation() != jetstream.KeyValuePut})
			if err != nil {
				return false, err
			}
		case <-over:
			return true, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// isRevisionMismatch also knows the server's answer where the client does not translate it.
func isRevisionMismatch(err error) bool {
	return errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) ||
		isCode(err, jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// State is a bucket whose values are a T in JSON: people read and edit them.
type State[T any] struct{ Bucket *Bucket }

// Load reads a key.
func (s State[T]) Load(ctx context.Context, key string) (value T, revision uint64, err error) {
	e, err := s.Bucket.Get(ctx, key)
	if err != nil {
		return value, 0, err
	}
	if err := json.Unmarshal(e.Value, &value); err != nil {
		return value, 0, fmt.Errorf("%s %s: %w", s.Bucket.name, key, err)
	}
	return value, e.Revision, nil
}

// Create writes a key that isn't there.
func (s State[T]) Create(ctx context.Context, key string, value T) (uint64, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", s.Bucket.name, key, err)
	}
	return s.Bucket.Create(ctx, key, b)
}

// Swap replaces the value of a revision.
func (s State[T]) Swap(ctx context.Context, key string, value T, revision uint64) (uint64, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", s.Bucket.name, key, err)
	}
	return s.Bucket.Update(ctx, key, b, revision)
}

// Watch is Bucket.Watch with decoded values; nil: deleted.
func (s State[T]) Watch(ctx context.Context, pattern string, handle func(key string, value *T, revision uint64) error) error {
	return s.Bucket.Watch(ctx, pattern, func(e Entry) error {
		if e.Deleted {
			return handle(e.Key, nil, e.Revision)
		}
		value := new(T)
		if err := json.Unmarshal(e.Value, value); err != nil {
			return fmt.Errorf("%s %s: %w", s.Bucket.name, e.Key, err)
		}
		return handle(e.Key, value, e.Revision)
	})
}

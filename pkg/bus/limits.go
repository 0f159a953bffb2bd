package bus

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// limitsKey is where a broker's limits stand in the control bucket: the consumers, the streams and the lease bucket were made with them, and a
// service with others would lose leases that it believes to hold.
const limitsKey = "limits"

// Limits are those of the broker.
func (c *Conn) Limits() Limits { return c.limits }

// settleLimits decides, before the streams are made, with which limits: the caller's, else the broker's, else the defaults.
func (c *Conn) settleLimits(ctx context.Context) error {
	if c.limits != (Limits{}) {
		return nil
	}
	err := c.retry(ctx, "open bucket "+controlBucket, func(ctx context.Context, _ bool) error {
		kv, err := c.js.KeyValue(ctx, controlBucket)
		c.control = &Bucket{conn: c, kv: kv, name: controlBucket}
		return err
	})
	if errors.Is(err, jetstream.ErrBucketNotFound) { // a new broker
		c.limits = DefaultLimits()
		return nil
	}
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", controlBucket, err)
	}
	return c.adoptLimits(ctx)
}

// announceLimits writes down with which limits the streams were made.
func (c *Conn) announceLimits(ctx context.Context) error {
	state := State[Limits]{c.control}
	for {
		now, revision, err := state.Load(ctx, limitsKey)
		switch {
		case errors.Is(err, ErrNotFound):
			_, err = state.Create(ctx, limitsKey, c.limits)
		case err == nil && now != c.limits:
			_, err = state.Swap(ctx, limitsKey, c.limits, revision)
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// adoptLimits takes the broker's limits, or refuses them where they are not those that the caller asked for.
func (c *Conn) adoptLimits(ctx context.Context) error {
	broker, _, err := State[Limits]{c.control}.Load(ctx, limitsKey)
	if errors.Is(err, ErrNotFound) { // made by hand, or by an earlier version
		if broker, err = DefaultLimits(), nil; c.limits != (Limits{}) {
			broker = c.limits
		}
	}
	if err != nil {
		return fmt.Errorf("read the broker's limits: %w", err)
	}
	if broker.AckWait <= 0 || broker.LeaseTTL < time.Second || broker.QueuePerRun < 1 || broker.MaxInstances < 1 || broker.MaxAttempts < 1 {
		return fmt.Errorf("the broker's limits, key %s in %s, are %+v: want none of them 0, and lease_ttl a second or more", limitsKey, controlBucket, broker)
	}
	if c.limits != (Limits{}) && c.limits != broker {
		return fmt.Errorf("the broker's limits differ: %s: all its services want the same", difference(broker, c.limits))
	}
	c.limits = broker
	return nil
}

// difference names the first field in which two limits differ, and both values.
func difference(broker, ours Limits) string {
	b, o := reflect.ValueOf(broker), reflect.ValueOf(ours)
	for i := range b.NumField() {
		if !b.Field(i).Equal(o.Field(i)) {
			return fmt.Sprintf("%s is %v there, %v here", b.Type().Field(i).Tag.Get("json"), b.Field(i), o.Field(i))
		}
	}
	return "in nothing"
}

// check refuses streams and a lease bucket that were made by hand in a way in which messages would come twice or leases run out.
func (c *Conn) check(ctx context.Context) error {
	for _, want := range c.limits.streams() {
		s, err := c.stream(ctx, want.Name)
		if err != nil {
			return err
		}
		got := s.CachedInfo().Config
		if want.MaxMsgsPerSubject == 0 { // the broker writes "no bound" as -1
			want.MaxMsgsPerSubject = -1
		}
		for _, f := range []struct {
			what      string
			want, got any
		}{
			{"retention", want.Retention, got.Retention},
			{"discard policy", want.Discard, got.Discard},
			{"discard policy of a subject", want.DiscardNewPerSubject, got.DiscardNewPerSubject},
			{"messages of a subject", want.MaxMsgsPerSubject, got.MaxMsgsPerSubject},
		} {
			if f.want != f.got {
				return fmt.Errorf("stream %s: %s: %v, want %v: let a trainer make the streams", want.Name, f.what, f.got, f.want)
			}
		}
	}
	return c.checkLease(ctx)
}

// checkLease refuses a lease bucket whose time to live is another than the one that holders renew by.
func (c *Conn) checkLease(ctx context.Context) error {
	var ttl time.Duration
	err := c.retry(ctx, "look at bucket "+leaseBucket, func(ctx context.Context, _ bool) error {
		status, err := c.lease.kv.Status(ctx)
		if err == nil {
			ttl = status.TTL()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look at bucket %s: %w", leaseBucket, err)
	}
	if ttl != c.limits.LeaseTTL {
		return fmt.Errorf("bucket %s: its time to live is %v, lease_ttl is %v: let a trainer make the buckets", leaseBucket, ttl, c.limits.LeaseTTL)
	}
	return nil
}

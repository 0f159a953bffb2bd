package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Lead waits until instance holds the lease leader.<key>, runs lead, and gives the lease back. The context that lead gets ends with the cause
// ErrLeaseLost when the lease could not be renewed in time. term grows with every change of leader. A lease only keeps two leaders from working at
// once for long; that a woken old one changes nothing is the business of State.Swap and PublishExpected.
func (c *Conn) Lead(ctx context.Context, key, instance string, lead func(ctx context.Context, term uint64) error) error {
	key = "leader." + key
	term, err := c.acquire(ctx, key, instance)
	if err != nil {
		return err
	}
	c.log.Info().Str("lease", key).Str("instance", instance).Uint64("term", term).Msg("leads")
	return c.hold(ctx, key, instance, term, func(ctx context.Context) error { return lead(ctx, term) })
}

// Leader is the instance that holds the lease leader.<key>; ErrNotFound where nobody does.
func (c *Conn) Leader(ctx context.Context, key string) (string, error) {
	e, err := c.lease.Get(ctx, "leader."+key)
	return string(e.Value), err
}

// Join says that an instance of a service is there for as long as run runs.
func (c *Conn) Join(ctx context.Context, service, instance string, run func(ctx context.Context) error) error {
	key := "member." + service + "." + instance
	revision, err := c.acquire(ctx, key, instance)
	if err != nil {
		return err
	}
	return c.hold(ctx, key, instance, revision, run)
}

// Members lists the instances of a service that are there, in order.
func (c *Conn) Members(ctx context.Context, service string) ([]string, error) {
	prefix := "member." + service + "."
	entries, err := c.lease.List(ctx, prefix+"*")
	if err != nil {
		return nil, err
	}
	var members []string
	for _, e := range entries {
		members = append(members, strings.TrimPrefix(e.Key, prefix))
	}
	slices.Sort(members)
	return members, nil
}

// acquire makes the key, waiting for its holder to go.
func (c *Conn) acquire(ctx context.Context, key, instance string) (uint64, error) {
	for {
		revision, err := c.lease.Create(ctx, key, []byte(instance))
		if err == nil {
			return revision, nil
		}
		if !errors.Is(err, ErrConflict) {
			return 0, err
		}
		gone := errors.New("gone")
		wait, cancel := context.WithTimeout(ctx, c.limits.LeaseTTL) // an expiry that no watcher was told of
		err = c.lease.Watch(wait, key, func(e Entry) error {
			if e.Deleted {
				return gone
			}
			return nil
		})
		cancel()
		if ctx.Err() != nil {
			return 0, fmt.Errorf("wait for %s: %w", key, context.Cause(ctx))
		}
		if !errors.Is(err, gone) && !errors.Is(err, context.DeadlineExceeded) {
			return 0, err
		}
	}
}

// hold renews the key at a third of its time to live while work runs, and removes it afterwards.
func (c *Conn) hold(ctx context.Context, key, instance string, revision uint64, work func(ctx context.Context) error) error {
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	renewed := make(chan uint64)
	go func() {
		renewed <- c.renew(ctx, key, instance, revision, lose)
	}()
	err := work(ctx)
	lose(nil)
	if revision = <-renewed; revision > 0 {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		defer cancel()
		if err := c.lease.Delete(cleanup, key, revision); err != nil && !errors.Is(err, ErrConflict) {
			c.log.Warn().Err(err).Msg("lease left to expire")
		}
	}
	return err
}

// renew returns the revision that it holds when ctx ends, 0 where the lease was lost.
func (c *Conn) renew(ctx context.Context, key, instance string, revision uint64, lose context.CancelCauseFunc) uint64 {
	ticker := time.NewTicker(c.limits.LeaseTTL / 3)
	defer ticker.Stop()
	held := time.Now()
	for {
		select {
		case <-ctx.Done():
			return revision
		case <-ticker.C:
		}
		// Give up before the broker does, so that two never believe to hold it.
		attempt, cancel := context.WithDeadline(ctx, held.Add(c.limits.LeaseTTL*5/6))
		started := time.Now()
		next, err := c.lease.Update(attempt, key, []byte(instance), revision)
		cancel()
		switch {
		case err == nil:
			revision, held = next, started
		case ctx.Err() != nil:
			return revision
		default:
			c.log.Warn().Err(err).Str("lease", key).Msg("lease lost")
			lose(fmt.Errorf("%s: %w", key, ErrLeaseLost))
			return 0
		}
	}
}

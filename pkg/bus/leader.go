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
// ErrLeaseLost when the lease is somebody else's. term grows with every change of leader.
//
// A lease only keeps two leaders from working at once for long. While the broker is away nobody can take it, so its holder goes on, and makes it
// anew when the broker is back; one that slept longer than LeaseTTL may find a successor. That it then changes nothing is the business of State.Swap
// and PublishAfter.
func (c *Conn) Lead(ctx context.Context, key, instance string, lead func(ctx context.Context, term uint64) error) error {
	term, silent, err := c.acquire(ctx, leaderPrefix+key, instance)
	if err != nil {
		return err
	}
	return c.leading(ctx, key, instance, term, silent, lead)
}

// TryLead is Lead where nobody holds the lease; else it returns ErrHeld at once. silent, for the log, is how long its last holder has been.
func (c *Conn) TryLead(ctx context.Context, key, instance string, silent time.Duration, lead func(ctx context.Context, term uint64) error) error {
	term, err := c.lease.Create(ctx, leaderPrefix+key, []byte(instance))
	if errors.Is(err, ErrConflict) {
		return fmt.Errorf("%s: %w", key, ErrHeld)
	}
	if err != nil {
		return err
	}
	return c.leading(ctx, key, instance, term, silent, lead)
}

func (c *Conn) leading(ctx context.Context, key, instance string, term uint64, silent time.Duration, lead func(ctx context.Context, term uint64) error) error {
	key = leaderPrefix + key
	c.log.Info().Str("lease", key).Str("instance", instance).Uint64("term", term).Dur("takeover_ms", silent).Msg("leads")
	return c.hold(ctx, key, instance, term, func(ctx context.Context) error { return lead(ctx, term) })
}

const leaderPrefix = "leader."

// Vacant waits until nobody holds the lease leader.<key>, and returns how long its last holder has been silent: 0 where there was none to wait for.
func (c *Conn) Vacant(ctx context.Context, key string) (silent time.Duration, err error) {
	return c.vacant(ctx, leaderPrefix+key)
}

// Leader is the instance that holds the lease leader.<key>; ErrNotFound where nobody does.
func (c *Conn) Leader(ctx context.Context, key string) (string, error) {
	e, err := c.lease.Get(ctx, leaderPrefix+key)
	return string(e.Value), err
}

// Join says that an instance of a service is there for as long as run runs.
func (c *Conn) Join(ctx context.Context, service, instance string, run func(ctx context.Context) error) error {
	key := "member." + service + "." + instance
	revision, _, err := c.acquire(ctx, key, instance)
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
func (c *Conn) acquire(ctx context.Context, key, instance string) (revision uint64, silent time.Duration, err error) {
	for {
		revision, err := c.lease.Create(ctx, key, []byte(instance))
		if !errors.Is(err, ErrConflict) {
			return revision, silent, err
		}
		if silent, err = c.vacant(ctx, key); err != nil {
			return 0, 0, err
		}
	}
}

// vacant waits until the key is gone: given back, or not renewed for LeaseTTL.
func (c *Conn) vacant(ctx context.Context, key string) (silent time.Duration, err error) {
	var heard time.Time
	var renewal uint64
	hear := func(e Entry) {
		if e.Revision != renewal {
			heard, renewal = time.Now(), e.Revision
		}
	}
	for {
		if now, err := c.lease.Get(ctx, key); errors.Is(err, ErrNotFound) {
			if !heard.IsZero() {
				silent = time.Since(heard)
			}
			return silent, nil
		} else if err != nil {
			return 0, err
		} else {
			hear(now)
		}
		wait, cancel := context.WithTimeout(ctx, c.limits.LeaseTTL) // an expiry that no watcher was told of
		err := c.lease.Watch(wait, key, func(e Entry) error {
			if e.Deleted {
				return errGone
			}
			hear(e)
			return nil
		})
		cancel()
		if ctx.Err() != nil {
			return 0, fmt.Errorf("wait for %s: %w", key, context.Cause(ctx))
		}
		if !errors.Is(err, errGone) && !errors.Is(err, context.DeadlineExceeded) {
			return 0, err
		}
	}
}

var errGone = errors.New("gone")

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
	for {
		select {
		case <-ctx.Done():
			return revision
		case <-ticker.C:
		}
		next, err := c.lease.Update(ctx, key, []byte(instance), revision) // waits for a broker that is away
		if errors.Is(err, ErrConflict) {                                  // it ran out, in an outage or in our sleep
			if next, err = c.lease.Create(ctx, key, []byte(instance)); err == nil {
				c.log.Warn().Str("lease", key).Msg("the lease had run out and nobody had taken it: it is held again")
			}
		}
		switch {
		case err == nil:
			revision = next
		case ctx.Err() != nil:
			return revision
		default:
			c.log.Warn().Err(err).Str("lease", key).Msg("lease lost")
			lose(fmt.Errorf("%s: %w", key, ErrLeaseLost))
			return 0
		}
	}
}

package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/seed-8780d58e/spin/pkg/fleet"
)

// attemptRecord is the list of a task's attempts in the bucket.
type attemptRecord struct {
	bucket *Bucket
	key    string
}

func (l Limits) patience() fleet.Patience {
	p := fleet.DefaultPatience()
	p.Instances, p.Attempts = l.MaxInstances, l.MaxAttempts
	return p
}

// take adds an attempt and returns those before it.
func (r attemptRecord) take(ctx context.Context, instance string) (before []fleet.Attempt, err error) {
	err = r.change(ctx, func(list []fleet.Attempt) []fleet.Attempt {
		before = list
		return append(list[:len(list):len(list)], fleet.Attempt{Instance: instance, TakenAt: time.Now().UTC()})
	})
	return before, err
}

// fail writes the error into the instance's newest attempt.
func (r attemptRecord) fail(ctx context.Context, instance string, cause error) {
	r.settle(ctx, func(list []fleet.Attempt) []fleet.Attempt {
		for i := len(list) - 1; i >= 0; i-- {
			if list[i].Instance == instance {
				list[i].Error = fmt.Sprintf("%.1000v", cause)
				break
			}
		}
		return list
	})
}

// release takes the instance's newest attempt back.
func (r attemptRecord) release(ctx context.Context, instance string) {
	r.settle(ctx, func(list []fleet.Attempt) []fleet.Attempt {
		for i := len(list) - 1; i >= 0; i-- {
			if list[i].Instance == instance {
				return append(list[:i:i], list[i+1:]...)
			}
		}
		return list
	})
}

// clear forgets a task that is done.
func (r attemptRecord) clear(ctx context.Context) {
	r.settle(ctx, func([]fleet.Attempt) []fleet.Attempt { return nil })
}

// settle is change after the work, when the worker's context may have ended; what can't be written is only logged: the count is then too high by one.
func (r attemptRecord) settle(ctx context.Context, f func([]fleet.Attempt) []fleet.Attempt) {
	ctx, cancel := settle(ctx)
	defer cancel()
	if err := r.change(ctx, f); err != nil {
		r.bucket.conn.log.Warn().Err(err).Msg("write down an attempt")
	}
}

// change is one compare-and-set, repeated until nobody else was faster. An empty list removes the key.
func (r attemptRecord) change(ctx context.Context, f func([]fleet.Attempt) []fleet.Attempt) error {
	for {
		e, err := r.bucket.Get(ctx, r.key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		var list []fleet.Attempt
		if err == nil {
			if err := json.Unmarshal(e.Value, &list); err != nil {
				return fmt.Errorf("%s %s: %w", r.bucket.name, r.key, err)
			}
		}
		if list = f(list); len(list) == 0 {
			if e.Revision == 0 {
				return nil
			}
			err = r.bucket.Delete(ctx, r.key, e.Revision)
		} else {
			value, _ := json.Marshal(list) // strings and times always encode
			_, err = r.bucket.write(ctx, r.key, value, e.Revision)
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

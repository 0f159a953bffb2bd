package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// TakeOver ends every lease at once: of tasks, of leaders, of members. It is for the process that holds
// the broker itself, before it starts its services: whoever had a lease died with the broker, and
// waiting for it to run out would only cost time. Were somebody alive after all, they would lose
// nothing but the lease.
func (c *Conn) TakeOver(ctx context.Context) error {
	if err := c.freeTasks(ctx); err != nil {
		return fmt.Errorf("take over the queues: %w", err)
	}
	for _, pattern := range []string{"leader.>", "member.>"} {
		entries, err := c.lease.List(ctx, pattern)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := c.lease.Delete(ctx, e.Key, e.Revision); err != nil && !errors.Is(err, ErrConflict) {
				return err
			}
		}
	}
	return nil
}

// freeTasks makes the queues' consumers anew: a new one knows of no lease. Who tried what is kept in the
// attempts.
func (c *Conn) freeTasks(ctx context.Context) error {
	return c.retry(ctx, "take over the queues", func(ctx context.Context, _ bool) error {
		stream, err := c.js.Stream(ctx, Prompts)
		if err != nil {
			return err
		}
		consumers := stream.ListConsumers(ctx)
		for info := range consumers.Info() {
			if !strings.HasPrefix(info.Name, plannedPrefix) && !strings.HasPrefix(info.Name, urgentPrefix) || info.NumAckPending == 0 {
				continue
			}
			if err := stream.DeleteConsumer(ctx, info.Name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
				return err
			}
			if _, err := stream.CreateOrUpdateConsumer(ctx, info.Config); err != nil {
				return err
			}
		}
		return consumers.Err()
	})
}

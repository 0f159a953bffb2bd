package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fleet"
)

// Refuse writes a dead letter about a message that a reader does not take, once for each message within an hour. instance is the reader's.
func (c *Conn) Refuse(ctx context.Context, d Delivery, instance, reason string) error {
	_, kind, rest, ok := event.ParseSubject(d.Subject)
	letter := &event.DeadLetter{
		RunId: d.Run(), Stream: kind, StreamSeq: d.Seq, SourceSubject: d.Subject, Schema: d.Schema, Payload: d.Payload, Reason: reason,
		Circumstance: &event.Circumstance{Instance: instance, CreatedAt: timestamppb.Now()},
	}
	if !ok || !event.IsToken(kind) {
		letter.Stream = "unknown"
	}
	if len(rest) > 0 {
		if t, err := strconv.ParseUint(rest[0], 10, 32); err == nil {
			letter.Iteration = uint32(t)
		}
	}
	if kind == event.Games && len(rest) == 2 && event.IsToken(rest[1]) {
		letter.PromptId = rest[1]
	}
	return c.Append(ctx, fit(letter), fmt.Sprintf("%s/%d", letter.Stream, d.Seq))
}

// fit makes a letter that a message can hold, whatever it is about.
func fit(letter *event.DeadLetter) *event.DeadLetter {
	if n := len(letter.Payload); n > event.MaxBytes/2 {
		letter.Payload, letter.Reason = nil, fmt.Sprintf("%s; its %d bytes are too many to be kept here", letter.Reason, n)
	}
	if !event.IsToken(letter.RunId) {
		letter.RunId = "unknown"
	}
	letter.Reason = strings.ToValidUTF8(letter.Reason, "?")
	for _, s := range []*string{&letter.Schema, &letter.SourceSubject} {
		*s = strings.ToValidUTF8((*s)[:min(len(*s), 1024)], "?")
	}
	return letter
}

// Remove takes one message out of a stream, by its sequence and for good: its subject is free again. That it is gone already is success.
func (c *Conn) Remove(ctx context.Context, stream string, seq uint64) error {
	err := c.retry(ctx, "remove a message", func(ctx context.Context, _ bool) error {
		s, err := c.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		return s.DeleteMsg(ctx, seq)
	})
	if err != nil && errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) { // says "it is gone" and "it can't be done"
		if _, lookup := c.At(ctx, stream, seq); errors.Is(lookup, ErrNotFound) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("remove message %d of %s: %w", seq, stream, err)
	}
	return nil
}

// At reads one message of a stream by its sequence; ErrNotFound where it is gone.
func (c *Conn) At(ctx context.Context, stream string, seq uint64) (Delivery, error) {
	var raw *jetstream.RawStreamMsg
	err := c.retry(ctx, "read a message", func(ctx context.Context, _ bool) error {
		s, err := c.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		raw, err = s.GetMsg(ctx, seq)
		return err
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Delivery{}, fmt.Errorf("message %d of %s: %w", seq, stream, ErrNotFound)
	}
	if err != nil {
		return Delivery{}, fmt.Errorf("read message %d of %s: %w", seq, stream, err)
	}
	d := Delivery{Stream: stream, Seq: seq, Time: raw.Time, Subject: raw.Subject, Schema: raw.Header.Get(schemaHeader), Payload: raw.Data}
	d.decode()
	return d, nil
}

// WatchTasks calls handle with who has tried each task of a run's iteration, the newest attempt last, and again with every change; nil: the task is
// done, given back or given up. A task is in somebody's hands while its newest attempt has no error.
func (c *Conn) WatchTasks(ctx context.Context, run string, iteration uint32, handle func(task string, attempts []fleet.Attempt)) error {
	return State[[]fleet.Attempt]{c.attempts}.Watch(ctx, fmt.Sprintf("%s.%d.>", run, iteration), func(key string, attempts *[]fleet.Attempt, _ uint64) error {
		task := strings.TrimPrefix(key, run+".")
		if attempts == nil {
			handle(task, nil)
		} else {
			handle(task, *attempts)
		}
		return nil
	})
}

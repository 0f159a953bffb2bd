package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

const (
	schemaHeader  = "Spin-Schema"
	runHeader     = "Spin-Run"
	weightsHeader = "Spin-Weights"

	// The server's answers to a bound that is met: of the stream or the subject, of the account, of the disk.
	codeStoreFailed           jetstream.ErrorCode = 10077
	codeAccountExceeded       jetstream.ErrorCode = 10002
	codeInsufficientResources jetstream.ErrorCode = 10023
	codeStorageExceeded       jetstream.ErrorCode = 10047
)

// Ack is where a message lies.
type Ack struct {
	Seq     uint64
	Existed bool // it was there before this call
	Differs bool // what was there says something else than the refused message, circumstance left out
}

// PublishOnce writes a message unless its subject holds one: a game, a score. That it existed is success; ErrFull means that the stream is.
func (c *Conn) PublishOnce(ctx context.Context, m event.Message) (out Ack, err error) {
	defer func() { c.count(m, err) }()
	ack, err := c.publish(ctx, m)
	if err == nil {
		return Ack{Seq: ack.Sequence}, nil
	}
	if !isFull(err) {
		return Ack{}, err
	}
	// A bound of the subject and one of the stream come back with the same code; only the subject's message tells them apart.
	old, seq, lookup := c.Last(ctx, m)
	switch {
	case errors.Is(lookup, ErrNotFound):
		return Ack{}, fmt.Errorf("publish %s: %w (%v)", m.Subject(), ErrFull, err)
	case errors.Is(lookup, event.ErrInvalid):
		return Ack{Seq: seq, Existed: true, Differs: true}, nil
	case lookup != nil:
		return Ack{}, lookup
	}
	return Ack{Seq: seq, Existed: true, Differs: !event.SameContent(old, m)}, nil
}

// StartPublishOnce is PublishOnce in two halves: it sends, and wait waits for what becomes of it. Messages that are started before the first is waited
// for travel together, which is several times cheaper for everybody.
func (c *Conn) StartPublishOnce(ctx context.Context, m event.Message) (wait func() (Ack, error)) {
	again := func() (Ack, error) { return c.PublishOnce(ctx, m) }
	msg, stream, err := message(ctx, m)
	if err != nil {
		return func() (Ack, error) { return Ack{}, err }
	}
	session := c.current()
	answer, err := c.js.PublishMsgAsync(msg, jetstream.WithExpectStream(stream), jetstream.WithRetryAttempts(0))
	if err != nil {
		return again
	}
	return func() (Ack, error) {
		timeout := time.NewTimer(requestTimeout)
		defer timeout.Stop()
		select {
		case ack := <-answer.Ok():
			c.count(m, nil)
			return Ack{Seq: ack.Sequence}, nil
		case <-answer.Err():
		case <-session.Done():
		case <-timeout.C:
		case <-ctx.Done():
		}
		return again() // the first write wins, so that a second is harmless, and it knows what every answer means
	}
}

// PublishExpected writes a message over last, the sequence that the writer knows its subject to hold, 0 for none: a step, its pairs, a checkpoint.
// It returns the message's sequence. A subject that already holds the same content counts as written. ErrFenced: it holds something else, that
// this writer does not know of. ErrFull: the stream is; journal it and go on.
func (c *Conn) PublishExpected(ctx context.Context, m event.Message, last uint64) (at uint64, err error) {
	defer func() { c.count(m, err) }()
	ack, err := c.publish(ctx, m, jetstream.WithExpectLastSequencePerSubject(last))
	switch {
	case err == nil:
		return ack.Sequence, nil
	case isFull(err):
		return 0, fmt.Errorf("publish %s: %w (%v)", m.Subject(), ErrFull, err)
	case !isCode(err, jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant):
		return 0, err
	}
	old, seq, lookup := c.Last(ctx, m)
	if lookup == nil && event.SameContent(old, m) {
		return seq, nil
	}
	if lookup != nil && !errors.Is(lookup, ErrNotFound) && !errors.Is(lookup, event.ErrInvalid) {
		return 0, lookup
	}
	return 0, fmt.Errorf("publish %s over sequence %d, it holds %d: %w", m.Subject(), last, seq, ErrFenced)
}

// PublishAfter writes a message where last is the newest sequence that filter holds, 0 for none: the log of one writer, such as the steps of a run.
// It returns the message's sequence. What the newest message says already counts as written. ErrFenced: there is something newer than last, by another
// writer or by an earlier life of this one. ErrFull: the stream is; journal it and go on.
func (c *Conn) PublishAfter(ctx context.Context, m event.Message, filter string, last uint64) (at uint64, err error) {
	defer func() { c.count(m, err) }()
	ack, err := c.publish(ctx, m, jetstream.WithExpectLastSequenceForSubject(last, filter))
	switch {
	case err == nil:
		return ack.Sequence, nil
	case isFull(err):
		return 0, fmt.Errorf("publish %s: %w (%v)", m.Subject(), ErrFull, err)
	case !isCode(err, jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant):
		return 0, err
	}
	newest, seq, lookup := c.Newest(ctx, m, filter)
	if lookup == nil && newest.Subject() == m.Subject() && event.SameContent(newest, m) { // written, and the answer was lost
		return seq, nil
	}
	if lookup != nil && !errors.Is(lookup, ErrNotFound) && !errors.Is(lookup, event.ErrInvalid) {
		return 0, lookup
	}
	return 0, fmt.Errorf("publish %s after sequence %d, %s is at %d: %w", m.Subject(), last, filter, seq, ErrFenced)
}

// Append writes an event or a dead letter, once for each id within the stream's window of an hour.
func (c *Conn) Append(ctx context.Context, m event.Message, id string) (err error) {
	defer func() { c.count(m, err) }()
	_, err = c.publish(ctx, m, jetstream.WithMsgID(m.GetRunId()+"/"+id))
	if isFull(err) {
		return fmt.Errorf("publish %s: %w (%v)", m.Subject(), ErrFull, err)
	}
	return err
}

// Last reads the newest message on the subject of m, of which only the identity is used. ErrNotFound: there is none. An error that wraps
// event.ErrInvalid comes with the sequence.
func (c *Conn) Last(ctx context.Context, m event.Message) (event.Message, uint64, error) {
	return c.Newest(ctx, m, m.Subject())
}

// Newest is Last among all messages that filter matches, in the stream of m.
func (c *Conn) Newest(ctx context.Context, m event.Message, subject string) (event.Message, uint64, error) {
	stream, err := streamOf(m)
	if err != nil {
		return nil, 0, err
	}
	var raw *jetstream.RawStreamMsg
	err = c.retry(ctx, "read "+subject, func(ctx context.Context, _ bool) error {
		s, err := c.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		raw, err = s.GetLastMsgForSubject(ctx, subject)
		return err
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, 0, fmt.Errorf("read %s: %w", subject, ErrNotFound)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", subject, err)
	}
	found, err := event.Unmarshal(raw.Header.Get(schemaHeader), raw.Data)
	if err != nil {
		return nil, raw.Sequence, fmt.Errorf("read %s: %w", subject, err)
	}
	return found, raw.Sequence, nil
}

// publish sends until the broker answers. The publish is the same each time, so that what makes it idempotent (subject, expected sequence or id)
// also covers an answer that was lost.
func (c *Conn) publish(ctx context.Context, m event.Message, options ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	msg, stream, err := message(ctx, m)
	if err != nil {
		return nil, err
	}
	subject := msg.Subject
	options = append(options, jetstream.WithExpectStream(stream), jetstream.WithRetryAttempts(0))
	var ack *jetstream.PubAck
	err = c.retry(ctx, "publish "+subject, func(ctx context.Context, _ bool) (err error) {
		ack, err = c.js.PublishMsg(ctx, msg, options...)
		return err
	})
	if errors.Is(err, nats.ErrMaxPayload) {
		return nil, fmt.Errorf("publish %s: %d bytes, the broker takes %d at most: %w", subject, len(msg.Data), c.nats.MaxPayload(), event.ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("publish %s: %w", subject, err)
	}
	return ack, nil
}

// message is m with its headers, ctx's trace context among them, and its stream.
func message(ctx context.Context, m event.Message) (msg *nats.Msg, stream string, err error) {
	data, err := event.Marshal(m)
	if err != nil {
		return nil, "", err
	}
	if stream, err = streamOf(m); err != nil {
		return nil, "", err
	}
	msg = &nats.Msg{Subject: m.Subject(), Data: data, Header: nats.Header{
		schemaHeader: {event.Schema(m)}, "Content-Type": {"application/protobuf"}, runHeader: {m.GetRunId()},
	}}
	if w, ok := m.(interface{ GetWeightsSha256() string }); ok && w.GetWeightsSha256() != "" {
		msg.Header.Set(weightsHeader, w.GetWeightsSha256())
	}
	telemetry.Inject(ctx, carrier(msg.Header))
	return msg, stream, nil
}

// streamOf is the stream that a message's subject belongs to.
func streamOf(m event.Message) (string, error) {
	switch m.(type) {
	case *event.Chunk:
		return Prompts, nil
	case *event.Game:
		return Games, nil
	case *event.Step, *event.PairTraces:
		return Steps, nil
	case *event.Checkpoint:
		return Checkpoints, nil
	case *event.Score:
		return Scores, nil
	case *event.Event:
		return Events, nil
	case *event.DeadLetter:
		return Dead, nil
	}
	return "", fmt.Errorf("%s has no stream", event.Schema(m))
}

func isCode(err error, codes ...jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode)
}

func isFull(err error) bool {
	return isCode(err, codeStoreFailed, codeAccountExceeded, codeInsufficientResources, codeStorageExceeded)
}

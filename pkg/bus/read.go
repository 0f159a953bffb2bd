package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// Delivery is one message of a stream.
type Delivery struct {
	Stream  string
	Seq     uint64
	Time    time.Time // when the broker stored it
	Subject string
	Pending uint64 // messages behind this one that match: the reader's lag

	Message event.Message // nil where Err is set
	Err     error         // why the bytes could not be decoded, wrapping event.ErrInvalid
	Schema  string
	Trace   string           // id of the trace that the message is part of, 32 hexadecimal digits; empty: none
	Origin  telemetry.Origin // span in which the message was published; not valid where it has none
	Payload []byte           // undecoded; valid until the handler returns
}

// decode sets Message or Err.
func (d *Delivery) decode() {
	if d.Message, d.Err = event.Unmarshal(d.Schema, d.Payload); d.Err == nil && d.Message.Subject() != d.Subject {
		d.Message, d.Err = nil, fmt.Errorf("%s on the subject %s: %w", d.Message.Subject(), d.Subject, event.ErrInvalid)
	}
}

// Run that the message is about, by its subject.
func (d Delivery) Run() string {
	run, _, _, _ := event.ParseSubject(d.Subject)
	return run
}

// ReadConfig says what to read.
type ReadConfig struct {
	Stream  string
	Filters []string // subjects; none: all
	From    uint64   // first sequence; 0: the oldest
	Until   uint64   // return after this sequence; 0: no end
	Follow  bool     // wait for new messages; otherwise return at the end of the stream
}

// Read calls handle for each message in the order of the stream, each once for this call. It acknowledges nothing and leaves nothing behind: where
// to start again is the reader's to remember. It returns nil at the end it was asked for, the handler's error, or ctx's end. Messages that were
// purged before they were read are skipped: the sequence shows the gap.
func (c *Conn) Read(ctx context.Context, cfg ReadConfig, handle func(Delivery) error) error {
	next := max(cfg.From, 1)
	wait := retryMin
	for {
		if cfg.Until > 0 && next > cfg.Until {
			return nil
		}
		start := next
		done, err := c.readFrom(ctx, cfg, &next, handle)
		if ctx.Err() != nil && (err == nil || isOutage(err) || errors.Is(err, context.Canceled)) {
			return context.Cause(ctx)
		}
		var stop *handlerError
		if errors.As(err, &stop) {
			return stop.err
		}
		if err != nil && !isOutage(err) && !errors.Is(err, errReadAgain) {
			return fmt.Errorf("read %s from %d: %w", cfg.Stream, next, err)
		}
		if done {
			return nil
		}
		if next > start {
			wait = retryMin
		}
		if !c.sleep(ctx, c.current(), wait) {
			return context.Cause(ctx)
		}
		wait = min(2*wait, retryMax)
	}
}

// handlerError keeps an error of the handler apart from the broker's.
type handlerError struct{ err error }

func (e *handlerError) Error() string { return e.err.Error() }

var errReadAgain = errors.New("consumer is gone")

// again turns an error of a reader that was interrupted, while its caller's context goes on, into one to start over after.
func again(ctx, reading context.Context, err error) error {
	if reading.Err() != nil && ctx.Err() == nil {
		return errors.Join(errReadAgain, err)
	}
	return err
}

// readFrom reads with one consumer until the end or until the consumer breaks; *next is the first sequence not handled.
func (c *Conn) readFrom(ctx context.Context, cfg ReadConfig, next *uint64, handle func(Delivery) error) (done bool, err error) {
	reading, interrupt := context.WithCancel(ctx)
	defer interrupt()
	defer context.AfterFunc(c.current(), interrupt)()
	setup, cancel := context.WithTimeout(reading, requestTimeout)
	defer cancel()
	consumer, err := c.js.OrderedConsumer(setup, cfg.Stream, jetstream.OrderedConsumerConfig{
		FilterSubjects: cfg.Filters, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: *next, MaxResetAttempts: 3,
	})
	if err != nil {
		return false, again(ctx, reading, err)
	}
	if !cfg.Follow {
		info, err := consumer.Info(setup)
		if err != nil {
			return false, again(ctx, reading, err)
		}
		if info.NumPending == 0 && info.Delivered.Consumer == 0 {
			return true, nil
		}
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(256), jetstream.PullHeartbeat(2*time.Second), jetstream.PullExpiry(10*time.Second))
	if err != nil {
		return false, err
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(reading))
		if err != nil {
			if errors.Is(err, jetstream.ErrMsgIteratorClosed) || errors.Is(err, jetstream.ErrOrderedConsumerReset) || errors.Is(err, jetstream.ErrConsumerDeleted) ||
				errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, nats.ErrConnectionClosed) && !c.nats.IsClosed() {
				err = errors.Join(errReadAgain, err)
			}
			return false, again(ctx, reading, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return false, err
		}
		if cfg.Until > 0 && meta.Sequence.Stream > cfg.Until {
			return true, nil
		}
		published := telemetry.Extract(context.Background(), carrier(msg.Headers()))
		d := Delivery{
			Stream: cfg.Stream, Seq: meta.Sequence.Stream, Time: meta.Timestamp, Subject: msg.Subject(), Pending: meta.NumPending,
			Schema: msg.Headers().Get(schemaHeader), Payload: msg.Data(),
			Trace: telemetry.TraceID(published), Origin: telemetry.OriginOf(published),
		}
		d.decode()
		if err := handle(d); err != nil {
			return false, &handlerError{err}
		}
		*next = d.Seq + 1
		if d.Seq == cfg.Until || !cfg.Follow && d.Pending == 0 {
			return true, nil
		}
	}
}

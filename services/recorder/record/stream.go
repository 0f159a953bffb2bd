package record

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/store"
)

// plan is the value of recorder.<stream>: the range of sequences that was inserted last, or that is
// about to be.
type plan struct {
	ID    string `json:"id"` // of this broker's stream, made with the key
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Done  bool   `json:"done"`
}

func (p plan) token(stream string) string {
	return fmt.Sprintf("%s/%s/%d-%d", p.ID, stream, p.First, p.Last)
}

// ledger is a stream's plan and the revision of its key.
type ledger struct {
	plan
	state    bus.State[plan]
	key      string
	revision uint64
}

func (s *Service) openLedger(ctx context.Context, stream string) (*ledger, error) {
	l := &ledger{state: bus.State[plan]{Bucket: s.bus.Control()}, key: "recorder." + stream}
	var err error
	l.plan, l.revision, err = l.state.Load(ctx, l.key)
	if errors.Is(err, bus.ErrNotFound) {
		l.plan = plan{ID: uuid.NewString(), Done: true}
		l.revision, err = l.state.Create(ctx, l.key, l.plan)
	}
	return l, err
}

func (l *ledger) write(ctx context.Context, p plan) error {
	revision, err := l.state.Swap(ctx, l.key, p, l.revision)
	if err != nil {
		return err
	}
	l.plan, l.revision = p, revision
	return nil
}

// recordStream records one stream, from where the last recorder was.
func (s *Service) recordStream(ctx context.Context, stream string) error {
	l, err := s.openLedger(ctx, stream)
	if err != nil {
		return err
	}
	if !l.Done {
		if err := s.repeat(ctx, stream, l); err != nil {
			return err
		}
	}
	s.advance(stream, l.Last)
	ctx, cancel := context.WithCancel(ctx)
	messages := make(chan message)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	var readErr error
	reading.Go(func() {
		defer close(messages)
		readErr = s.bus.Read(ctx, bus.ReadConfig{Stream: stream, From: l.Last + 1, Follow: true}, func(d bus.Delivery) error {
			select {
			case messages <- s.decode(d):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	for {
		batch, last, ok := s.collect(ctx, messages)
		if !ok {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return readErr
		}
		if err := s.commit(ctx, stream, l, plan{ID: l.ID, First: l.Last + 1, Last: last}, batch); err != nil {
			return err
		}
	}
}

// repeat inserts what a plan says that an earlier recorder may or may not have inserted.
func (s *Service) repeat(ctx context.Context, stream string, l *ledger) error {
	var batch store.Batch
	err := s.bus.Read(ctx, bus.ReadConfig{Stream: stream, From: l.First, Until: l.Last}, func(d bus.Delivery) error {
		s.decode(d).add(&batch)
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.insert(ctx, l.token(stream), &batch); err != nil {
		return err
	}
	done := l.plan
	done.Done = true
	return l.write(ctx, done)
}

// commit writes the plan ahead, inserts, and marks the plan as done.
func (s *Service) commit(ctx context.Context, stream string, l *ledger, p plan, batch *store.Batch) error {
	if err := l.write(ctx, p); err != nil {
		return err
	}
	fault.Point(fault.RecorderPlanned)
	if err := s.insert(ctx, p.token(stream), batch); err != nil {
		return err
	}
	fault.Point(fault.RecorderInserted)
	p.Done = true
	if err := l.write(ctx, p); err != nil {
		return err
	}
	fault.Point(fault.RecorderDone)
	s.advance(stream, p.Last)
	return nil
}

// message is a delivery as rows.
type message struct {
	seq   uint64
	bytes int
	add   func(*store.Batch)
}

// collect gathers a batch: until it is large enough, or its first message has waited long enough.
// ok is false when the messages have ended.
func (s *Service) collect(ctx context.Context, messages <-chan message) (batch *store.Batch, last uint64, ok bool) {
	batch = &store.Batch{}
	bytes := 0
	var full <-chan time.Time
	for {
		select {
		case m, more := <-messages:
			if !more {
				return nil, 0, false
			}
			m.add(batch)
			last, bytes = m.seq, bytes+m.bytes
			if batch.Len() >= s.cfg.MaxRows || bytes >= s.cfg.MaxBytes {
				return batch, last, true
			}
			if full == nil {
				full = time.After(s.cfg.MaxWait)
			}
		case <-full:
			return batch, last, true
		case <-ctx.Done():
			return nil, 0, false
		}
	}
}

// decode turns a delivery into rows. What cannot be decoded is logged and leaves no row: it stays in
// its stream.
func (s *Service) decode(d bus.Delivery) message {
	m := message{seq: d.Seq, bytes: len(d.Payload), add: func(*store.Batch) {}}
	if d.Err != nil {
		s.log.Error().Err(d.Err).Str("stream", d.Stream).Uint64("seq", d.Seq).Msg("a message that nobody can read")
		return m
	}
	message := d.Message
	m.add = func(b *store.Batch) { addRows(b, message, d.Seq) }
	return m
}

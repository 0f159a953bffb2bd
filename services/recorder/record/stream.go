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
	"github.com/seed-8780d58e/spin/pkg/telemetry"
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
	info, err := s.bus.StreamInfo(ctx, stream)
	if err != nil {
		return err
	}
	if err := s.checkGap(ctx, Lag{Stream: stream, Missing: missing(info, l.Last)}); err != nil {
		return err
	}
	if stream == bus.Games {
		close(s.repeated)
	}
	s.advance(stream, l.Last)
	ctx, cancel := context.WithCancel(ctx)
	messages := make(chan message, 256)
	batches := make(chan gathered)      // not buffered: while one is inserted, the next is gathered
	spare := make(chan *store.Batch, 1) // whose memory the next but one may have
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	var readErr error
	reading.Go(func() {
		defer close(messages)
		readErr = s.bus.Read(ctx, bus.ReadConfig{Stream: stream, From: l.Last + 1, Follow: true}, func(d bus.Delivery) error {
			if d.Err != nil && stream != bus.Games { // a run's trainer looks after its games
				if err := s.bus.Refuse(ctx, d, "recorder", fmt.Sprintf("%.1000v", d.Err)); err != nil {
					return err
				}
			}
			select {
			case messages <- s.decode(d):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	reading.Go(func() {
		defer close(batches)
		for s.gather(ctx, messages, batches, spare) {
		}
	})
	for g := range batches {
		if err := s.commitTraced(ctx, stream, l, g); err != nil {
			return err
		}
		g.Reset()
		select {
		case spare <- g.Batch:
		default:
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return readErr
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

// commitTraced is commit of what was gathered, in a span that is linked to those in which its messages were published.
func (s *Service) commitTraced(ctx context.Context, stream string, l *ledger, g gathered) error {
	p := plan{ID: l.ID, First: l.Last + 1, Last: g.last}
	ctx, span := s.cfg.Metrics.Tracer.Start(ctx, "batch", telemetry.Consumer, telemetry.Text("spin.stream", stream),
		telemetry.Count("spin.first", p.First), telemetry.Count("spin.last", p.Last), telemetry.Count("spin.rows", g.Len()))
	defer span.End()
	telemetry.LinkTo(ctx, g.origins...)
	return s.commit(ctx, stream, l, p, g.Batch)
}

// commit writes the plan ahead, inserts, and marks the plan as done.
func (s *Service) commit(ctx context.Context, stream string, l *ledger, p plan, batch *store.Batch) error {
	if err := l.write(ctx, p); err != nil {
		return err
	}
	fault.Point(fault.RecorderPlanned)
	if err := s.insertKept(ctx, p.token(stream), stream, batch); err != nil {
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
	seq    uint64
	bytes  int
	origin telemetry.Origin
	add    func(*store.Batch)
}

// gathered is a batch in the making.
type gathered struct {
	*store.Batch
	bytes   int
	last    uint64             // sequence
	origins []telemetry.Origin // of its messages, maxOrigins at most; the games of a task share one
}

// maxOrigins is how many links a span has room for, by OpenTelemetry's default.
const maxOrigins = 128

// gather makes one batch and hands it over: when it is large enough, or when its first message has
// waited long enough. While nobody takes it, because the one before is being inserted, it grows to its
// full size: a recorder that is behind makes fewer and larger inserts. It returns false when the
// messages have ended.
func (s *Service) gather(ctx context.Context, messages <-chan message, batches chan<- gathered, spare <-chan *store.Batch) bool {
	var g gathered
	select {
	case g.Batch = <-spare:
	default:
		g.Batch = &store.Batch{}
	}
	var waited <-chan time.Time
	var out chan<- gathered // batches, when it may go
	for {
		select {
		case m, more := <-messages:
			if !more {
				return false
			}
			m.add(g.Batch)
			g.last, g.bytes = m.seq, g.bytes+m.bytes
			if n := len(g.origins); m.origin.IsValid() && n < maxOrigins && (n == 0 || !g.origins[n-1].Same(m.origin)) {
				g.origins = append(g.origins, m.origin)
			}
			if waited == nil {
				waited = time.After(s.cfg.MaxWait)
			}
			if g.Len() >= s.cfg.MaxRows || g.bytes >= s.cfg.MaxBytes {
				out, messages = batches, nil
			}
		case <-waited:
			out = batches
		case out <- g:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// decode turns a delivery into rows. What cannot be decoded is logged and leaves no row: it stays in
// its stream.
func (s *Service) decode(d bus.Delivery) message {
	m := message{seq: d.Seq, bytes: len(d.Payload), origin: d.Origin, add: func(*store.Batch) {}}
	if d.Err != nil {
		s.log.Error().Err(d.Err).Str("stream", d.Stream).Uint64("seq", d.Seq).Str("run", d.Run()).Str("trace_id", d.Trace).Msg("a message that nobody can read")
		return m
	}
	message := d.Message
	m.add = func(b *store.Batch) { addRows(b, message, d.Seq) }
	return m
}

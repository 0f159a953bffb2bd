package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// The prompts queue is one work-queue stream, with two consumers for each run: of planned chunks, and of urgent tasks (prompts split off, hedges, what
// is tried again), which are taken first. A run's trainer opens, pauses and closes them, and workers serve the open runs in turn. There is no BackOff (the server would take its first entry for AckWait) and no MaxDeliver (a message past it would stay in the
// stream and belong to nobody): who tried what is kept in a bucket, and decides between another try, a split and a dead letter.

const (
	plannedPrefix = "run-"
	urgentPrefix  = "urgent-"
)

// queues are the names of a run's consumers, the urgent one first.
func queues(run string) []string { return []string{urgentPrefix + run, plannedPrefix + run} }

// OpenQueue makes a run's queue ready for workers, or resumes it.
func (c *Conn) OpenQueue(ctx context.Context, run string) error {
	err := c.retry(ctx, "open the queue of "+run, func(ctx context.Context, _ bool) error {
		for _, q := range [2]struct{ name, subjects string }{{plannedPrefix + run, event.PlannedSubjects(run)}, {urgentPrefix + run, event.UrgentSubjects(run)}} {
			consumer, err := c.js.CreateOrUpdateConsumer(ctx, Prompts, jetstream.ConsumerConfig{
				Durable: q.name, FilterSubject: q.subjects, AckPolicy: jetstream.AckExplicitPolicy,
				AckWait: c.limits.AckWait, MaxDeliver: -1, MaxAckPending: 1 << 16, Description: "tasks of run " + run,
			})
			if err == nil && consumer.CachedInfo().Paused {
				_, err = c.js.ResumeConsumer(ctx, Prompts, q.name)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("open the queue of %s: %w", run, err)
	}
	return nil
}

// PauseQueue stops handing out a run's tasks; what is queued stays, what is leased goes on.
func (c *Conn) PauseQueue(ctx context.Context, run string) error {
	err := c.retry(ctx, "pause the queue of "+run, func(ctx context.Context, _ bool) error {
		for _, name := range queues(run) {
			if _, err := c.js.PauseConsumer(ctx, Prompts, name, time.Now().AddDate(100, 0, 0)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("pause the queue of %s: %w", run, err)
	}
	return nil
}

// CloseQueue takes a run out of the workers' turn and drops what was queued.
func (c *Conn) CloseQueue(ctx context.Context, run string) error {
	err := c.retry(ctx, "close the queue of "+run, func(ctx context.Context, _ bool) error {
		for _, name := range queues(run) {
			if err := c.js.DeleteConsumer(ctx, Prompts, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("close the queue of %s: %w", run, err)
	}
	return c.Purge(ctx, Prompts, event.QueueSubjects(run), 0)
}

// QueueDepth counts a run's tasks: waiting, and leased to workers.
func (c *Conn) QueueDepth(ctx context.Context, run string) (waiting, leased int, err error) {
	err = c.retry(ctx, "count the queue of "+run, func(ctx context.Context, _ bool) error {
		waiting, leased = 0, 0
		for _, name := range queues(run) {
			consumer, err := c.js.Consumer(ctx, Prompts, name)
			if err != nil {
				return err
			}
			info := consumer.CachedInfo()
			waiting, leased = waiting+int(info.NumPending), leased+info.NumAckPending
		}
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count the queue of %s: %w", run, err)
	}
	return waiting, leased, nil
}

// Enqueue adds a chunk to its run's queue, once for each Task within an hour; queued is false where it was there. ErrFull: the run has as many
// chunks in the queue as it may.
func (c *Conn) Enqueue(ctx context.Context, chunk *event.Chunk) (queued bool, err error) {
	defer func() { c.count(chunk, err) }()
	ctx = telemetry.NewTrace(ctx) // a trace is a task, its games and what becomes of them
	ack, err := c.publish(ctx, chunk, jetstream.WithMsgID(chunk.GetRunId()+"/"+chunk.Task()))
	if isFull(err) {
		return false, fmt.Errorf("queue chunk %s: %w", chunk.Task(), ErrFull)
	}
	if err != nil {
		return false, err
	}
	return !ack.Duplicate, nil
}

// WorkConfig says how a worker works.
type WorkConfig struct {
	// Instance, unique per process start: three distinct ones that fail or die make a dead letter.
	Instance string
	// Slots is how many tasks are in work at once.
	Slots int
	// Service names the worker in logs, e.g. generator.
	Service string
}

// Work takes tasks of all open queues in turn, Slots at a time, and calls handle for each on a goroutine of its own, until ctx ends; then it waits
// for the handlers, whose contexts end too. What handle returns decides: nil, the task is done and gone; ErrRelease, it goes back uncounted;
// another error, it is tried again after RetryDelay. The handler's context ends with ErrLeaseLost as its cause when it reported no progress for
// AckWait: somebody else may have the task by then, and that is harmless where results are published by PublishOnce.
func (c *Conn) Work(ctx context.Context, cfg WorkConfig, handle func(ctx context.Context, lease *Lease) error) error {
	slots := make(chan struct{}, cfg.Slots)
	turn := &turn{conn: c}
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		var msg jetstream.Msg
		if ctx.Err() == nil {
			msg = turn.next(ctx)
		}
		if msg == nil { // ctx ended: wait for every handler
			for range cap(slots) - 1 {
				slots <- struct{}{}
			}
			return context.Cause(ctx)
		}
		go func() {
			defer func() { <-slots }()
			w := &work{conn: c, cfg: cfg, msg: msg}
			w.do(ctx, handle)
		}()
	}
}

// turn hands out messages of the open runs, one run after the other.
type turn struct {
	conn   *Conn
	runs   []openQueue
	looked time.Time
	at     int
}

// openQueue is a run's consumers.
type openQueue struct{ urgent, planned jetstream.Consumer }

const lookEvery = time.Second

// next waits for a message; nil where ctx ended.
func (t *turn) next(ctx context.Context) jetstream.Msg {
	for ctx.Err() == nil {
		if time.Since(t.looked) > lookEvery || len(t.runs) == 0 {
			if err := t.look(ctx); err != nil && ctx.Err() == nil {
				t.conn.log.Warn().Err(err).Msg("look for open queues")
			}
		}
		for range t.runs { // first whoever has something at once
			t.at = (t.at + 1) % len(t.runs)
			for _, consumer := range []jetstream.Consumer{t.runs[t.at].urgent, t.runs[t.at].planned} {
				if msg := t.fetch(ctx, consumer, 0); msg != nil {
					return msg
				}
			}
		}
		if len(t.runs) == 0 {
			t.conn.sleep(ctx, t.conn.current(), lookEvery/4)
			continue
		}
		// Nothing there. A planned task is waited for a while; an urgent one, which comes when the plan is out, may wait as long.
		t.at = (t.at + 1) % len(t.runs)
		if msg := t.fetch(ctx, t.runs[t.at].planned, lookEvery/time.Duration(4*len(t.runs))); msg != nil {
			return msg
		}
	}
	return nil
}

// fetch asks a consumer for one message and waits that long; errors are left to the next look.
func (t *turn) fetch(ctx context.Context, consumer jetstream.Consumer, wait time.Duration) jetstream.Msg {
	var batch jetstream.MessageBatch
	var err error
	if wait == 0 {
		batch, err = consumer.FetchNoWait(1)
	} else {
		batch, err = consumer.Fetch(1, jetstream.FetchMaxWait(wait))
	}
	if err != nil {
		t.looked = time.Time{}
		t.conn.sleep(ctx, t.conn.current(), retryMin)
		return nil
	}
	msg := <-batch.Messages() // closed without one when the wait is over
	if err := batch.Error(); err != nil && msg == nil {
		t.looked = time.Time{}
		t.conn.sleep(ctx, t.conn.current(), retryMin)
	}
	return msg
}

func (t *turn) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	defer context.AfterFunc(t.conn.current(), cancel)()
	stream, err := t.conn.js.Stream(ctx, Prompts)
	if err != nil {
		return err
	}
	var runs []openQueue
	names := stream.ConsumerNames(ctx)
	for name := range names.Name() {
		run, ok := strings.CutPrefix(name, plannedPrefix)
		if !ok {
			continue
		}
		planned, err := stream.Consumer(ctx, name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) { // closed meanwhile
			continue
		}
		if err != nil {
			return err
		}
		if planned.CachedInfo().Paused {
			continue
		}
		urgent, err := stream.Consumer(ctx, urgentPrefix+run)
		if errors.Is(err, jetstream.ErrConsumerNotFound) { // being opened or closed
			continue
		}
		if err != nil {
			return err
		}
		runs = append(runs, openQueue{urgent, planned})
	}
	if err := names.Err(); err != nil {
		return err
	}
	t.runs, t.looked = runs, time.Now()
	return nil
}

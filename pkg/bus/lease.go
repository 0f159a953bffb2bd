package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fleet"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// Lease is one task in the hands of one worker.
type Lease struct {
	Chunk   *event.Chunk
	Attempt uint32 // 1 for the first try of this task

	progress atomic.Bool
}

// Unplayable, returned by a handler of Work, says that trying again can't help: the named prompts go to the dead letters at once. The rest of the task
// counts as done.
type Unplayable struct {
	Prompts []string
	Reason  string
}

func (u *Unplayable) Error() string {
	return fmt.Sprintf("%d prompts can't be played, %v: %s", len(u.Prompts), u.Prompts, u.Reason)
}

// Progress says that the work moves: another token, another game. Without it for AckWait the task goes to somebody else. It costs nothing.
func (l *Lease) Progress() { l.progress.Store(true) }

// work is the life of one delivery.
type work struct {
	conn *Conn
	cfg  WorkConfig
	msg  jetstream.Msg
}

func (w *work) do(ctx context.Context, handle func(ctx context.Context, lease *Lease) error) {
	log := w.conn.log.With().Str("service", w.cfg.Service).Str("instance", w.cfg.Instance).Str("subject", w.msg.Subject()).Logger()
	ctx = telemetry.Extract(ctx, carrier(w.msg.Headers()))
	log = telemetry.WithTrace(ctx, log)
	meta, err := w.msg.Metadata()
	if err != nil {
		log.Error().Err(err).Msg("delivery without metadata")
		return
	}
	decoded, err := event.Unmarshal(w.msg.Headers().Get(schemaHeader), w.msg.Data())
	chunk, isChunk := decoded.(*event.Chunk)
	if err != nil || !isChunk {
		w.bury(ctx, meta, nil, nil, fmt.Sprintf("not a chunk: %v", err))
		return
	}
	record := attemptRecord{bucket: w.conn.attempts, key: chunk.GetRunId() + "." + chunk.Task()}
	before, err := record.take(ctx, w.cfg.Instance)
	if err != nil {
		log.Warn().Err(err).Msg("take a task")
		w.giveBack(ctx)
		return
	}
	switch w.conn.limits.patience().Verdict(before, len(chunk.GetPrompts())) {
	case fleet.Split:
		w.split(ctx, chunk, record)
		return
	case fleet.Bury:
		if w.bury(ctx, meta, chunk, before, fmt.Sprintf("%d attempts by %d instances failed or died", len(before), fleet.Instances(before))) {
			record.clear(ctx)
		}
		return
	}

	lease := &Lease{Chunk: chunk, Attempt: uint32(len(before)) + 1}
	err = w.keep(ctx, lease, handle)
	var unplayable *Unplayable
	switch {
	case err == nil:
		if w.finish(ctx, "acknowledge") {
			record.clear(ctx)
		}
	case errors.As(err, &unplayable):
		if w.giveUp(ctx, meta, chunk, before, unplayable) {
			record.clear(ctx)
		}
	case errors.Is(err, ErrRelease) || ctx.Err() != nil:
		record.release(ctx, w.cfg.Instance)
		w.giveBack(ctx)
	default:
		log.Warn().Err(err).Str("run", chunk.GetRunId()).Uint32("iteration", chunk.GetIteration()).Uint32("chunk", chunk.GetChunk()).Str("task", chunk.Task()).Uint32("attempt", lease.Attempt).Msg("task failed")
		record.fail(ctx, w.cfg.Instance, err)
		w.giveBack(ctx)
	}
}

// keep runs the handler and renews its lease while it reports progress.
func (w *work) keep(ctx context.Context, lease *Lease, handle func(ctx context.Context, lease *Lease) error) error {
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(w.conn.limits.AckWait / 4)
		defer ticker.Stop()
		renewed := time.Now()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if lease.progress.Swap(false) {
				renewed = time.Now()
				if err := w.msg.InProgress(); err != nil { // the connection is gone; results still count
					w.conn.log.Debug().Err(err).Msg("renew a lease")
				}
			} else if time.Since(renewed) >= w.conn.limits.AckWait {
				lose(fmt.Errorf("no progress for %v: %w", w.conn.limits.AckWait, ErrLeaseLost))
				return
			}
		}
	}()
	err := handle(ctx, lease)
	if err != nil && errors.Is(context.Cause(ctx), ErrLeaseLost) {
		err = fmt.Errorf("%w (%v)", context.Cause(ctx), err)
	}
	lose(nil)
	<-stopped
	return err
}

// settle is the context for what has to be said after the worker's own has ended.
func settle(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
}

// finish removes the task from the queue and reports whether the broker confirmed it; if not, it comes again, and that is harmless.
func (w *work) finish(ctx context.Context, what string) bool {
	ctx, cancel := settle(ctx)
	defer cancel()
	if err := w.conn.retry(ctx, what, func(ctx context.Context, _ bool) error { return w.msg.DoubleAck(ctx) }); err != nil {
		w.conn.log.Warn().Err(err).Str("subject", w.msg.Subject()).Msg(what + " a task: it will come again")
		return false
	}
	return true
}

func (w *work) giveBack(ctx context.Context) {
	delay := w.conn.limits.RetryDelay
	if ctx.Err() != nil { // this worker leaves, another may start at once
		delay = 0
	}
	var err error
	if delay == 0 {
		err = w.msg.Nak()
	} else {
		err = w.msg.NakWithDelay(delay)
	}
	if err != nil {
		w.conn.log.Debug().Err(err).Msg("give a task back: its lease will run out")
	}
}

// split replaces a chunk by its prompts, each a task with its own count. Broken off in the middle it is done again, and deduplicated.
func (w *work) split(ctx context.Context, chunk *event.Chunk, record attemptRecord) {
	w.conn.log.Warn().Str("run", chunk.GetRunId()).Uint32("iteration", chunk.GetIteration()).Uint32("chunk", chunk.GetChunk()).Str("task", chunk.Task()).Int("prompts", len(chunk.GetPrompts())).Msg("task failed twice, splitting it")
	for _, single := range chunk.Split() {
		if _, err := w.conn.Enqueue(ctx, single); err != nil {
			w.conn.log.Warn().Err(err).Str("task", single.Task()).Msg("split a task")
			w.giveBack(ctx)
			return
		}
	}
	if w.finish(ctx, "split") {
		record.clear(ctx)
	}
}

// bury moves a task to the dead letters and reports whether it is there.
func (w *work) bury(ctx context.Context, meta *jetstream.MsgMetadata, chunk *event.Chunk, attempts []fleet.Attempt, reason string) bool {
	return w.write(ctx, w.letter(meta, chunk, w.msg.Data(), attempts, reason), "") && w.finish(ctx, "bury")
}

// giveUp moves the prompts that a handler found unplayable to the dead letters, one letter each. The others of the task are done.
func (w *work) giveUp(ctx context.Context, meta *jetstream.MsgMetadata, chunk *event.Chunk, attempts []fleet.Attempt, u *Unplayable) bool {
	attempts = append(attempts[:len(attempts):len(attempts)], fleet.Attempt{Instance: w.cfg.Instance, TakenAt: time.Now().UTC(), Error: u.Reason})
	for _, single := range chunk.Split() {
		prompt := single.GetPrompts()[0].GetPromptId()
		if !slices.Contains(u.Prompts, prompt) {
			continue
		}
		payload, err := event.Marshal(single)
		if err != nil {
			payload = nil
		}
		if !w.write(ctx, w.letter(meta, single, payload, attempts, u.Reason), "/"+prompt) {
			return false
		}
	}
	return w.finish(ctx, "bury")
}

// write appends a letter, once for each task and part, and reports whether it is there; if not, the task comes again.
func (w *work) write(ctx context.Context, letter *event.DeadLetter, part string) bool {
	ctx, cancel := settle(ctx)
	defer cancel()
	w.conn.log.Error().Str("run", letter.GetRunId()).Uint32("iteration", letter.GetIteration()).Str("prompt", letter.GetPromptId()).Str("reason", letter.GetReason()).Msg("dead letter")
	if err := w.conn.Append(ctx, letter, fmt.Sprintf("%s/%d%s", event.Prompts, letter.GetStreamSeq(), part)); err != nil {
		w.conn.log.Error().Err(err).Msg("write a dead letter")
		w.giveBack(ctx)
		return false
	}
	return true
}

// letter says of a task, nil where nobody could read it, why it is given up.
func (w *work) letter(meta *jetstream.MsgMetadata, chunk *event.Chunk, payload []byte, attempts []fleet.Attempt, reason string) *event.DeadLetter {
	letter := &event.DeadLetter{
		RunId: w.msg.Headers().Get(runHeader), Stream: event.Prompts, StreamSeq: meta.Sequence.Stream, SourceSubject: w.msg.Subject(),
		Schema: w.msg.Headers().Get(schemaHeader), Payload: payload, Reason: reason,
		Circumstance: &event.Circumstance{Instance: w.cfg.Instance, CreatedAt: timestamppb.Now()},
	}
	if run, _, _, ok := event.ParseSubject(w.msg.Subject()); ok {
		letter.RunId = run
	}
	if chunk != nil {
		letter.RunId, letter.Iteration = chunk.GetRunId(), chunk.GetIteration()
		if len(chunk.GetPrompts()) == 1 {
			letter.PromptId = chunk.GetPrompts()[0].GetPromptId()
		}
	}
	for _, a := range attempts {
		letter.Attempts = append(letter.Attempts, &event.Attempt{Instance: a.Instance, Error: a.Error, TakenAt: timestamppb.New(a.TakenAt)})
	}
	return fit(letter)
}

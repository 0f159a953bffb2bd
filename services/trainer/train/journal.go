package train

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// journal is the way of a run's steps, pairs and alarms to the broker: in order, one after the other,
// behind training's back. What the broker can't take, because a stream is full or the broker away, waits
// here, in memory and then in a file, and training goes on. No step is dropped: where the file may grow
// no more, training waits.
//
// The file is this process's own. What a trainer that dies has not published, its successor finds in the
// save that it resumes from, or trains again.
type journal struct {
	publish func(context.Context, event.Message) error // until the message is in its stream
	fail    func(error)                                // ends training: the run is somebody else's
	log     zerolog.Logger
	path    string
	depth   depth // of all journals of this process
	most    int64 // bytes of the file

	mu      sync.Mutex
	memory  [][]byte // the oldest, encoded
	bytes   int      // of them
	file    *os.File // what came after those; nil: nothing
	read    int64    // where its oldest begins
	end     int64
	waiting int                         // messages, those in memory and those in the file
	spans   map[string]telemetry.Origin // of the steps that wait, by subject: nothing that a restart needs
	told    bool                        // that the file is full
	failed  error
	moved   chan struct{}

	stop func()
}

// depth is a gauge of messages.
type depth interface {
	Inc()
	Dec()
	Sub(float64)
}

const (
	journalMemory = 4 << 20 // that wait in memory: some hundred steps
	journalRetry  = time.Second
	settleWithin  = 2 * time.Second // that a stage's end waits for its steps to be published
)

// openJournal starts publishing. close it.
func openJournal(ctx context.Context, path string, most int64, depth depth, publish func(context.Context, event.Message) error, fail func(error), log zerolog.Logger) (*journal, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	j := &journal{publish: publish, fail: fail, log: log, path: path, most: most, depth: depth, spans: map[string]telemetry.Origin{}, moved: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // what a run ends with is still to be published
	done := make(chan struct{})
	go func() {
		defer close(done)
		j.work(ctx)
	}()
	j.stop = func() { cancel(); <-done }
	return j, nil
}

// close stops publishing and forgets what was not.
func (j *journal) close() {
	j.stop()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.drop()
	j.depth.Sub(float64(j.waiting))
}

// add takes a message. It waits only where the file is full.
func (j *journal) add(ctx context.Context, m event.Message) error {
	entry, err := encodeEntry(m)
	if err != nil {
		return err
	}
	for {
		j.mu.Lock()
		err := j.keep(entry)
		if span := telemetry.OriginOf(ctx); err == nil && span.IsValid() {
			j.spans[m.Subject()] = span
		}
		moved, told := j.moved, j.told
		j.told = err != nil
		j.mu.Unlock()
		if err == nil {
			return nil
		}
		if !told {
			j.log.Error().Err(err).Str("file", j.path).Int("messages", j.pending()).
				Msg("the journal of steps that the broker does not take is full: training waits; make room there or in the broker's streams")
		}
		select {
		case <-moved:
		case <-time.After(journalRetry): // somebody may have made room on the disk
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// keep appends an entry, in memory while nothing is in the file. The caller holds j.mu.
func (j *journal) keep(entry []byte) error {
	if j.file == nil && (j.bytes+len(entry) <= journalMemory || len(j.memory) == 0) {
		j.memory, j.bytes = append(j.memory, entry), j.bytes+len(entry)
	} else {
		if err := j.spill(entry); err != nil {
			return err
		}
	}
	j.waiting++
	j.depth.Inc()
	j.wake()
	return nil
}

// spill appends an entry to the file, whole or not at all.
func (j *journal) spill(entry []byte) error {
	if j.end+int64(len(entry)) > j.most {
		return fmt.Errorf("it may have %s", size(j.most))
	}
	if j.file == nil {
		f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		j.file, j.read, j.end = f, 0, 0
		j.log.Warn().Str("file", j.path).Msg("the broker takes no steps: they wait in the journal, training goes on")
	}
	if _, err := j.file.WriteAt(entry, j.end); err != nil {
		return err // what was written of it lies behind the end
	}
	j.end += int64(len(entry))
	return nil
}

// work publishes the oldest entry again and again.
func (j *journal) work(ctx context.Context) {
	for {
		j.mu.Lock()
		entry, err := j.oldest()
		moved := j.moved
		j.mu.Unlock()
		if err == nil && entry == nil {
			select {
			case <-moved:
				continue
			case <-ctx.Done():
				return
			}
		}
		var m event.Message
		if err == nil {
			m, err = decodeEntry(entry)
		}
		if err == nil {
			err = j.send(j.traced(ctx, m), m)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			j.mu.Lock()
			j.failed = err
			j.wake()
			j.mu.Unlock()
			j.fail(err)
			return
		}
		j.mu.Lock()
		j.forget(len(entry))
		j.mu.Unlock()
	}
}

// traced is ctx in the span of the step that m is of.
func (j *journal) traced(ctx context.Context, m event.Message) context.Context {
	j.mu.Lock()
	defer j.mu.Unlock()
	span, ok := j.spans[m.Subject()]
	if !ok {
		return ctx
	}
	delete(j.spans, m.Subject())
	return span.Within(ctx)
}

// send publishes a message, waiting for room in its stream.
func (j *journal) send(ctx context.Context, m event.Message) error {
	for told := false; ; told = true {
		err := j.publish(ctx, m)
		if !errors.Is(err, bus.ErrFull) {
			return err
		}
		if !told {
			j.log.Warn().Err(err).Msg("a stream is full: steps wait in the journal, training goes on")
		}
		select {
		case <-time.After(journalRetry):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// oldest is the entry to publish next; nil: there is none. The caller holds j.mu.
func (j *journal) oldest() ([]byte, error) {
	if len(j.memory) > 0 {
		return j.memory[0], nil
	}
	if j.file == nil {
		return nil, nil
	}
	r := bufio.NewReader(io.NewSectionReader(j.file, j.read, j.end-j.read))
	return readEntry(r)
}

// forget removes the oldest entry, of n bytes.
func (j *journal) forget(n int) {
	if len(j.memory) > 0 {
		j.memory, j.bytes = j.memory[1:], j.bytes-n
	} else if j.read += int64(n); j.read == j.end {
		j.drop()
		j.log.Info().Msg("the journal is empty: every step is published")
	}
	j.waiting--
	j.depth.Dec()
	j.wake()
}

// drop removes the file.
func (j *journal) drop() {
	if j.file != nil {
		j.file.Close()
		os.Remove(j.path)
		j.file, j.read, j.end = nil, 0, 0
	}
}

func (j *journal) wake() {
	close(j.moved)
	j.moved = make(chan struct{})
}

// pending counts the messages that are not published.
func (j *journal) pending() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.waiting
}

// flush waits until everything is published.
func (j *journal) flush(ctx context.Context) error {
	for {
		j.mu.Lock()
		left, moved, failed := j.waiting, j.moved, j.failed
		j.mu.Unlock()
		if left == 0 || failed != nil {
			return failed
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// flushWithin is flush that gives up: steps may be published later.
func (j *journal) flushWithin(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	_ = j.flush(ctx)
}

// copyTo writes what is not published, and returns how many messages that was.
func (j *journal) copyTo(w io.Writer) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, entry := range j.memory {
		if _, err := w.Write(entry); err != nil {
			return 0, err
		}
	}
	if j.file != nil {
		if _, err := io.Copy(w, io.NewSectionReader(j.file, j.read, j.end-j.read)); err != nil {
			return 0, err
		}
	}
	return j.waiting, nil
}

// An entry is the message's schema and bytes, each behind its length in 4 bytes.
func encodeEntry(m event.Message) ([]byte, error) {
	data, err := event.Marshal(m)
	if err != nil {
		return nil, err
	}
	schema := event.Schema(m)
	entry := binary.LittleEndian.AppendUint32(nil, uint32(len(schema)))
	entry = append(entry, schema...)
	entry = binary.LittleEndian.AppendUint32(entry, uint32(len(data)))
	return append(entry, data...), nil
}

var errEntry = errors.New("not a journal's entry")

// readEntry reads one entry; io.EOF at a clean end.
func readEntry(r io.Reader) ([]byte, error) {
	var entry []byte
	for _, most := range []uint32{256, event.MaxBytes} {
		var length [4]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			if len(entry) > 0 {
				err = errors.Join(errEntry, err)
			}
			return nil, err
		}
		n := binary.LittleEndian.Uint32(length[:])
		if n > most {
			return nil, fmt.Errorf("a part of %d bytes: %w", n, errEntry)
		}
		entry = append(entry, length[:]...)
		from := len(entry)
		entry = append(entry, make([]byte, n)...)
		if _, err := io.ReadFull(r, entry[from:]); err != nil {
			return nil, errors.Join(errEntry, err)
		}
	}
	return entry, nil
}

// decodeEntry returns the entry's message.
func decodeEntry(entry []byte) (event.Message, error) {
	if len(entry) < 8 {
		return nil, errEntry
	}
	n := int(binary.LittleEndian.Uint32(entry))
	if n > len(entry)-8 {
		return nil, errEntry
	}
	return event.Unmarshal(string(entry[4:4+n]), entry[8+n:])
}

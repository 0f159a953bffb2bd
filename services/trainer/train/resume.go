package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/safetensors"
)

// resume sets the learner to the save of this stage, where there is one, and returns where it stands. A
// save that cannot be read costs time and nothing else: the stage begins again, with the same bits.
func (l *lead) resume(ctx context.Context, t *turn, learner *Learner, h *health) (cursor, error) {
	began, start := time.Now(), cursor{Epoch: 1}
	s := l.saver.now
	at := start
	if s.of(t) {
		state, err := l.openSave(ctx, s, learner)
		if err != nil {
			if ctx.Err() != nil {
				return start, context.Cause(ctx)
			}
			l.log.Error().Err(err).Str("run", l.run.ID).Msgf("the save at step %d of %s %d cannot be read: the stage begins again", s.Step, t.Stage, t.Number)
		} else {
			err = learner.Resume(s.Optimizer, state.ReadF32)
			if err = errors.Join(err, state.Close()); err != nil {
				return start, fmt.Errorf("resume at step %d: %w", s.Step, err)
			}
			at = s.cursor
			if h != nil {
				h.restore(s.Health)
			}
		}
	}
	l.replay = replay{since: time.Now(), from: at.Step, to: l.published(ctx, t)}
	if at.Step > 0 || t.Attempt > 1 {
		l.log.Info().Str("run", l.run.ID).Str("stage", string(t.Stage)).Int("iteration", t.Number).Int("step", at.Step).Int("published", l.replay.to).
			Dur("load_ms", time.Since(began)).Msg("resumed")
	}
	return at, nil
}

// openSave fetches a save's files, whose digests are checked, and sees that they are this learner's.
func (l *lead) openSave(ctx context.Context, s saved, learner *Learner) (*safetensors.Model, error) {
	dir := l.scratch(l.run.ID, "resume")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // mapped files stay until they are closed
	paths := make([]string, len(s.Files))
	for i, f := range s.Files {
		paths[i] = filepath.Join(dir, fmt.Sprintf("state-%05d.safetensors", i+1))
		if err := l.blobs.Fetch(ctx, f.SHA256, paths[i]); err != nil {
			return nil, err
		}
	}
	m, err := safetensors.OpenFiles(paths...)
	if err != nil {
		return nil, err
	}
	for _, want := range learner.State() {
		got, ok := m.Tensor(want.Name)
		if !ok || !slices.Equal(got.Shape, want.Shape) {
			return nil, errors.Join(fmt.Errorf("%s has shape %v, want %v", want.Name, got.Shape, want.Shape), m.Close())
		}
	}
	return m, nil
}

// published is the last step of a stage that is in the stream; 0: none.
func (l *lead) published(ctx context.Context, t *turn) int {
	newest, _, err := l.bus.Newest(ctx, &event.Step{RunId: l.run.ID}, event.Filter(l.run.ID, event.Steps))
	m, ok := newest.(*event.Step)
	if err != nil || !ok || m.GetPhase().Token() != string(t.Stage) || m.GetIteration() != uint32(t.Number) {
		return 0
	}
	return int(m.GetStep())
}

// replay is what a trainer does again that its predecessor had done.
type replay struct {
	since    time.Time
	from, to int // steps
}

// passed logs when training is where the predecessor was.
func (r *replay) passed(l *lead, step int) {
	if r.to > r.from && step == r.to {
		l.log.Info().Str("run", l.run.ID).Int("steps", r.to-r.from).Dur("replay_ms", time.Since(r.since)).Msg("replayed")
	}
}

// replayJournal takes over the steps that a predecessor had no room for in the broker.
func (l *lead) replayJournal(ctx context.Context) error {
	for _, f := range l.saver.now.Journal {
		r, err := l.blobs.Get(ctx, f.SHA256)
		if err != nil {
			return fmt.Errorf("steps that were never published: %w", err)
		}
		all, err := io.ReadAll(io.LimitReader(r, f.Size+1)) // the reader checks the digest
		if err = errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("steps that were never published: %w", err)
		}
		for b := bytes.NewReader(all); ; {
			entry, err := readEntry(b)
			if errors.Is(err, io.EOF) && !errors.Is(err, errEntry) {
				break
			}
			if err != nil {
				return fmt.Errorf("steps that were never published: %w", err)
			}
			m, err := decodeEntry(entry)
			if err != nil {
				return fmt.Errorf("steps that were never published: %w", err)
			}
			if err := l.journal.add(ctx, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// stream is the log of a run's messages of one kind, of which the leader is the only writer.
type stream struct {
	filter string
	last   uint64 // the newest message that we know
}

func (l *lead) openStream(ctx context.Context, kind string, m event.Message) (*stream, error) {
	s := &stream{filter: event.Filter(m.GetRunId(), kind)}
	var err error
	_, s.last, err = l.bus.Newest(ctx, m, s.filter)
	if err != nil && !errors.Is(err, bus.ErrNotFound) && !errors.Is(err, event.ErrInvalid) {
		return nil, err
	}
	return s, nil
}

// publishNext publishes a message behind those that are there, and returns its sequence. What a
// predecessor has published of the same content counts as published. ErrFenced or ErrConflict: somebody
// else leads the run.
func (l *lead) publishNext(ctx context.Context, s *stream, m event.Message) (uint64, error) {
	for {
		old, seq, err := l.bus.Last(ctx, m)
		switch {
		case err == nil && event.SameContent(old, m):
			return seq, nil
		case err != nil && !errors.Is(err, bus.ErrNotFound) && !errors.Is(err, event.ErrInvalid):
			return 0, err
		}
		seq, err = l.bus.PublishAfter(ctx, m, s.filter, s.last)
		if err == nil {
			s.last = seq
			return seq, nil
		}
		if !errors.Is(err, bus.ErrFenced) {
			return 0, err
		}
		// Somebody has written: the one who led before us, late, or the one who leads after us.
		if err := l.confirm(ctx); err != nil {
			return 0, err
		}
		now, err := l.openStream(ctx, kindOf(m), m)
		if err != nil {
			return 0, err
		}
		*s = *now
	}
}

func kindOf(m event.Message) string {
	switch m.(type) {
	case *event.Step:
		return event.Steps
	case *event.PairTraces:
		return event.Pairs
	}
	return event.Checkpoints
}

// confirm writes the run's state as it is: ErrConflict where somebody else has written it since.
func (l *lead) confirm(ctx context.Context) error {
	l.stating.Lock()
	defer l.stating.Unlock()
	revision, err := l.state.Swap(ctx, run.Key(l.run.ID), l.run, l.revision)
	if err == nil {
		l.revision = revision
	}
	return err
}

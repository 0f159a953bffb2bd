package train

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/safetensors"
)

// cursor is where training stands, between two steps of a stage.
type cursor struct {
	Epoch  int `json:"epoch"`  // 1 for the first
	Batch  int `json:"batch"`  // of the epoch, the next one, those of holes counted
	Step   int `json:"step"`   // steps taken
	Tokens int `json:"tokens"` // trained on
}

// saved is the value of save.<run>: all that a trainer needs to go on in the middle of a stage with the
// same bits. Its files are named before they are in the blob store and until they have left it, so that
// none stays there for nothing whenever a trainer is killed; those of a save go when the next one stands.
type saved struct {
	Trainer   string    `json:"trainer"` // who leads: taking over is to write this, and fences off who led
	Stage     run.Stage `json:"stage,omitempty"`
	Iteration int       `json:"iteration"`
	Opponent  string    `json:"opponent_sha256,omitempty"` // weights that the stage started from
	cursor
	Optimizer int         `json:"optimizer_steps"`
	Health    healthState `json:"health"`
	Files     []savedFile `json:"files,omitempty"`   // Learner.State as safetensors; none: nothing to go on from
	Journal   []savedFile `json:"journal,omitempty"` // steps up to the cursor that the broker had not taken
	Writing   []savedFile `json:"writing,omitempty"` // of the next save, on their way into the store
	Dropped   []savedFile `json:"dropped,omitempty"` // of earlier saves: whoever wrote this deletes them, or its successor
	At        time.Time   `json:"at"`
}

type savedFile struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// saveKey of the run in the control bucket.
func saveKey(run string) string { return "save." + run }

// of reports whether the save is one of a turn.
func (s saved) of(t *turn) bool {
	return len(s.Files) > 0 && s.Stage == t.Stage && s.Iteration == t.Number && s.Opponent == t.Opponent
}

// live are the files that must be in the store.
func (s saved) live() []savedFile { return slices.Concat(s.Files, s.Journal, s.Writing) }

// all are the files that may be in the store.
func (s saved) all() []savedFile { return append(s.live(), s.Dropped...) }

// How often to save where the run does not say.
const (
	saveShare   = 50 // the time between two saves is so many times what one costs training,
	saveSeldom  = time.Minute
	saveRetry   = time.Minute      // after a save that the disk had no room for
	leaveWithin = 20 * time.Second // a trainer that is told to go saves first
)

// saver writes a run's saves. Training is held up while the state is copied into files; hashing,
// flushing and storing them goes on beside the next steps.
type saver struct {
	lead     *lead
	run      string // its id
	state    bus.State[saved]
	revision uint64
	now      saved // as it stands in the bucket

	busy  chan error // of the save under way; nil: none is
	drop  context.CancelFunc
	next  time.Time // when one is due by time
	spent time.Duration
}

// openSaver takes over the run's save.
func (l *lead) openSaver(ctx context.Context) (*saver, error) {
	s := &saver{lead: l, run: l.run.ID, state: bus.State[saved]{Bucket: l.bus.Control()}, next: time.Now().Add(saveSeldom)}
	var err error
	s.now, s.revision, err = s.state.Load(ctx, saveKey(l.run.ID))
	missing := errors.Is(err, bus.ErrNotFound)
	if err != nil && !missing {
		return nil, err
	}
	mine := s.now
	mine.Trainer, mine.Writing = l.instance, nil
	if missing {
		s.revision, err = s.state.Create(ctx, saveKey(l.run.ID), mine)
		s.now = mine
		return s, err
	}
	return s, s.swap(ctx, mine)
}

// swap replaces the record, and deletes the files that only the old one named.
func (s *saver) swap(ctx context.Context, next saved) error {
	next.Dropped = nil
	live := next.live()
	for _, f := range s.now.all() {
		if !slices.Contains(live, f) {
			next.Dropped = append(next.Dropped, f)
		}
	}
	revision, err := s.state.Swap(ctx, saveKey(s.run), next, s.revision)
	if err != nil {
		return err
	}
	s.now, s.revision = next, revision
	left := s.now.Dropped[:0]
	for _, f := range next.Dropped {
		if err := s.lead.blobs.Delete(ctx, f.SHA256); err != nil { // the next swap tries again
			s.lead.log.Warn().Err(err).Msg("delete an old save")
			left = append(left, f)
		}
	}
	s.now.Dropped = left
	return nil
}

// saveIfDue saves after a step, where it is time to.
func (s *saver) saveIfDue(ctx context.Context, t *turn, learner *Learner, at cursor, h *health) error {
	every := s.lead.run.Spec.CheckpointEvery
	if s.busy != nil {
		select {
		case err := <-s.busy:
			s.busy = nil
			if err := s.ended(err); err != nil {
				return err
			}
		default:
			if every == 0 {
				return nil // its disk or its store is slow: not more often than they can
			}
		}
	}
	if every > 0 && at.Step%every != 0 || every == 0 && time.Now().Before(s.next) {
		return nil
	}
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.start(ctx, t, learner, at, h)
}

// start copies the state into files and has them stored in the background. A full disk is said, and
// tried again: training can do without.
func (s *saver) start(ctx context.Context, t *turn, learner *Learner, at cursor, h *health) error {
	began := time.Now()
	next := saved{
		Trainer: s.lead.instance, Stage: t.Stage, Iteration: t.Number, Opponent: t.Opponent, cursor: at,
		Optimizer: learner.Steps(), Health: h.state(), At: began.UTC(),
	}
	dir := s.lead.scratch(s.run, "save")
	files, err := s.copyOut(dir, learner, at)
	if err != nil {
		return s.ended(errors.Join(err, os.RemoveAll(dir)))
	}
	took := time.Since(began)
	s.spent += took
	s.lead.cfg.Metrics.SaveStall.Add(took.Seconds())
	s.next = time.Now().Add(max(saveSeldom, saveShare*took))
	s.busy = make(chan error, 1)
	ctx, s.drop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		err := errors.Join(s.store(ctx, next, files), os.RemoveAll(dir))
		if err == nil {
			s.lead.cfg.Metrics.SaveSeconds.Observe(time.Since(began).Seconds())
			var bytes int64
			for _, f := range s.now.Files {
				bytes += f.Size
			}
			s.lead.log.Info().Str("run", s.run).Str("stage", string(next.Stage)).Int("iteration", next.Iteration).Int("step", next.Step).
				Int64("bytes", bytes).Dur("held_up_ms", took).Dur("took_ms", time.Since(began)).Msg("saved")
		}
		s.busy <- err
	}()
	return nil
}

// copyOut writes the learner's state and the journal below dir and returns the files' paths, the
// journal's last; empty where there is none. Nothing is flushed to the disk yet.
func (s *saver) copyOut(dir string, learner *Learner, at cursor) ([]string, error) {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, err
	}
	var paths []string
	metadata := map[string]string{"run": s.run, "step": fmt.Sprint(at.Step)} // no other run has this blob
	for i, shard := range shards(learner.State()) {
		path := filepath.Join(dir, fmt.Sprintf("state-%05d.safetensors", i+1))
		err := writeFile(path, func(w io.Writer) error { return safetensors.Encode(w, shard, metadata, learner.ReadState) })
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return s.copyJournal(dir, paths)
}

func (s *saver) copyJournal(dir string, paths []string) ([]string, error) {
	path, pending := filepath.Join(dir, "journal"), 0
	err := writeFile(path, func(w io.Writer) (err error) {
		pending, err = s.lead.journal.copyTo(w)
		return err
	})
	if pending == 0 {
		path = ""
	}
	return append(paths, path), err
}

// shards cuts tensors into files of at most a gigabyte, handy to transfer.
func shards(tensors []safetensors.Tensor) [][]safetensors.Tensor {
	var out [][]safetensors.Tensor
	bytes := 0
	for _, t := range tensors {
		n := 4 * t.Len()
		if len(out) == 0 || bytes+n > safetensors.DefaultShard {
			out, bytes = append(out, nil), 0
		}
		out[len(out)-1], bytes = append(out[len(out)-1], t), bytes+n
	}
	return out
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err = write(w); err == nil {
		err = w.Flush()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// store names the files, puts them into the blob store, and makes the record say so.
func (s *saver) store(ctx context.Context, next saved, paths []string) error {
	for i, path := range paths {
		if path == "" {
			continue
		}
		f, err := digest(path)
		if err != nil {
			return err
		}
		if i == len(paths)-1 {
			next.Journal = append(next.Journal, f)
		} else {
			next.Files = append(next.Files, f)
		}
	}
	writing := s.now
	writing.Writing = slices.Concat(next.Files, next.Journal)
	if err := s.swap(ctx, writing); err != nil {
		return err
	}
	fault.Point(fault.TrainerSaving)
	for _, path := range paths {
		if path == "" {
			continue
		}
		if _, err := s.lead.blobs.PutFile(ctx, path); err != nil {
			return err
		}
	}
	fault.Point(fault.TrainerPut)
	if err := s.swap(ctx, next); err != nil {
		return err
	}
	fault.Point(fault.TrainerSaved)
	return nil
}

func digest(path string) (savedFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return savedFile{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return savedFile{hex.EncodeToString(h.Sum(nil)), n}, err
}

// wait ends with the save under way.
func (s *saver) wait(ctx context.Context) error {
	if s.busy == nil {
		return nil
	}
	select {
	case err := <-s.busy:
		s.busy = nil
		return s.ended(err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close drops the save under way. Nothing is stored any more when it returns: whoever leads next deletes
// what the record names, and must not do so before it is there.
func (s *saver) close() {
	if s.busy == nil {
		return
	}
	s.drop()
	if err := <-s.busy; err != nil {
		s.lead.log.Warn().Err(err).Str("run", s.run).Msg("left in the middle of a save: the run goes on from the one before")
	}
	s.busy = nil
}

// ended looks at how a save went. Only that the run is somebody else's ends training.
func (s *saver) ended(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bus.ErrConflict):
		return err
	}
	s.lead.cfg.Metrics.SaveErrors.Inc()
	switch {
	case noRoom(err):
		s.lead.log.Error().Err(err).Str("run", s.run).Msgf("no room for a save: training goes on and tries again in %v; make room in %s", saveRetry, s.lead.cfg.Scratch)
	default:
		s.lead.log.Error().Err(err).Str("run", s.run).Msgf("save not written: training goes on and tries again in %v", saveRetry)
	}
	s.next = time.Now().Add(saveRetry)
	return nil
}

// noRoom reports whether a disk, a quota or a file's bound is what failed.
func noRoom(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

// leave saves where training stands, before the trainer goes or the run is paused.
func (s *saver) leave(ctx context.Context, t *turn, learner *Learner, at cursor, h *health) {
	if cause := context.Cause(ctx); cause == nil || errors.Is(cause, bus.ErrLeaseLost) || errors.Is(cause, bus.ErrFenced) || errors.Is(cause, bus.ErrConflict) {
		return // nothing calls, or the run is somebody else's
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer cancel()
	s.lead.journal.flushWithin(ctx, settleWithin)
	err := s.wait(ctx)
	if err == nil && at.Step > 0 && !(s.now.of(t) && s.now.Step == at.Step) {
		if err = s.start(ctx, t, learner, at, h); err == nil {
			err = s.wait(ctx)
		}
	}
	if err != nil {
		s.lead.log.Error().Err(err).Str("run", s.run).Msg("left without a save: the run goes on from the one before")
	}
}

// secure keeps steps that the broker has not taken, before the stage is marked as one that nobody takes
// again.
func (s *saver) secure(ctx context.Context) error {
	if err := s.wait(ctx); err != nil || s.lead.journal.pending() == 0 {
		return err
	}
	next := s.now
	next.Journal, next.Writing = nil, nil
	return s.keepJournal(ctx, next)
}

// finish drops the save of a stage that is over, but for steps that are still to be published.
func (s *saver) finish(ctx context.Context) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	next := saved{Trainer: s.lead.instance, At: time.Now().UTC()}
	if s.lead.journal.pending() > 0 {
		return s.keepJournal(ctx, next)
	}
	return s.swap(ctx, next)
}

// keepJournal writes a save that holds nothing but the journal.
func (s *saver) keepJournal(ctx context.Context, next saved) error {
	dir := s.lead.scratch(s.run, "save")
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	paths, err := s.copyJournal(dir, nil)
	if err != nil {
		return err
	}
	return s.store(ctx, next, paths)
}

// remove drops the record and what it names: the run is over.
func (s *saver) remove(ctx context.Context) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	if err := s.swap(ctx, saved{Trainer: s.lead.instance}); err != nil {
		return err
	}
	if len(s.now.Dropped) > 0 { // the record names what could not be deleted: `spin rm` does it
		return nil
	}
	return s.state.Bucket.Delete(ctx, saveKey(s.run), s.revision)
}

// DropSave removes what a run that will not go on has saved in the middle of a stage.
func DropSave(ctx context.Context, conn *bus.Conn, blobs *blob.Store, id string) error {
	state := bus.State[saved]{Bucket: conn.Control()}
	now, revision, err := state.Load(ctx, saveKey(id))
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if blobs != nil {
		for _, f := range now.all() {
			if err := blobs.Delete(ctx, f.SHA256); err != nil {
				return err
			}
		}
	}
	return state.Bucket.Delete(ctx, saveKey(id), revision)
}

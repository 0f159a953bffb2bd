package train

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// waitTheta0 returns when the run's θ_0 is published.
func (f *cluster) waitTheta0(t *testing.T, id string) {
	t.Helper()
	there := errors.New("there")
	err := f.conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Checkpoints, Filters: []string{event.Filter(id, event.Checkpoints)}, Follow: true}, func(d bus.Delivery) error {
		if m, ok := d.Message.(*event.Checkpoint); ok && m.GetPhase() == event.Phase_PHASE_SFT {
			return there
		}
		return nil
	})
	if !errors.Is(err, there) {
		t.Fatal(err)
	}
}

// A disk that is full costs a save, which is said, and holds up a checkpoint; the run goes on by itself
// when there is room. The disk is a small tmpfs.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	defer unix.Unmount(dir, 0)
	f := newCluster(t, dir, quickLimits())
	spec := stagedSpec(t)
	spec.Control, spec.Iterations, spec.CheckpointEvery = "none", 1, 1
	id := f.submit(t, spec)
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	must(t, err)
	w := f.newWorker(t, "trainer")
	l := f.lead(t, w, id)
	f.waitTheta0(t, id) // it is fine-tuned, and waits for games that nobody plays yet
	for err == nil {
		_, err = ballast.Write(make([]byte, 64<<10))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	f.generator(t, func(*event.Prompt) bool { return false })
	for len(w.log.lines("no room for a save")) == 0 || len(w.log.lines("no room for a checkpoint")) == 0 {
		select {
		case err := <-l.done:
			t.Fatalf("the run ended with %v, and said %v", err, w.log.lines("no room"))
		case <-time.After(10 * time.Millisecond): // between two looks
		}
	}
	must(t, ballast.Close())
	must(t, os.Remove(ballast.Name()))
	must(t, <-l.done)
	if r, _ := f.load(t, id); r.Status != run.Finished {
		t.Errorf("the run is %s: %s", r.Status, r.Reason)
	}
	f.clean(t, id)
	left, err := filepath.Glob(filepath.Join(dir, "scratch", "*", "*", "*"))
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left in scratch: %v", left)
	}
	calm := f.submit(t, spec)
	must(t, f.newWorker(t, "calm").Lead(t.Context(), calm))
	if diff := unequal(f.result(t, id), f.result(t, calm)); len(diff) > 0 {
		t.Errorf("these differ from the undisturbed run: %v", diff)
	}
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// A stop rule ends a run after its first iteration: everybody knows, the control is played and all of it
// is measured. A run whose services stop just before the verdict, and again while scores come, ends with
// the same rows. A rule that sees no reason lets a run play to its end, and says so each time.
func TestStopRule(t *testing.T) {
	archive := storetest.Open(t)
	spec := newSpec(t, dataset(t))
	spec.StopWhen, spec.SPIN.LR = run.StopWhen{NoGain: true}, run.Each(0.05) // far too much: training does harm
	stopped := func(what string, s *services, id string) []store.TableDigest {
		t.Helper()
		r, _, err := bus.State[run.Run]{Bucket: s.admin.Control()}.Load(s.ctx, run.Key(id))
		if err != nil {
			t.Fatal(err)
		}
		if r.Stop == nil || r.Plays() != 1 || r.Status != run.Finished || r.Reason != r.Stop.Reason {
			t.Fatalf("%s: the run is %s after %d iterations: %q", what, r.Status, r.Plays(), r.Reason)
		}
		of := " WHERE run_id = '" + id + "'"
		for sql, want := range map[string]string{
			"SELECT played, stop_reason, error FROM runs FINAL" + of:                                        fmt.Sprint("1\t", r.Stop.Reason, "\t"),
			"SELECT count(), min(state) FROM iterations FINAL" + of:                                         "1\tdone",
			"SELECT uniqExact(id), any(level), any(iteration) FROM events" + of + " AND kind = 'stop_rule'": "1\tinfo\t0",
			"SELECT groupUniqArray(iteration) FROM games" + of:                                              "[0]",
			"SELECT count() FROM checkpoints FINAL" + of:                                                    "4", // as given, θ_0, θ_1, control
			"SELECT countIf(metric = 'nll'), countIf(metric = 'near_copy') FROM scores FINAL" + of:          "4\t1",
			"SELECT phase IN ('sft', 'spin'), nll = (SELECT min(value) FROM scores FINAL" + of + " AND metric = 'nll' AND phase IN ('sft', 'spin')), length(files) > 3 FROM best_checkpoint" + of: "1\t1\t1",
		} {
			if got := strings.Join(ask(t, archive, sql), "\t"); got != want {
				t.Errorf("%s: %s\n got %q\nwant %q", what, sql, got, want)
			}
		}
		tables, err := archive.TableDigests(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return tables
	}
	s := newPlane(t, archive).start(oneGenerator(2))
	id := s.submit(spec)
	if err := s.trainer.Lead(s.ctx, id); err != nil {
		t.Fatal(errors.Join(err, context.Cause(s.ctx)))
	}
	s.finish(id)
	want := stopped("undisturbed", s, id)
	s.stop()

	p := newPlane(t, archive)
	id = ""
	for _, at := range []struct {
		stream, kind string
		more         []string
	}{
		{bus.Checkpoints, event.Checkpoints, []string{"1"}}, // published, and no score of it
		{bus.Scores, event.Scores, []string{"1", "spin", "heldout", "accuracy"}},
	} {
		s := p.start(oneGenerator(1))
		if id == "" {
			id = s.submit(spec)
		}
		s.stopAfter(bus.ReadConfig{Stream: at.stream, Filters: []string{event.Filter(id, at.kind, at.more...)}, Follow: true}, 1)
		if err := s.trainer.Lead(s.ctx, id); err != nil && !errors.Is(context.Cause(s.ctx), errStopped) {
			t.Fatal(err)
		}
		s.stop()
	}
	s = p.start(oneGenerator(1))
	if err := s.trainer.Lead(s.ctx, id); err != nil {
		t.Fatal(err)
	}
	s.finish(id)
	for i, got := range stopped("stopped again and again", s, id) {
		if got != want[i] {
			t.Errorf("table %s: %d rows, %.12s; want %d, %.12s", got.Table, got.Rows, got.SHA256, want[i].Rows, want[i].SHA256)
		}
	}
	s.stop()

	idle := spec // a rate that changes no bit: θ_1 is θ_0, and nobody waits for what it could not tell
	idle.SPIN.LR, idle.Control = run.Each(1e-30), "none"
	s = newPlane(t, archive).start(oneGenerator(2))
	id = s.submit(idle)
	if err := s.trainer.Lead(s.ctx, id); err != nil {
		t.Fatal(errors.Join(err, context.Cause(s.ctx)))
	}
	s.finish(id)
	s.stop()
	of := " WHERE run_id = '" + id + "'"
	if row := strings.Join(ask(t, archive, "SELECT any(played), (SELECT uniqExact(weights_sha256) FROM checkpoints FINAL"+of+" AND phase IN ('sft', 'spin')), (SELECT groupArray((metric, value, n > 0)) FROM (SELECT metric, value, n FROM scores FINAL"+of+" AND phase = 'spin' AND metric IN ('nll_gain', 'accuracy') ORDER BY metric)) FROM runs FINAL"+of), "\t"); row != "1\t1\t[('accuracy',0,1),('nll_gain',0,1)]" {
		t.Errorf("a run that changes nothing: %q", row)
	}

	spec.StopWhen, spec.SPIN.LR, spec.Control = run.StopWhen{NoGain: true, AccuracyBelow: 0.55}, run.Each(1e-4), "none"
	got := play(t, archive, spec, oneGenerator(2))
	if row := strings.Join(ask(t, archive, "SELECT any(played), any(stop_reason), (SELECT groupArray(iteration) FROM events FINAL WHERE run_id = '"+got.id+"' AND kind = 'stop_rule') FROM runs FINAL WHERE run_id = '"+got.id+"'"), "\t"); row != "2\t\t[0]" {
		t.Errorf("a run whose rule sees no reason: %q", row)
	}
}

// kill -9 before the trainer waits for scores, and again between the verdict and its event: the run ends as one that
// nobody killed.
func TestStopRuleKilled(t *testing.T) {
	library := storetest.Library(t)
	data, calm, dir := dataset(t), t.TempDir(), t.TempDir()
	c, out := spinRunAt(t, data, calm, library, "0.05")
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := readSummary(t, calm)
	if !strings.Contains(out.String(), "Stopped early, after 1 of 2 iterations") || len(want.Iterations) != 1 {
		t.Fatalf("%d iterations:\n%s", len(want.Iterations), out)
	}
	mortal := filepath.Join(t.TempDir(), "spin")
	build := exec.Command("go", "build", "-tags", "fault", "-o", mortal, "../spin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, point := range []string{fault.TrainerPublished + ":2", fault.TrainerJudged} { // fine-tuning is published first; its verdict is not asked again
		c := exec.Command(mortal, spinRunArgs(data, dir, library, "0.05")...)
		c.Env = append(withoutSpin(os.Environ()), "SPIN_FAULT="+point)
		out, err := c.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("not killed at %s: %v\n%s", point, err, out)
		}
	}
	c, out = spinRunAt(t, data, dir, library, "0.05")
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := readSummary(t, dir)
	if len(got.Iterations) != 1 || got.RowsDigest != want.RowsDigest || got.Iterations[0].WeightsSHA256 != want.Iterations[0].WeightsSHA256 {
		t.Errorf("killed twice: %+v, undisturbed: %+v", got, want)
	}
}

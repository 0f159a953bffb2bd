package evaluate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/ref"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/weights"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seal settles iteration 0 of a run, as its trainer does when all games are there.
func seal(t *testing.T, conn *bus.Conn, id string) {
	t.Helper()
	it := run.NewIteration(id, run.SPINStage, 0)
	it.Dataset = strings.Repeat("cd", 32)
	_, err := bus.State[run.Iteration]{Bucket: conn.Control()}.Create(t.Context(), run.IterationKey(id, run.SPINStage, 0), it)
	must(t, err)
}

// An evaluator that died between a checkpoint's likelihood and the measures of its answers leaves the
// latter to the next one. The games are the weights' own, so that no model is needed.
func TestGoesOn(t *testing.T) {
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()}, zerolog.Nop())
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	conn, err := bus.Init(t.Context(), server.Config("test"), zerolog.Nop())
	must(t, err)
	t.Cleanup(conn.Close)

	spec, err := run.Preset("default")
	must(t, err)
	spec.SFT.Epochs, spec.Data.Heldout, spec.Iterations, spec.Engine.DType = 0, 2, 1, "f32"
	id, err := run.NewID()
	must(t, err)
	r, err := run.NewRun(id, spec, time.Now())
	must(t, err)
	_, err = bus.State[run.Run]{Bucket: conn.Control()}.Create(t.Context(), run.Key(id), r)
	must(t, err)
	digest := strings.Repeat("ab", 32)
	m := &event.Checkpoint{RunId: id, Phase: event.Phase_PHASE_BASE, WeightsSha256: digest, Files: []*event.File{{Name: "x", Sha256: digest}}}
	_, err = conn.PublishExpected(t.Context(), m, 0)
	must(t, err)

	s, err := New(Config{ScoreTokens: 64}, "evaluator-1", conn, map[string]*weights.Cache{"": weights.NewCache(conn, nil, "", ref.New(), compute.F64, 0)}, zerolog.Nop())
	must(t, err)
	idle := func(want bool) {
		t.Helper()
		if got, err := s.Idle(t.Context(), id); err != nil || got != want {
			t.Errorf("idle is %v, %v; want %v", got, err, want)
		}
	}
	idle(false)
	nll := score0(m, taskHeldout, "nll")
	nll.Value = 7 // of the dead evaluator; the first write of a score stays
	_, err = conn.PublishOnce(t.Context(), nll)
	must(t, err)
	idle(false)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for i, prompt := range []string{"a", "b"} { // it waits for the games
		g := &event.Game{
			RunId: id, PromptId: prompt, Index: uint32(i), Split: event.Split_SPLIT_HELDOUT, WeightsSha256: digest, Fingerprint: "x",
			Sampling: &event.Sampling{TopP: 1, MaxNewTokens: 4}, Messages: []*event.ChatMessage{{Role: "user"}}, PromptIds: []uint32{1},
			Real:  &event.Response{TokenIds: []uint32{1}, TokenLogps: []float32{-1}},
			Draws: []*event.Draw{{SampleId: event.SampleID(id, 0, prompt, 0), Response: &event.Response{TokenIds: []uint32{uint32(i + 1)}, TokenLogps: []float32{-1}}}},
		}
		_, err := conn.PublishOnce(t.Context(), g)
		must(t, err)
	}
	seal(t, conn, id)
	scores := map[string]float64{}
	enough := errors.New("enough")
	err = conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Scores, Follow: true}, func(d bus.Delivery) error {
		score := d.Message.(*event.Score)
		if scores[score.GetMetric()] = score.GetValue(); score.GetMetric() == "near_copy" {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	if scores["nll"] != 7 || scores["near_copy"] != 0.5 || scores["length"] != 1 {
		t.Errorf("scores are %v, want nll 7, near_copy 0.5, length 1", scores)
	}
	idle(true)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the evaluator ended with %v", err)
	}
}

// Nobody waits for ever: not for a run that plays no games, and not for weights that cannot be loaded.
func TestIdle(t *testing.T) {
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()}, zerolog.Nop())
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	conn, err := bus.Init(t.Context(), server.Config("test"), zerolog.Nop())
	must(t, err)
	t.Cleanup(conn.Close)
	s, err := New(Config{ScoreTokens: 64}, "evaluator-1", conn, map[string]*weights.Cache{"": weights.NewCache(conn, nil, "", ref.New(), compute.F64, 0)}, zerolog.Nop())
	must(t, err)
	digest := strings.Repeat("ab", 32)
	var m *event.Checkpoint
	for _, c := range []struct {
		iterations int
		want       bool
	}{{0, true}, {1, false}} {
		spec, err := run.Preset("default")
		must(t, err)
		spec.Iterations, spec.Engine.DType = c.iterations, "f32"
		id, err := run.NewID()
		must(t, err)
		r, err := run.NewRun(id, spec, time.Now())
		must(t, err)
		_, err = bus.State[run.Run]{Bucket: conn.Control()}.Create(t.Context(), run.Key(id), r)
		must(t, err)
		m = &event.Checkpoint{RunId: id, Phase: event.Phase_PHASE_BASE, WeightsSha256: digest, Files: []*event.File{{Name: "x", Sha256: digest}}}
		_, err = conn.PublishExpected(t.Context(), m, 0)
		must(t, err)
		if got, err := s.Idle(t.Context(), id); err != nil || got != c.want {
			t.Errorf("%d iterations: idle is %v, %v; want %v", c.iterations, got, err, c.want)
		}
	}
	s.giveUp(m)
	if got, err := s.Idle(t.Context(), m.GetRunId()); err != nil || !got {
		t.Errorf("after the checkpoint was given up: idle is %v, %v", got, err)
	}
}

// Several evaluators share the checkpoints of several runs. One that stands still, here with no held-out
// game played, holds up no other, and no checkpoint is measured twice.
func TestShared(t *testing.T) {
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()}, zerolog.Nop())
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	conn, err := bus.Init(t.Context(), server.Config("test"), zerolog.Nop())
	must(t, err)
	t.Cleanup(conn.Close)
	digest := strings.Repeat("ab", 32)
	var ids []string
	for n := range 5 { // the first one stands still
		spec, err := run.Preset("default")
		must(t, err)
		spec.SFT.Epochs, spec.Data.Heldout, spec.Iterations, spec.Engine.DType = 0, 1, 1, "f32"
		id, err := run.NewID()
		must(t, err)
		r, err := run.NewRun(id, spec, time.Now())
		must(t, err)
		_, err = bus.State[run.Run]{Bucket: conn.Control()}.Create(t.Context(), run.Key(id), r)
		must(t, err)
		m := &event.Checkpoint{RunId: id, Phase: event.Phase_PHASE_BASE, WeightsSha256: digest, Dtype: "f32", Files: []*event.File{{Name: "x", Sha256: digest}}}
		_, err = conn.PublishExpected(t.Context(), m, 0)
		must(t, err)
		ids = append(ids, id)
		if n == 0 {
			continue
		}
		_, err = conn.PublishOnce(t.Context(), &event.Game{
			RunId: id, PromptId: "a", Split: event.Split_SPLIT_HELDOUT, WeightsSha256: digest, Fingerprint: "x",
			Sampling: &event.Sampling{TopP: 1, MaxNewTokens: 4}, Messages: []*event.ChatMessage{{Role: "user"}}, PromptIds: []uint32{1},
			Real:  &event.Response{TokenIds: []uint32{1}, TokenLogps: []float32{-1}},
			Draws: []*event.Draw{{SampleId: event.SampleID(id, 0, "a", 0), Response: &event.Response{TokenIds: []uint32{2}, TokenLogps: []float32{-1}}}},
		})
		must(t, err)
		seal(t, conn, id)
	}
	var all []*Service
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 3)
	for n := range 3 {
		c := map[string]*weights.Cache{"f32": weights.NewCache(conn, nil, "", ref.New(), compute.F64, 0)}
		s, err := New(Config{ScoreTokens: 64}, fmt.Sprintf("evaluator-%d", n), conn, c, zerolog.Nop())
		must(t, err)
		all = append(all, s)
		go func() { done <- s.Run(ctx) }()
	}
	enough, measured, by := errors.New("enough"), map[string]int{}, map[string]map[string]bool{}
	err = conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Scores, Follow: true}, func(d bus.Delivery) error {
		m := d.Message.(*event.Score)
		task := m.GetRunId() + m.GetTask()
		if by[task] == nil {
			by[task] = map[string]bool{}
		}
		by[task][m.GetCircumstance().GetInstance()] = true
		if m.GetMetric() == "near_copy" {
			measured[m.GetRunId()]++
		}
		if len(measured) == len(ids)-1 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	for task, who := range by {
		if len(who) != 1 {
			t.Errorf("%s was measured by %v, want one evaluator", task, who)
		}
	}
	if measured[ids[0]] != 0 {
		t.Error("a run without games was measured")
	}
	for i, id := range ids {
		if idle, err := all[0].Idle(t.Context(), id); err != nil || idle != (i > 0) {
			t.Errorf("run %d: idle is %v, %v", i, idle, err)
		}
	}
	cancel()
	for range all {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("an evaluator ended with %v", err)
		}
	}
}

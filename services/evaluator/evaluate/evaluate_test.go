package evaluate

import (
	"context"
	"errors"
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

	s := New(Config{ScoreTokens: 64}, "evaluator-1", conn, weights.NewCache(conn, nil, "", ref.New(), compute.F64, 0), zerolog.Nop())
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
	s := New(Config{ScoreTokens: 64}, "evaluator-1", conn, weights.NewCache(conn, nil, "", ref.New(), compute.F64, 0), zerolog.Nop())
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

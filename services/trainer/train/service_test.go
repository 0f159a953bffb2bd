package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/checkpoint"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// plane is a broker with a trainer. The games are made up by the tests: training takes any.
type plane struct {
	server  *embedded.Server
	conn    *bus.Conn
	trainer *Service
	runs    bus.State[run.Run]
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()}, zerolog.Nop())
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	cfg := server.Config("test")
	cfg.Limits = bus.DefaultLimits()
	cfg.Limits.AckWait, cfg.Limits.RetryDelay, cfg.Limits.LeaseTTL, cfg.Limits.MaxAttempts = 2*time.Second, 5*time.Millisecond, time.Second, 3
	conn, err := bus.Init(t.Context(), cfg, zerolog.Nop())
	must(t, err)
	t.Cleanup(conn.Close)
	blobs, err := blob.New(t.TempDir())
	must(t, err)
	dev, err := cpu.New(cpu.Config{Threads: 1})
	must(t, err)
	t.Cleanup(func() { must(t, dev.Close()) })
	return &plane{server, conn, New(Config{Scratch: t.TempDir()}, "trainer-1", conn, blobs, dev, zerolog.Nop()), bus.State[run.Run]{Bucket: conn.Control()}}
}

// tinySpec trains on 6 prompts and holds 2 out.
func tinySpec(t *testing.T) run.Spec {
	t.Helper()
	spec, err := run.Preset("default")
	must(t, err)
	spec.Model.Path = "testdata/tiny"
	p, err := pretrained.Open(spec.Model.Path)
	must(t, err)
	defer p.Close()
	spec.Model.SHA256, err = checkpoint.Digest(p)
	must(t, err)
	spec.Data.Path = manyRows(t, 8)
	spec.Data.Prompts, spec.Data.Heldout, spec.Data.MaxPromptTokens = 6, 2, 100
	spec.Iterations, spec.Sampling.MaxNewTokens, spec.SFT.Epochs, spec.SFT.Batch, spec.SPIN.Batch = 1, 12, 0, 3, 4
	spec.Engine.DType, spec.Engine.MicroTokens, spec.Control = "f32", 512, "none"
	must(t, spec.Validate())
	return spec
}

// manyRows is a data set of n prompts.
func manyRows(t *testing.T, n int) string {
	t.Helper()
	var rows strings.Builder
	for i := range n {
		line, err := json.Marshal(map[string]string{"prompt": fmt.Sprintf("What is %d?", i), "response": fmt.Sprintf("It is %d.", i)})
		must(t, err)
		rows.Write(append(line, '\n'))
	}
	path := filepath.Join(t.TempDir(), "answers.jsonl")
	must(t, os.WriteFile(path, []byte(rows.String()), 0o644))
	return path
}

func (p *plane) submit(t *testing.T, spec run.Spec) string {
	t.Helper()
	id, err := run.NewID()
	must(t, err)
	r, err := run.NewRun(id, spec, time.Now())
	must(t, err)
	_, err = p.runs.Create(t.Context(), run.Key(id), r)
	must(t, err)
	return id
}

func (p *plane) load(t *testing.T, id string) (run.Run, uint64) {
	t.Helper()
	r, revision, err := p.runs.Load(t.Context(), run.Key(id))
	must(t, err)
	return r, revision
}

// command is what a person says.
func (p *plane) command(t *testing.T, id string, c run.Command) {
	t.Helper()
	r, revision := p.load(t, id)
	r, err := r.Apply(c, "")
	must(t, err)
	_, err = p.runs.Swap(t.Context(), run.Key(id), r, revision)
	must(t, err)
}

// generator plays games, but those that poisoned names; poisoned may change between tasks.
func (p *plane) generator(t *testing.T, poisoned func(*event.Prompt) bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	working.Go(func() {
		_ = p.conn.Work(ctx, bus.WorkConfig{Instance: "generator-1", Slots: 4, Service: "generator"}, func(ctx context.Context, l *bus.Lease) error {
			for _, prompt := range l.Chunk.GetPrompts() {
				if poisoned(prompt) {
					return errors.New("this prompt is poisoned")
				}
				if _, err := p.conn.PublishOnce(ctx, madeUp(l.Chunk, prompt)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	t.Cleanup(func() { cancel(); working.Wait() })
}

// madeUp is a valid game that no model has seen.
func madeUp(c *event.Chunk, p *event.Prompt) *event.Game {
	scored := func(r *event.Response) *event.Response {
		r = proto.CloneOf(r)
		r.TokenLogps = make([]float32, len(r.GetTokenIds()))
		return r
	}
	g := &event.Game{
		RunId: c.GetRunId(), Iteration: c.GetIteration(), PromptId: p.GetPromptId(), Index: p.GetIndex(), Split: p.GetSplit(),
		WeightsSha256: c.GetWeightsSha256(), TemplateId: c.GetTemplateId(), Fingerprint: c.GetEngines()[0], Sampling: c.GetSampling(),
		Messages: p.GetMessages(), PromptIds: p.GetPromptIds(), Real: scored(p.GetReal()),
	}
	for d := range c.GetDraws() {
		g.Draws = append(g.Draws, &event.Draw{
			SampleId: event.SampleID(c.GetRunId(), c.GetIteration(), p.GetPromptId(), d), Iteration: c.GetIteration(), Draw: d,
			Response: scored(&event.Response{Text: "?", TokenIds: []uint32{5 + d, 7}, FinishReason: event.FinishReason_FINISH_REASON_LENGTH}),
		})
	}
	for _, k := range p.GetKept() {
		k = proto.CloneOf(k)
		k.Response = scored(k.GetResponse())
		g.Kept = append(g.Kept, k)
	}
	return g
}

// A trainer that takes over leaves alone what an earlier one finished, and publishes nothing twice.
func TestResume(t *testing.T) {
	p := newPlane(t)
	p.generator(t, func(*event.Prompt) bool { return false })
	spec := tinySpec(t)
	spec.SFT.Epochs, spec.Iterations, spec.Control = 1, 2, "sft"
	id := p.submit(t, spec)
	must(t, p.trainer.Lead(t.Context(), id))
	last := func() (seqs [3]uint64) {
		for i, stream := range []string{bus.Steps, bus.Checkpoints, bus.Games} {
			info, err := p.conn.StreamInfo(t.Context(), stream)
			must(t, err)
			seqs[i] = info.Last
		}
		return seqs
	}
	want := last()
	iterations := bus.State[run.Iteration]{Bucket: p.conn.Control()}
	final, _, err := iterations.Load(t.Context(), run.IterationKey(id, run.SPINStage, 1))
	must(t, err)

	// as an earlier trainer may have left it
	for _, phase := range []run.Phase{run.Done, run.Evaluating, run.Publishing, run.Training, run.Generating} {
		r, revision := p.load(t, id)
		r.Status = run.Running
		_, err := p.runs.Swap(t.Context(), run.Key(id), r, revision)
		must(t, err)
		key := run.IterationKey(id, run.SPINStage, 1)
		it, revision, err := iterations.Load(t.Context(), key)
		must(t, err)
		attempt := it.Attempt
		it.Phase = phase
		_, err = iterations.Swap(t.Context(), key, it, revision)
		must(t, err)
		must(t, p.trainer.Lead(t.Context(), id))
		it, _, err = iterations.Load(t.Context(), key)
		must(t, err)
		if it.Phase != run.Done || it.Result != final.Result || it.Dataset != final.Dataset {
			t.Errorf("from %s: the iteration is %s with weights %.12s, want done with %.12s", phase, it.Phase, it.Result, final.Result)
		}
		if again := phase != run.Done && phase != run.Evaluating; again != (it.Attempt == attempt+1) {
			t.Errorf("from %s: attempt %d follows %d", phase, it.Attempt, attempt)
		}
		if got := last(); got != want {
			t.Errorf("from %s: the streams of steps, checkpoints and games end at %v, want %v", phase, got, want)
		}
	}
}

// What a game must be.
func TestCheckRefuses(t *testing.T) {
	spec := tinySpec(t)
	base, err := pretrained.Open(spec.Model.Path)
	must(t, err)
	defer base.Close()
	prompts, err := ReadPrompts(spec, base)
	must(t, err)
	digest := strings.Repeat("ab", 32)
	const runID = "01932f6e8b7c7abc8def0123456789ab"
	kept := &event.Draw{SampleId: event.SampleID(runID, 0, prompts.train[0].GetPromptId(), 0), Response: &event.Response{TokenIds: []uint32{9}}}
	g := &games{
		lead: &lead{run: run.Run{ID: runID, Spec: spec, Fingerprint: "cpu/f32"}, base: base, prompts: prompts},
		at:   run.Iteration{Number: 1, Opponent: digest}, kept: map[string][]*event.Draw{prompts.train[0].GetPromptId(): {kept}},
	}
	chunk := &event.Chunk{RunId: runID, Iteration: 1, WeightsSha256: digest, TemplateId: base.Template.ID(), Draws: uint32(spec.Draws), Engines: []string{"cpu/f32"}}
	for _, c := range []struct {
		what string
		want string // in the refusal; "": taken
		with func(*event.Game)
	}{
		{"as asked", "", func(*event.Game) {}},
		{"a hole", "", func(m *event.Game) { m.Hole, m.WeightsSha256 = &event.Hole{Reason: "skipped"}, "" }},
		{"a hole of an unknown prompt", "not prompt 0", func(m *event.Game) { m.Hole, m.PromptId = &event.Hole{Reason: "skipped"}, "p-x" }},
		{"other weights", "weights", func(m *event.Game) { m.WeightsSha256 = strings.Repeat("cd", 32) }},
		{"another template", "template", func(m *event.Game) { m.TemplateId = "x" }},
		{"another engine", "engine cpu/bf16", func(m *event.Game) { m.Fingerprint = "cpu/bf16" }},
		{"an unknown prompt", "not prompt 0", func(m *event.Game) { m.PromptId = "p-x" }},
		{"an index beyond", "not prompt 99", func(m *event.Game) { m.Index = 99 }},
		{"the other split", "not prompt 0", func(m *event.Game) { m.Split = event.Split_SPLIT_HELDOUT }},
		{"another prompt text", "another prompt or human answer", func(m *event.Game) { m.PromptIds = append([]uint32{3}, m.PromptIds...) }},
		{"another human answer", "another prompt or human answer", func(m *event.Game) { m.Real.TokenIds = m.Real.TokenIds[1:] }},
		{"a draw too many", "2 draws", func(m *event.Game) { m.Draws = append(m.Draws, m.Draws[0]) }},
		{"no kept draw", "keeps other draws", func(m *event.Game) { m.Kept = nil }},
		{"other kept tokens", "keeps other draws", func(m *event.Game) { m.Kept[0].Response.TokenIds = []uint32{8} }},
	} {
		prompt := proto.CloneOf(prompts.train[0])
		prompt.Kept = []*event.Draw{proto.CloneOf(kept)}
		m := madeUp(chunk, prompt)
		c.with(m)
		err := g.check(m)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
}

// What could never be played is found before anything starts.
func TestReadPromptsRefuses(t *testing.T) {
	spec := tinySpec(t)
	base, err := pretrained.Open(spec.Model.Path)
	must(t, err)
	defer base.Close()
	for _, c := range []struct {
		want string
		with func(*run.Spec)
	}{
		{"max_prompt_tokens is 4", func(s *run.Spec) { s.Data.MaxPromptTokens = 4 }},
		{"the model's context is 256", func(s *run.Spec) { s.Sampling.MaxNewTokens = 250 }},
		{"nothing is left to train on", func(s *run.Spec) { s.Data.Prompts, s.Data.Heldout = 0, 8 }},
	} {
		bad := spec
		c.with(&bad)
		if _, err := ReadPrompts(bad, base); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

package generate

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/engine"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/weights"
)

const tiny = "../../trainer/train/testdata/tiny"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// plane is a broker with one run's queue, and a device.
type plane struct {
	t     *testing.T
	conn  *bus.Conn
	blobs *blob.Store
	dev   compute.Device
	base  *pretrained.Pretrained
	run   string
}

const ackWait = 500 * time.Millisecond

func newPlane(t *testing.T) *plane {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()}, zerolog.Nop())
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	cfg := server.Config("test")
	cfg.Limits = bus.DefaultLimits()
	cfg.Limits.AckWait, cfg.Limits.RetryDelay = ackWait, 5*time.Millisecond
	p := &plane{t: t}
	p.conn, err = bus.Init(t.Context(), cfg, zerolog.Nop())
	must(t, err)
	t.Cleanup(p.conn.Close)
	p.blobs, err = blob.New(t.TempDir())
	must(t, err)
	p.dev, err = cpu.New(cpu.Config{Threads: 1})
	must(t, err)
	t.Cleanup(func() { must(t, p.dev.Close()) })
	p.base, err = pretrained.Open(tiny)
	must(t, err)
	t.Cleanup(func() { must(t, p.base.Close()) })
	p.run, err = run.NewID()
	must(t, err)
	must(t, p.conn.OpenQueue(t.Context(), p.run))
	return p
}

// publish announces the tiny model under a digest.
func (p *plane) publish(iteration uint32, digest string) {
	p.t.Helper()
	m := &event.Checkpoint{RunId: p.run, Iteration: iteration, Phase: event.Phase_PHASE_SPIN, WeightsSha256: digest}
	entries, err := os.ReadDir(tiny)
	must(p.t, err)
	for _, e := range entries {
		f, err := os.Open(filepath.Join(tiny, e.Name()))
		must(p.t, err)
		ref, err := p.blobs.Put(p.t.Context(), f)
		f.Close()
		must(p.t, err)
		m.Files = append(m.Files, &event.File{Name: e.Name(), Size: uint64(ref.Size), Sha256: ref.SHA256})
	}
	_, err = p.conn.PublishExpected(p.t.Context(), m, 0)
	must(p.t, err)
}

// chunk is a task with a prompt of each name.
func (p *plane) chunk(number uint32, digest string, names ...string) *event.Chunk {
	c := &event.Chunk{
		RunId: p.run, Chunk: number, WeightsSha256: digest, TemplateId: p.base.Template.ID(), Draws: 2,
		Sampling: &event.Sampling{Seed: 3, Temperature: 1, TopP: 1, MaxNewTokens: 10},
	}
	for i, name := range names {
		content := "Do you like " + name + "?"
		c.Prompts = append(c.Prompts, &event.Prompt{
			PromptId: name, Index: number*100 + uint32(i), Split: event.Split_SPLIT_TRAIN,
			Messages: []*event.ChatMessage{{Role: "user", Content: content}}, PromptIds: event.EncodeIDs(p.base.Tokenizer.Encode(content)),
			Real: &event.Response{Text: "Yes.", TokenIds: event.EncodeIDs(p.base.Tokenizer.Encode("Yes."))},
		})
	}
	return c
}

func (p *plane) enqueue(chunks ...*event.Chunk) {
	p.t.Helper()
	for _, c := range chunks {
		_, err := p.conn.Enqueue(p.t.Context(), c)
		must(p.t, err)
	}
}

func (p *plane) service(instance string, cfg Config) *Service {
	p.t.Helper()
	cache := weights.NewCache(p.conn, p.blobs, p.t.TempDir(), p.dev, compute.F32, 0)
	s, err := New(cfg, instance, p.conn, cache, zerolog.Nop())
	must(p.t, err)
	return s
}

func small() Config {
	return Config{Slots: 3, Sequences: 4, PageTokens: 16, CacheTokens: 1024, ScoreTokens: 64}
}

// start runs a generator until the test ends or stop is called.
func (p *plane) start(s *Service) (stop func()) {
	ctx, cancel := context.WithCancel(p.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				p.t.Errorf("%s ended with %v", s.instance, err)
			}
		case <-time.After(20 * time.Second):
			p.t.Fatalf("%s does not stop", s.instance)
		}
	}
	p.t.Cleanup(stop)
	return stop
}

// games waits for n games and returns them by prompt.
func (p *plane) games(n int) map[string]*event.Game {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	games, enough := map[string]*event.Game{}, errors.New("enough")
	err := p.conn.Read(ctx, bus.ReadConfig{Stream: bus.Games, Follow: true}, func(d bus.Delivery) error {
		if d.Err != nil {
			return d.Err
		}
		g := d.Message.(*event.Game)
		if games[g.GetPromptId()] = g; len(games) == n {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		p.t.Fatalf("%d of %d games: %v", len(games), n, err)
	}
	return games
}

var (
	first  = strings.Repeat("ab", 32)
	second = strings.Repeat("cd", 32)
)

// What is played does not depend on how a generator is set up; decoding and scoring agree.
func TestPlay(t *testing.T) {
	play := func(cfg Config) map[string]*event.Game {
		p := newPlane(t)
		p.publish(0, first)
		p.enqueue(p.chunk(0, first, "tea", "rain"), p.chunk(1, first, "chess"), p.chunk(2, first, "music", "bread", "snow"))
		p.start(p.service("generator-1", cfg))
		return p.games(6)
	}
	a := play(small())
	// the smallest pass there is: it grows to hold a game
	b := play(Config{Slots: 1, Sequences: 1, PageTokens: 4, CacheTokens: 1, ScoreTokens: 1})
	for name, g := range a {
		g.RunId, b[name].RunId = "x", "x"
		for i, d := range g.GetDraws() {
			d.SampleId, b[name].Draws[i].SampleId = "", ""
			for k, lp := range d.GetResponse().GetTokenLogps() {
				if drift := float64(lp - d.GetSamplingLogps()[k]); !(math.Abs(drift) <= 1e-4) {
					t.Errorf("%s, draw %d, token %d: scored %v, sampled at %v", name, i, k, lp, d.GetSamplingLogps()[k])
				}
			}
		}
		if !event.SameContent(g, b[name]) {
			t.Errorf("%s is played differently by generators of other sizes", name)
		}
		if len(g.GetDraws()) != 2 || g.GetDraws()[0].GetResponse().GetText() == g.GetDraws()[1].GetResponse().GetText() {
			t.Errorf("%s: draws are %v", name, g.GetDraws())
		}
	}
}

// Tasks of two sets of weights take turns; each game says which played it.
func TestWeightsChange(t *testing.T) {
	p := newPlane(t)
	p.publish(0, first)
	p.publish(1, second)
	p.enqueue(p.chunk(0, first, "tea"), p.chunk(1, second, "rain"), p.chunk(2, first, "chess"), p.chunk(3, second, "music"))
	p.start(p.service("generator-1", small()))
	for name, g := range p.games(4) {
		want := map[string]string{"tea": first, "chess": first, "rain": second, "music": second}[name]
		if g.GetWeightsSha256() != want {
			t.Errorf("%s was played by %.4s, want %.4s", name, g.GetWeightsSha256(), want)
		}
	}
}

// A task whose weights are not out yet, or that another engine must play, goes back and counts as no
// failure.
func TestRelease(t *testing.T) {
	p := newPlane(t)
	early, foreign := p.chunk(0, first, "tea"), p.chunk(1, first, "rain")
	foreign.Engines = []string{"cuda/bf16"}
	p.enqueue(early, foreign)
	var warned strings.Builder
	s := p.service("generator-1", small())
	s.log = zerolog.New(&warned)
	stop := p.start(s)
	for deadline := time.Now().Add(10 * time.Second); ; { // until both were taken and given back
		waiting, leased, err := p.conn.QueueDepth(t.Context(), p.run)
		must(t, err)
		if waiting == 0 && leased == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d tasks wait, %d are out", waiting, leased)
		}
		time.Sleep(time.Millisecond) // between two looks
	}
	p.publish(0, first)
	if attempt := p.games(1)["tea"].GetCircumstance().GetAttempt(); attempt != 1 {
		t.Errorf("the game counts as attempt %d, want 1: a release is no failure", attempt)
	}
	stop()
	if n := strings.Count(warned.String(), "may not play"); n != 1 {
		t.Errorf("%d warnings that this engine cannot serve the run, want 1", n)
	}
}

// A generator whose device hangs loses its tasks to another one.
func TestHung(t *testing.T) {
	p := newPlane(t)
	p.publish(0, first)
	hung := p.service("generator-1", small())
	loaded, err := hung.weights.Get(t.Context(), p.run, first)
	must(t, err)
	hung.player = hung.newPlayer(loaded, 2)
	stuck := &job{ctx: t.Context(), lease: &bus.Lease{Chunk: p.chunk(9, first, "snow")}, draws: map[string][]engine.Answer{}, started: time.Now(), result: make(chan error)}
	hung.player.jobs <- stuck // nobody takes its result: the loop stands still
	stopHung := p.start(hung)

	p.enqueue(p.chunk(0, first, "tea"), p.chunk(1, first, "rain"))
	for { // the hung one has both
		_, leased, err := p.conn.QueueDepth(t.Context(), p.run)
		must(t, err)
		if leased == 2 {
			break
		}
		time.Sleep(time.Millisecond) // between two looks
	}
	p.start(p.service("generator-2", small()))
	for name, g := range p.games(2) {
		if c := g.GetCircumstance(); c.GetInstance() != "generator-2" || c.GetAttempt() < 2 {
			t.Errorf("%s was played by %s at attempt %d, want generator-2 after the first one's", name, c.GetInstance(), c.GetAttempt())
		}
	}
	must(t, <-stuck.result)
	stopHung()
}

// Stopping in the middle of anything ends, and gives the task back.
func TestStop(t *testing.T) {
	p := newPlane(t)
	p.publish(0, first)
	p.enqueue(p.chunk(0, first, "tea", "rain", "snow"))
	for i := range 8 {
		stop := p.start(p.service("generator-1", small()))
		time.Sleep(time.Duration(i) * 3 * time.Millisecond) // a moment further on each time: whichever it is, it must do
		stop()
	}
	p.start(p.service("generator-2", small()))
	p.games(3)
}

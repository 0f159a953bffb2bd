package bus_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/event"
)

const (
	runID  = "01932f6e8b7c7abc8def0123456789ab"
	digest = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
)

// quick is DefaultLimits with the patience of a test.
func quick() bus.Limits {
	l := bus.DefaultLimits()
	l.AckWait, l.RetryDelay, l.LeaseTTL = 400*time.Millisecond, 5*time.Millisecond, time.Second
	l.GamesBytes, l.StepsBytes, l.EventsBytes = 64<<20, 64<<20, 16<<20
	return l
}

// broker is a server that a test can restart under its connections.
type broker struct {
	t      *testing.T
	dir    string
	limits bus.Limits
	mu     sync.Mutex
	server *embedded.Server
}

func newBroker(t *testing.T, limits bus.Limits) *broker {
	t.Helper()
	b := &broker{t: t, dir: t.TempDir(), limits: limits}
	b.start()
	t.Cleanup(b.stop)
	b.init("init")
	return b
}

func (b *broker) start() {
	b.t.Helper()
	s, err := embedded.Start(b.t.Context(), embedded.Config{Dir: b.dir}, zerolog.Nop())
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	b.server = s
	b.mu.Unlock()
}

func (b *broker) stop() {
	b.mu.Lock()
	s := b.server
	b.server = nil
	b.mu.Unlock()
	if s != nil {
		if err := s.Close(); err != nil {
			b.t.Error(err)
		}
	}
}

func (b *broker) InProcessConn() (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.server == nil {
		return nil, errors.New("the broker is down")
	}
	return b.server.InProcessConn()
}

func (b *broker) init(name string) *bus.Conn {
	b.t.Helper()
	c, err := bus.Init(b.t.Context(), bus.Config{Server: b, Name: name, Limits: b.limits}, zerolog.Nop())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Close)
	return c
}

func (b *broker) connect(name string) *bus.Conn {
	b.t.Helper()
	c, err := bus.Connect(b.t.Context(), bus.Config{Server: b, Name: name, Limits: b.limits}, zerolog.Nop())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Close)
	return c
}

func sampling() *event.Sampling {
	return &event.Sampling{Seed: 1, Temperature: 1, TopP: 1, MaxNewTokens: 64}
}

func game(prompt, text string) *event.Game {
	response := func(text string) *event.Response {
		return &event.Response{Text: text, TokenIds: []uint32{7}, TokenLogps: []float32{-1}, FinishReason: event.FinishReason_FINISH_REASON_STOP}
	}
	return &event.Game{
		RunId: runID, PromptId: prompt, Split: event.Split_SPLIT_TRAIN, WeightsSha256: digest, Fingerprint: "cpu", Sampling: sampling(),
		Messages: []*event.ChatMessage{{Role: "user", Content: "hi"}}, PromptIds: []uint32{1}, Real: response("yo"),
		Draws: []*event.Draw{{SampleId: event.SampleID(runID, 0, prompt, 0), Response: response(text)}},
	}
}

func step(n uint32, loss float64) *event.Step {
	return &event.Step{RunId: runID, Phase: event.Phase_PHASE_SPIN, Step: n, Loss: loss}
}

func chunk(run string, number uint32, prompts ...string) *event.Chunk {
	c := &event.Chunk{RunId: run, Chunk: number, WeightsSha256: digest, Sampling: sampling(), Draws: 1}
	for _, id := range prompts {
		c.Prompts = append(c.Prompts, &event.Prompt{
			PromptId: id, Split: event.Split_SPLIT_TRAIN, Messages: []*event.ChatMessage{{Role: "user", Content: "hi"}},
			Real: &event.Response{Text: "yo", TokenIds: []uint32{7}},
		})
	}
	return c
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Games that are started together have each its own answer.
func TestStartPublishOnce(t *testing.T) {
	c := newBroker(t, quick()).connect("generator/1")
	ctx := t.Context()
	must[bus.Ack](t)(c.PublishOnce(ctx, game("p1", "a")))
	must[bus.Ack](t)(c.PublishOnce(ctx, game("p2", "a")))
	waits := []func() (bus.Ack, error){
		c.StartPublishOnce(ctx, game("p0", "a")), c.StartPublishOnce(ctx, game("p1", "a")), c.StartPublishOnce(ctx, game("p2", "b")),
		c.StartPublishOnce(ctx, &event.Game{RunId: "a.b"}),
	}
	for i, want := range []bus.Ack{{}, {Existed: true}, {Existed: true, Differs: true}} {
		got := must[bus.Ack](t)(waits[i]())
		if got.Seq == 0 || got.Existed != want.Existed || got.Differs != want.Differs {
			t.Errorf("game %d: %+v, want %+v", i, got, want)
		}
	}
	if _, err := waits[3](); !errors.Is(err, event.ErrInvalid) {
		t.Errorf("an invalid game: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.StartPublishOnce(gone, game("p1", "a"))(); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
}

func TestPublishOnceFirstWriteWins(t *testing.T) {
	c := newBroker(t, quick()).connect("generator/1")
	ctx := t.Context()
	first := must[bus.Ack](t)(c.PublishOnce(ctx, game("p1", "a")))
	if first.Existed {
		t.Error("the first write found another")
	}
	again := must[bus.Ack](t)(c.PublishOnce(ctx, game("p1", "a")))
	if !again.Existed || again.Differs || again.Seq != first.Seq {
		t.Errorf("the same game again: %+v", again)
	}
	other := must[bus.Ack](t)(c.PublishOnce(ctx, game("p1", "b")))
	if !other.Existed || !other.Differs {
		t.Errorf("another game of the prompt: %+v", other)
	}
	kept, _, err := c.Last(ctx, game("p1", ""))
	if err != nil || !event.SameContent(kept, game("p1", "a")) {
		t.Errorf("kept %v, %v", kept, err)
	}

	var wrote sync.Map
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			ack, err := c.PublishOnce(ctx, game("p2", fmt.Sprint("by ", i)))
			if err != nil {
				t.Error(err)
			} else if !ack.Existed {
				wrote.Store(i, true)
			}
		})
	}
	wg.Wait()
	winners := 0
	wrote.Range(func(any, any) bool { winners++; return true })
	if winners != 1 {
		t.Errorf("%d of 16 writers won", winners)
	}
	if _, err := c.PublishOnce(ctx, &event.Game{RunId: "a.b"}); !errors.Is(err, event.ErrInvalid) {
		t.Errorf("an invalid game: %v", err)
	}
}

// One code of the broker means both "this subject has its message" and "the stream is full".
func TestFullStreamIsBackPressureNotSuccess(t *testing.T) {
	limits := quick()
	limits.GamesBytes, limits.StepsBytes = 20_000, 2_000
	c := newBroker(t, limits).connect("generator/1")
	ctx := t.Context()
	text := strings.Repeat("x", 1000)
	stored := 0
	for ; stored < 100; stored++ {
		_, err := c.PublishOnce(ctx, game(fmt.Sprint("p", stored), text))
		if errors.Is(err, bus.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if stored == 0 || stored == 100 {
		t.Fatalf("full after %d games", stored)
	}
	if ack, err := c.PublishOnce(ctx, game("p0", text)); err != nil || !ack.Existed {
		t.Errorf("a stored game on the full stream: %+v, %v", ack, err)
	}
	if err := c.Purge(ctx, bus.Games, event.GameSubject(runID, 0, "p0"), 0); err != nil {
		t.Fatal(err)
	}
	if ack, err := c.PublishOnce(ctx, game("late", text)); err != nil || ack.Existed {
		t.Errorf("after the purge: %+v, %v", ack, err)
	}
	var err error
	for n := uint32(1); n < 100 && err == nil; n++ {
		_, err = c.PublishExpected(ctx, step(n, 1), 0)
	}
	if !errors.Is(err, bus.ErrFull) {
		t.Errorf("steps: %v", err)
	}
}

func TestPublishExpectedFencesAnOldLeader(t *testing.T) {
	b := newBroker(t, quick())
	old, now := b.connect("trainer/old"), b.connect("trainer/new")
	ctx := t.Context()
	first := must[uint64](t)(old.PublishExpected(ctx, step(1, math.Ln2), 0))
	if seq := must[uint64](t)(now.PublishExpected(ctx, step(1, math.Ln2), 0)); seq != first {
		t.Errorf("the same step again is %d, was %d", seq, first)
	}
	over := must[uint64](t)(now.PublishExpected(ctx, step(1, 0.5), first)) // trained again, on another engine
	for _, expected := range []uint64{0, first} {
		if _, err := old.PublishExpected(ctx, step(1, 0.7), expected); !errors.Is(err, bus.ErrFenced) {
			t.Errorf("the old leader over %d: %v", expected, err)
		}
	}
	kept, seq, err := now.Last(ctx, step(1, 0))
	if err != nil || seq != over || kept.(*event.Step).GetLoss() != 0.5 {
		t.Errorf("kept %v at %d, %v", kept, seq, err)
	}
	info := must[bus.Info](t)(now.StreamInfo(ctx, bus.Steps))
	if info.Messages != 1 {
		t.Errorf("%d messages for one step", info.Messages)
	}
}

func TestAppendOnceForEachID(t *testing.T) {
	c := newBroker(t, quick()).connect("trainer/1")
	e := &event.Event{Id: "e1", RunId: runID, Service: "trainer", Kind: "run_state"}
	for range 3 {
		if err := c.Append(t.Context(), e, e.GetId()); err != nil {
			t.Fatal(err)
		}
	}
	if info := must[bus.Info](t)(c.StreamInfo(t.Context(), bus.Events)); info.Messages != 1 {
		t.Errorf("%d messages", info.Messages)
	}
}

func TestRead(t *testing.T) {
	c := newBroker(t, quick()).connect("recorder/1")
	ctx := t.Context()
	read := func(cfg bus.ReadConfig) (seqs []uint64, bad int) {
		t.Helper()
		cfg.Stream = bus.Games
		err := c.Read(ctx, cfg, func(d bus.Delivery) error {
			seqs = append(seqs, d.Seq)
			if d.Err != nil {
				bad++
				if !errors.Is(d.Err, event.ErrInvalid) || len(d.Payload) == 0 {
					t.Errorf("undecodable: %+v", d)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return seqs, bad
	}
	if seqs, _ := read(bus.ReadConfig{}); len(seqs) != 0 {
		t.Errorf("an empty stream gave %v", seqs)
	}
	for i := range 600 { // more than one pull
		must[bus.Ack](t)(c.PublishOnce(ctx, game(fmt.Sprint("p", i), "a")))
	}
	if err := c.PublishRaw(ctx, event.GameSubject(runID, 3, "bad"), "spin.v1.Game", []byte("junk")); err != nil {
		t.Fatal(err)
	}
	check := func(what string, seqs []uint64, first, last uint64) {
		t.Helper()
		if uint64(len(seqs)) != last-first+1 || seqs[0] != first || seqs[len(seqs)-1] != last {
			t.Errorf("%s: %d messages, want %d to %d", what, len(seqs), first, last)
		}
	}
	all, bad := read(bus.ReadConfig{})
	check("all", all, 1, 601)
	if bad != 1 {
		t.Errorf("%d undecodable messages, want 1", bad)
	}
	part, _ := read(bus.ReadConfig{From: 100, Until: 199, Follow: true})
	check("from 100 until 199", part, 100, 199)
	filtered, _ := read(bus.ReadConfig{Filters: []string{event.IterationFilter(runID, event.Games, 3)}})
	check("iteration 3", filtered, 601, 601)
	if past, _ := read(bus.ReadConfig{From: 9999}); len(past) != 0 {
		t.Errorf("past the end: %v", past)
	}
	subjects := must[map[string]uint64](t)(c.Subjects(ctx, bus.Games, event.IterationFilter(runID, event.Games, 0)))
	if len(subjects) != 600 {
		t.Errorf("%d subjects of iteration 0", len(subjects))
	}
	if err := c.Purge(ctx, bus.Games, event.Filter(runID, event.Games), 100); err != nil {
		t.Fatal(err)
	}
	rest, _ := read(bus.ReadConfig{})
	check("after a purge", rest, 101, 601)

	enough := errors.New("enough")
	if err := c.Read(ctx, bus.ReadConfig{Stream: bus.Games, Follow: true}, func(bus.Delivery) error { return enough }); err != enough {
		t.Errorf("the handler's error came back as %v", err)
	}
	stopped, stop := context.WithCancelCause(ctx)
	err := c.Read(stopped, bus.ReadConfig{Stream: bus.Games, From: 601, Follow: true}, func(bus.Delivery) error { stop(enough); return nil })
	if err != enough {
		t.Errorf("the context's cause came back as %v", err)
	}
}

func TestConnectSaysWhatIsMissing(t *testing.T) {
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := bus.Connect(t.Context(), s.Config("recorder/1"), zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "SPIN_PROMPTS") {
		t.Errorf("a broker without streams: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := bus.Connect(ctx, bus.Config{URL: "nats://127.0.0.1:1"}, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("no broker: %v", err)
	}
}

// Steps of a run are the log of one writer: whoever does not know its newest message writes nothing, even where their own subject is empty and what
// lay there was purged.
func TestPublishAfter(t *testing.T) {
	b := newBroker(t, quick())
	c := b.connect("trainer/1")
	ctx := t.Context()
	filter := event.Filter(runID, event.Steps)
	step := func(n uint32, loss float64) *event.Step {
		return &event.Step{RunId: runID, Phase: event.Phase_PHASE_SPIN, Step: n, Loss: loss}
	}
	one := must[uint64](t)(c.PublishAfter(ctx, step(1, 1), filter, 0))
	if again := must[uint64](t)(c.PublishAfter(ctx, step(1, 1), filter, 0)); again != one {
		t.Errorf("the same again is at %d, want %d", again, one)
	}
	two := must[uint64](t)(c.PublishAfter(ctx, step(2, 2), filter, one))
	for _, late := range []*event.Step{step(1, 1), step(2, 3), step(3, 3)} {
		if seq, err := c.PublishAfter(ctx, late, filter, one); !errors.Is(err, bus.ErrFenced) {
			t.Errorf("step %d by a writer that knows no more than %d: %d, %v", late.GetStep(), one, seq, err)
		}
	}
	other := step(1, 1)
	other.RunId = strings.Repeat("a", 32)
	three := must[uint64](t)(c.PublishAfter(ctx, step(3, 3), filter, two))
	must[uint64](t)(c.PublishAfter(ctx, other, event.Filter(other.RunId, event.Steps), 0)) // other runs have logs of their own
	if err := c.Purge(ctx, bus.Steps, filter, three-1); err != nil {
		t.Fatal(err)
	}
	if seq, err := c.PublishAfter(ctx, step(2, 2), filter, one); !errors.Is(err, bus.ErrFenced) {
		t.Errorf("behind what was purged: %d, %v", seq, err)
	}
	if m, seq, err := c.Newest(ctx, &event.Step{RunId: runID}, filter); err != nil || seq != three || m.(*event.Step).GetStep() != 3 {
		t.Errorf("newest is %v at %d, %v", m, seq, err)
	}
}

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// What trialRate plays: games a second from so many generators, in iterations, each of which is purged when it is recorded, as the recorder does
// with those that a run needs no more.
const (
	ratePlayers, rateIterations = 64, 10
	rateTask                    = 8 // games of a task, published together as a generator does
	rateWanted                  = 10_000
)

var rateGames = flag.Int("games", 0, "games that the trial `rate` sends, and judge the rate as the long form does; 0: 20,000, in the long form a million")

// trialRate sends synthetic games of 2 KB through broker and recorder into ClickHouse: first at the
// wanted rate, for the lag and the memory, then as fast as they go.
func trialRate(t *testing.T, bin binaries, _ run.Spec, _ result) string {
	paced, burst := 20_000, 10_000
	if *chaos {
		paced, burst = 1_000_000, 200_000
	}
	if n := *rateGames; n > 0 && n < 50 {
		t.Fatalf("-games %d: want 50 or more", n)
	}
	if *rateGames > 0 {
		paced, burst = *rateGames, *rateGames/5
	}
	d := deploy(t, bin, setup{limits: bus.DefaultLimits()})
	d.recorder().start()
	players := newPlayers(d, paced/rateIterations)
	defer players.close()

	watch := newWatch(d)
	cpu, busy := seconds(os.Getpid()), busySeconds()
	began := time.Now()
	purged := players.purgeRecorded(watch)
	players.play(0, paced, rateWanted)
	published := float64(paced) / time.Since(began).Seconds()
	watch.recorded(paced)
	rate := float64(paced) / time.Since(began).Seconds()
	lag, memory := watch.stop()
	purged()
	memory["generators"] = &resident{seconds: seconds(os.Getpid()) - cpu}
	others := (busySeconds() - busy - memory.seconds()) / time.Since(began).Seconds() / float64(runtime.NumCPU())

	began = time.Now()
	players.play(paced, paced+burst, 0)
	pushed := float64(burst) / time.Since(began).Seconds()
	again := newWatch(d)
	again.recorded(paced + burst)
	most := float64(burst) / time.Since(began).Seconds()
	again.stop()

	got := ask(t, d.store, "SELECT count(), uniqExact(iteration, prompt_id), (SELECT count() FROM samples), (SELECT uniqExact(sample_id) FROM samples) FROM games")
	for _, n := range got {
		if n != fmt.Sprint(paced+burst) {
			t.Errorf("games, distinct, samples, distinct: %v, want %d of each", got, paced+burst)
			break
		}
	}
	if (*chaos || *rateGames > 0) && others < 0.1 { // else the figures are somebody else's too
		if !(rate >= 0.97*rateWanted) { // the last batch's way included
			t.Errorf("%.0f games/s, want %d", rate, rateWanted)
		}
		if !(lag < 5*time.Second) {
			t.Errorf("the recorder lags %v behind, want less than 5 s", lag)
		}
		if r := memory["recorder"]; !(r.late <= 1.25*r.early) {
			t.Errorf("the recorder grows: %v", r)
		}
	}
	return fmt.Sprintf("%d games of %d bytes by %d generators at %.0f/s (sent at %.0f/s), lag at most %.2f s; resident, at a quarter and at most after: %s; at most %.0f/s recorded, %.0f/s sent; every row once; others took %.0f %% of the machine",
		paced, players.bytes, ratePlayers, rate, published, lag.Seconds(), memory, most, pushed, 100*max(0, others))
}

// recorder is one with the settings of production.
func (d *deployment) recorder() *process {
	p := d.process("recorder-0", nil, d.bin.path("recorder"), append([]string{"--nats-url", d.url, "--nats-token-file", d.tokenFile()}, clickhouseFlags(d.t, d.archiveURL)...)...)
	d.services = append(d.services, p)
	return p
}

// players are generators that play nothing: each has a connection, and sends one game after another.
type players struct {
	d     *deployment
	conns []*bus.Conn
	runID string
	game  *event.Game // what each says, but for its identity
	bytes int
	each  int // games of an iteration
}

func newPlayers(d *deployment, each int) *players {
	d.t.Helper()
	p := &players{d: d, each: each}
	var err error
	if p.runID, err = run.NewID(); err != nil {
		d.t.Fatal(err)
	}
	for i := range ratePlayers {
		c, err := bus.Connect(d.t.Context(), bus.Config{URL: d.url, Token: brokerToken, Name: fmt.Sprint("player-", i)}, zerolog.Nop())
		if err != nil {
			d.t.Fatal(err)
		}
		p.conns = append(p.conns, c)
	}
	p.game = syntheticGame(p.runID)
	data, err := event.Marshal(p.numbered(0, 0))
	if err != nil {
		d.t.Fatal(err)
	}
	p.bytes = len(data)
	return p
}

func (p *players) close() {
	for _, c := range p.conns {
		c.Close()
	}
}

// syntheticGame is a game of about 2 KB: a prompt of 40 tokens, answers of 80.
func syntheticGame(runID string) *event.Game {
	random := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not what all were we when your can said there use an each which she do how their if")
	answer := func() *event.Response {
		r := &event.Response{FinishReason: event.FinishReason_FINISH_REASON_STOP}
		var text []string
		for range 80 {
			text = append(text, words[random.IntN(len(words))])
			r.TokenIds = append(r.TokenIds, uint32(random.IntN(49152)))
			r.TokenLogps = append(r.TokenLogps, -float32(random.ExpFloat64()))
		}
		r.Text = strings.Join(text, " ")
		return r
	}
	sha := strings.Repeat("0123456789abcdef", 4)
	g := &event.Game{
		RunId: runID, Split: event.Split_SPLIT_TRAIN, WeightsSha256: sha, TemplateId: sha[:16], Fingerprint: "cpu/avx2/f32",
		Sampling: &event.Sampling{Seed: 7, Temperature: 1, TopP: 1, MaxNewTokens: 128},
		Messages: []*event.ChatMessage{{Role: "user", Content: answer().Text[:160]}},
		Real:     answer(), Draws: []*event.Draw{{Response: answer()}},
	}
	g.PromptIds = answer().TokenIds[:40]
	g.Draws[0].SamplingLogps = g.Draws[0].Response.TokenLogps
	return g
}

// numbered is the game with the identity of number n, from one of the players.
func (p *players) numbered(n, player int) *event.Game {
	t, draw := p.game, p.game.GetDraws()[0]
	g := &event.Game{ // the large parts are shared
		RunId: p.runID, Iteration: uint32(n / p.each), Index: uint32(n), PromptId: fmt.Sprint("p", n), Split: t.Split, WeightsSha256: t.WeightsSha256,
		TemplateId: t.TemplateId, Fingerprint: t.Fingerprint, Sampling: t.Sampling, Messages: t.Messages, PromptIds: t.PromptIds, Real: t.Real,
	}
	g.Circumstance = &event.Circumstance{Instance: fmt.Sprint("player-", player), Attempt: 1, CreatedAt: timestamppb.Now(), Seconds: 1}
	g.Draws = []*event.Draw{{
		SampleId: event.SampleID(p.runID, g.Iteration, g.PromptId, 0), Iteration: g.Iteration, Response: draw.Response, SamplingLogps: draw.SamplingLogps,
	}}
	return g
}

// play sends the games from..to, at a rate, or as fast as they go where it is 0.
func (p *players) play(from, to, rate int) {
	var next atomic.Int64
	next.Store(int64(from))
	began := time.Now()
	var playing sync.WaitGroup
	for i, c := range p.conns {
		playing.Go(func() {
			var sent [rateTask]func() (bus.Ack, error)
			for {
				first := int(next.Add(rateTask)) - rateTask
				if first >= to {
					return
				}
				if rate > 0 {
					time.Sleep(time.Until(began.Add(time.Duration(first-from) * time.Second / time.Duration(rate))))
				}
				for k := range sent {
					sent[k] = c.StartPublishOnce(p.d.t.Context(), p.numbered(first+k, i))
				}
				for k, wait := range sent {
					if _, err := wait(); err != nil {
						p.d.t.Errorf("game %d: %v", first+k, err)
						return
					}
				}
			}
		})
	}
	playing.Wait()
}

// purgeRecorded takes iterations out of the broker as they are recorded, until stop.
func (p *players) purgeRecorded(w *watch) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		// Generators overtake one another: a game of an iteration may come somewhat after its end.
		for it := 0; ; {
			select {
			case <-quit:
				return
			case <-time.After(100 * time.Millisecond): // between two looks
			}
			recorded := w.soFar()
			if recorded < uint64((it+1)*p.each+ratePlayers*rateTask) {
				continue
			}
			if err := p.d.admin.Purge(p.d.t.Context(), bus.Games, event.Filter(p.runID, event.Games, strconv.Itoa(it)), recorded); err != nil {
				p.d.t.Error(err)
				return
			}
			it++
		}
	}()
	return func() { close(quit); <-done }
}

// watch follows how far the recorder is behind, and what the processes take.
type watch struct {
	d      *deployment
	quit   chan struct{}
	done   chan struct{}
	lag    time.Duration
	memory usage
	mu     sync.Mutex
	last   uint64 // recorded
}

// usage is resident memory by process.
type usage map[string]*resident

// resident are bytes: at a quarter of the time, and the most after it.
type resident struct {
	all         []float64
	early, late float64
	seconds     float64 // of processor time
}

func (u usage) String() string {
	var parts []string
	for _, name := range []string{"recorder", "broker", "clickhouse", "generators"} {
		if r := u[name]; r != nil {
			parts = append(parts, fmt.Sprintf("%s %.0f and %.0f MB (%.1f s of processor)", name, r.early/1e6, r.late/1e6, r.seconds))
		}
	}
	return strings.Join(parts, ", ")
}

// seconds of processor time, of all of them.
func (u usage) seconds() (sum float64) {
	for _, r := range u {
		sum += r.seconds
	}
	return sum
}

func newWatch(d *deployment) *watch {
	w := &watch{d: d, quit: make(chan struct{}), done: make(chan struct{}), memory: usage{}}
	go w.loop()
	return w
}

func (w *watch) loop() {
	defer close(w.done)
	ctx := context.WithoutCancel(w.d.t.Context())
	type stored struct {
		at   time.Time
		last uint64
	}
	var behind []stored // what the stream held at times, of which not all is recorded
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-w.quit:
			return
		case <-tick.C:
		}
		info, err := w.d.admin.StreamInfo(ctx, bus.Games)
		if err != nil {
			continue
		}
		now := time.Now()
		behind = append(behind, stored{now, info.Last})
		recorded := w.d.recordedGames(ctx)
		for len(behind) > 0 && behind[0].last <= recorded {
			behind = behind[1:]
		}
		w.mu.Lock()
		w.last = recorded
		if len(behind) > 0 {
			w.lag = max(w.lag, now.Sub(behind[0].at))
		}
		w.mu.Unlock()
		if n%10 == 0 {
			for _, p := range w.d.all() {
				kind, _, _ := strings.Cut(p.name, "-")
				if w.memory[kind] == nil {
					w.memory[kind] = &resident{}
				}
				w.memory[kind].seconds = seconds(p.pid())
				w.memory[kind].all = append(w.memory[kind].all, rss(p.pid()))
			}
		}
	}
}

// recordedGames is the last sequence of the games' stream that is in ClickHouse.
func (d *deployment) recordedGames(ctx context.Context) uint64 {
	e, err := d.admin.Control().Get(ctx, "recorder."+bus.Games)
	if errors.Is(err, bus.ErrNotFound) {
		return 0
	}
	var p struct {
		First, Last uint64
		Done        bool
	}
	if err == nil {
		err = json.Unmarshal(e.Value, &p)
	}
	if err != nil {
		d.t.Error(err)
	}
	if !p.Done {
		return p.First - 1
	}
	return p.Last
}

// recorded waits until that many games are.
func (w *watch) recorded(n int) {
	w.d.t.Helper()
	w.d.wait(fmt.Sprint(n, " recorded games"), 5*time.Minute, func() bool {
		return w.soFar() >= uint64(n)
	})
}

// soFar is how many games are recorded.
func (w *watch) soFar() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

func (w *watch) stop() (time.Duration, usage) {
	close(w.quit)
	<-w.done
	for _, r := range w.memory {
		for i, v := range r.all {
			if i <= len(r.all)/4 {
				r.early = max(r.early, v)
			} else {
				r.late = max(r.late, v)
			}
		}
	}
	return w.lag, w.memory
}

// seconds is the processor time that a process has taken.
func seconds(pid int) float64 {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100 // USER_HZ, which is 100 wherever Linux runs Go
}

// busySeconds is the processor time that the machine has spent, whoever did; 0 where it is not known.
func busySeconds() (sum float64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line) { // cpu user nice system idle iowait irq softirq steal
		if v, err := strconv.ParseFloat(f, 64); err == nil && i != 4 && i != 5 && i < 8 {
			sum += v / 100
		}
	}
	return sum
}

// rss is a process's resident memory in bytes; 0 where it is not known.
func rss(pid int) float64 {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	pages, _ := strconv.ParseFloat(f[1], 64)
	return pages * float64(os.Getpagesize())
}

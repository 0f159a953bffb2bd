package e2e

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/harness"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
	"github.com/seed-8780d58e/spin/services/generator/generate"
)

// TestLoop plays the same run many times. One ClickHouse serves them all: there is one engine in a
// process.
func TestLoop(t *testing.T) {
	archive := storetest.Open(t)
	spec := newSpec(t, dataset(t))
	want := play(t, archive, spec, oneGenerator(1))

	t.Run("rows", func(t *testing.T) { checkRows(t, archive, spec, want) })
	t.Run("once more, with 2 threads", func(t *testing.T) {
		same(t, "2 threads", play(t, archive, spec, oneGenerator(2)), want)
	})
	t.Run("two generators", func(t *testing.T) {
		same(t, "two generators", play(t, archive, spec, fleet{2, []generate.Config{slots(1), slots(3)}}), want)
	})
	t.Run("reversed arrival", func(t *testing.T) { same(t, "reversed arrival", playReversed(t, archive, spec), want) })
	t.Run("stopped again and again", func(t *testing.T) { same(t, "stopped", playStopped(t, archive, spec), want) })
	t.Run("another seed", func(t *testing.T) {
		other := spec
		other.Seed++
		got := play(t, archive, other, oneGenerator(2))
		if got.rows == want.rows || got.weights[0] == want.weights[0] || got.weights[1] == want.weights[1] {
			t.Errorf("seed %d gives the weights or rows of seed %d", other.Seed, spec.Seed)
		}
	})
}

// checkRows holds what the tables promise.
func checkRows(t *testing.T, archive *store.Store, spec run.Spec, r result) {
	of := " WHERE run_id = '" + r.id + "'"
	equal := func(what, sql string, want ...any) {
		t.Helper()
		got := ask(t, archive, sql)
		for i, w := range want {
			if got[i] != fmt.Sprint(w) {
				t.Errorf("%s: %v, want %v", what, got, want)
				return
			}
		}
	}
	// no FINAL: nothing may be there twice
	equal("prompts", "SELECT countIf(split = 'train'), countIf(split = 'heldout') FROM prompts"+of, trained, heldout)
	equal("games", "SELECT count(), uniqExact(iteration, prompt_id) FROM games"+of, iterations*(trained+heldout), iterations*(trained+heldout))
	for t := range iterations {
		at := fmt.Sprintf("%s AND iteration = %d", of, t)
		pairs := trained * spec.PairsPerGame(t)
		equal("samples", "SELECT countIf(split = 'train'), countIf(split = 'heldout'), uniqExact(sample_id) FROM samples"+at, trained*draws, heldout*draws, (trained+heldout)*draws)
		equal("pairs", "SELECT count(), uniqExact(prompt_id, sample_iteration, draw) FROM pairs"+at, pairs, pairs)
		equal("steps", "SELECT count(), uniqExact(step) FROM steps"+at+" AND phase = 'spin'", spec.Steps(t), spec.Steps(t))
		equal("first loss", "SELECT loss, margin FROM steps"+at+" AND phase = 'spin' AND step = 1", math.Ln2, 0)
		equal("first pairs", "SELECT countIf(loss != log(2)), countIf(margin != 0), countIf(logp_real != opponent_logp_real OR logp_generated != opponent_logp_generated) FROM pairs"+at+" AND step = 1", 0, 0, 0)
		equal("later pairs", "SELECT countIf(logp_real = opponent_logp_real) FROM pairs"+at+" AND step > 2", 0) // warm-up: the first step's rate is 0
		equal("the opponent's weights", "SELECT uniqExact(weights_sha256), any(weights_sha256) IN (SELECT opponent_sha256 FROM iterations FINAL"+at+") FROM samples"+at, 1, 1)
		// a step is the mean over its pairs, and both say which games they used
		equal("steps against pairs", `SELECT max(abs(s.loss - p.loss)) < 1e-12, max(abs(s.margin - p.margin)) < 1e-12, min(s.pairs = p.pairs), min(s.games = p.games) FROM
			(SELECT * FROM steps`+at+` AND phase = 'spin') AS s INNER JOIN
			(SELECT step, avg(loss) AS loss, avg(margin) AS margin, count() AS pairs, uniqExact(prompt_id) AS games FROM pairs`+at+` GROUP BY step) AS p USING (step)`, 1, 1, 1, 1)
	}
	equal("sft steps", "SELECT count(), min(pairs), max(pairs) FROM steps"+of+" AND phase = 'sft'", spec.SFTSteps(), 0, 0)
	equal("margins", `SELECT max(abs(margin - beta * ((logp_real - opponent_logp_real) - (logp_generated - opponent_logp_generated)))) < 1e-9,
		max(abs(loss - log(1 + exp(-margin)))) < 1e-9 FROM pairs`+of, 1, 1)
	equal("sums", "SELECT max(abs(logp - arraySum(token_logps))) < 1e-4, min(length(token_ids) = n_tokens), min(length(sampling_logps) = n_tokens), max(n_tokens) <= 12 FROM samples"+of, 1, 1, 1, 1)
	equal("samples' weights are checkpoints", "SELECT count() FROM samples"+of+" AND weights_sha256 NOT IN (SELECT weights_sha256 FROM checkpoints"+of+")", 0)
	equal("checkpoints", "SELECT count(), uniqExact(phase, iteration), sum(bytes) > 0 FROM checkpoints"+of, 3+iterations, 3+iterations, 1)
	// every sample has its prompt; those of a training prompt name each step that used them, twice where
	// the next iteration mixes them in, and held-out ones none
	equal("lineage", "SELECT count(), countIf(prompt = '' OR real = '') FROM lineage"+of, iterations*(trained+heldout)*draws, 0)
	equal("use of held-out draws", "SELECT max(length(used)) FROM lineage"+of+" AND split = 'heldout'", 0)
	equal("use of draws", "SELECT min(length(used)), max(length(used)) FROM lineage"+of+" AND split = 'train' AND iteration = 0", 2, 2)
	equal("use of the last draws", "SELECT min(length(used)), max(length(used)) FROM lineage"+of+" AND split = 'train' AND iteration = 1", 1, 1)
	equal("checkpoint lineage", "SELECT count(), uniqExact(sample_id), uniqExact(sampled_by), countIf(sample_id NOT IN (SELECT sample_id FROM samples"+of+")) FROM checkpoint_lineage"+of+" AND weights_sha256 = '"+r.weights[1]+"'", trained*draws*2, trained*draws*2, 2, 0)
	equal("generators", "SELECT sum(samples), sum(games), min(tokens_per_s > 0 AND seconds > 0) FROM generators"+of, iterations*(trained+heldout)*draws, iterations*(trained+heldout), 1)
	equal("prompt margins", "SELECT count(), min(pairs), countIf(prompt = '' OR real = ''), countIf(lost > pairs) FROM prompt_margins"+of, iterations*trained, draws, 0, 0)
	equal("worst pairs", "SELECT count(), min(place), max(place), countIf(prompt = '' OR real = '') FROM worst_pairs"+of+" AND iteration = 0", min(trained*draws, 100), 1, min(trained*draws, 100), 0)
	equal("the worst pair", "SELECT any(w.loss) = max(p.loss) FROM worst_pairs AS w, pairs AS p WHERE w.run_id = p.run_id AND w.iteration = p.iteration AND w.run_id = '"+r.id+"' AND w.iteration = 1 AND w.place = 1", 1)
	equal("duplicates", "SELECT (SELECT sum(copies) FROM duplicates"+of+") = (SELECT count() FROM samples"+of+" AND text IN (SELECT text FROM samples"+of+" GROUP BY text HAVING count() > 1))", 1)
	equal("opponent and result", "SELECT a.weights_sha256 = b.opponent_sha256, a.weights_sha256, b.weights_sha256 FROM (SELECT * FROM iterations FINAL"+of+" AND iteration = 0) AS a, (SELECT * FROM iterations FINAL"+of+" AND iteration = 1) AS b", 1, r.weights[0], r.weights[1])
	equal("run", "SELECT count(), any(state), any(base_sha256) FROM runs FINAL"+of, 1, "done", spec.Model.SHA256)
	// base, θ_0, θ_1, θ_2 and the control have a likelihood; successors and the control also margins
	equal("scores", "SELECT countIf(metric = 'nll'), countIf(metric = 'accuracy'), countIf(metric = 'near_copy'), count() = uniqExact(phase, iteration, task, metric) FROM scores"+of, 5, 3, 2, 1)
	equal("benchmarks", "SELECT count(), uniqExact(phase, iteration), min(n), max(n), min(shots), any(task_version), any(harness_version) FROM scores"+of+" AND task = 'arc_easy' AND metric IN ('acc', 'acc_norm')",
		2*(3+iterations), 3+iterations, 3, 3, 25, 1, harness.Version)
	equal("measures of self-play", "SELECT uniqExactIf(metric, task = 'heldout'), uniqExactIf(metric, task = 'answers'), countIf(NOT (low <= value AND value <= high)), countIf(metric = 'nll_gain' AND stderr > 0 AND low < high), countIf(metric = 'kl') FROM scores"+of+" AND task IN ('heldout', 'answers')", 13, 13, 0, 3, 3)
	equal("a gain is the difference of two likelihoods", `SELECT abs((a.value - b.value) - g.value) < 1e-6 FROM (SELECT * FROM scores`+of+` AND metric = 'nll' AND phase = 'sft') AS a,
		(SELECT * FROM scores`+of+` AND metric = 'nll' AND phase = 'spin' AND iteration = 1) AS b, (SELECT * FROM scores`+of+` AND metric = 'nll_gain' AND phase = 'spin' AND iteration = 1) AS g`, 1)
	equal("no stop rule", "SELECT any(played), any(stop_reason) FROM runs FINAL"+of, iterations, "")
	equal("best checkpoint", "SELECT any(nll) = (SELECT min(value) FROM scores"+of+" AND metric = 'nll' AND phase IN ('sft', 'spin')), count() FROM best_checkpoint"+of, 1, 1)
	schema, err := archive.Schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range schema { // each view has something to say on a real run, but where nothing is said twice
		if table.View && !strings.HasSuffix(table.Name, "duplicates") {
			equal("the view "+table.Name, "SELECT count() > 0 FROM "+table.Name+of, 1)
		}
	}
	equal("likelihood", "SELECT min(value > 0 AND n = 6 AND stderr > 0) FROM scores"+of+" AND metric = 'nll'", 1)
	equal("summary", "SELECT count(), min(samples), min(loss_first), sum(pairs) FROM iteration_summary"+of, iterations, (trained+heldout)*draws, math.Ln2, trained*draws*3)
	if slices.Contains(r.weights, spec.Model.SHA256) || r.weights[0] == r.weights[1] {
		t.Errorf("training changed nothing: %v", r.weights)
	}
}

// playReversed plays a run without generators: the games of another run of the same spec arrive when
// all tasks of the iteration are out, the last one first.
func playReversed(t *testing.T, archive *store.Store, spec run.Spec) result {
	// What the other run played is gone with its broker, so it is played once more, here, and kept.
	kept := map[uint32][]*event.Game{}
	donor := newPlane(t, archive).start(oneGenerator(2))
	id := donor.submit(spec)
	if err := donor.trainer.Lead(donor.ctx, id); err != nil {
		t.Fatal(err)
	}
	err := donor.admin.Read(donor.ctx, bus.ReadConfig{Stream: bus.Games}, func(d bus.Delivery) error {
		g := d.Message.(*event.Game)
		kept[g.GetIteration()] = append(kept[g.GetIteration()], g)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	donor.finish(id)
	donor.stop()

	s := newPlane(t, archive).start(fleet{threads: 1})
	defer s.stop()
	id = s.submit(spec)
	var players sync.WaitGroup
	defer players.Wait()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	players.Go(func() {
		chunks := 0 // nobody takes them
		for it := uint32(0); int(it) < iterations; it++ {
			chunks += len(run.PlanChunks(make([]int, trained), heldout, spec.ChunkSize(int(it))))
			if err := s.allQueued(ctx, id, chunks); err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				return
			}
			games := kept[it]
			slices.Reverse(games)
			for _, g := range games {
				if _, err := s.admin.PublishOnce(ctx, renamed(g, id)); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		}
	})
	if err := s.trainer.Lead(s.ctx, id); err != nil {
		t.Fatal(err)
	}
	s.finish(id)
	return s.result(id)
}

// allQueued waits until all tasks of an iteration are in the queue.
func (s *services) allQueued(ctx context.Context, id string, chunks int) error {
	for {
		waiting, _, err := s.admin.QueueDepth(ctx, id)
		if waiting == chunks || ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !strings.Contains(err.Error(), "not found") {
			return err
		}
		time.Sleep(time.Millisecond) // between two looks
	}
}

// renamed is a game as another run's.
func renamed(g *event.Game, runID string) *event.Game {
	g = proto.CloneOf(g)
	g.RunId = runID
	for _, d := range append(g.Draws[:len(g.Draws):len(g.Draws)], g.Kept...) {
		d.SampleId = event.SampleID(runID, d.GetIteration(), g.GetPromptId(), d.GetDraw())
	}
	return g
}

// playStopped plays a run that is stopped in each of its stages, and goes on in the same folder each
// time.
func playStopped(t *testing.T, archive *store.Store, spec run.Spec) result {
	p := newPlane(t, archive)
	id := ""
	for _, at := range []struct {
		what, stream string
		kind         string
		more         []string
		count        int // messages after which to stop
	}{
		{"while fine-tuning", bus.Steps, event.Steps, []string{"0", "sft"}, 2},
		{"while games are played", bus.Games, event.Games, []string{"0"}, 5},
		{"while training", bus.Steps, event.Steps, []string{"0", "spin"}, 3},
		{"when a checkpoint is out", bus.Checkpoints, event.Checkpoints, []string{"1"}, 1},
		{"while mixed games are played", bus.Games, event.Games, []string{"1"}, 1},
		{"while a checkpoint is measured", bus.Scores, event.Scores, []string{"0"}, 4},
		{"before the end", bus.Steps, event.Steps, []string{"0", "control"}, 1},
	} {
		s := p.start(oneGenerator(2))
		if id == "" {
			id = s.submit(spec)
		}
		s.stopAfter(bus.ReadConfig{Stream: at.stream, Filters: []string{event.Filter(id, at.kind, at.more...)}, Follow: true}, at.count)
		if err := s.trainer.Lead(s.ctx, id); err != nil && !errors.Is(context.Cause(s.ctx), errStopped) {
			t.Fatalf("stopped %s: %v", at.what, err)
		}
		s.stop()
	}
	s := p.start(oneGenerator(1))
	defer s.stop()
	if err := s.trainer.Lead(s.ctx, id); err != nil {
		t.Fatal(err)
	}
	s.finish(id)
	got := s.result(id)
	t.Run("rows", func(t *testing.T) { checkRows(t, archive, spec, got) })
	return got
}

// stopAfter stops all services after some messages.
func (s *services) stopAfter(what bus.ReadConfig, count int) {
	s.running.Go(func() {
		seen := 0
		_ = s.admin.Read(s.ctx, what, func(bus.Delivery) error {
			if seen++; seen == count {
				s.cancel(errStopped)
			}
			return nil
		})
	})
}

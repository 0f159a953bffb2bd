package store_test

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

func TestViews(t *testing.T) {
	s := storetest.Open(t)
	b := play("r1", "gen-a", epoch)
	insert(t, s, "1", b)
	insert(t, s, "2", play("other", "gen-b", epoch))
	insert(t, s, "again", b) // views count each row once
	where := " WHERE run_id = 'r1' "
	for _, c := range []struct{ name, sql, want string }{
		{"trl_metrics", "SELECT iteration, step, epoch, `rewards/chosen`, `rewards/rejected`, `rewards/accuracies`, `rewards/margins`, `logps/chosen`, `logps/rejected`, `ref_logps/chosen`, `ref_logps/rejected`, nll_loss, num_tokens FROM trl_metrics" + where + "ORDER BY iteration, step LIMIT 1 OFFSET 6",
			"1\t3\t2\t0.5\t-0.25\t0.75\t0.75\t-10\t-20\t-15\t-17.5\t3.3\t300"},
		{"spin_metrics", "SELECT count(), sum(`rewards/real`), sum(`rewards/generated`), sum(`rewards/margins`), sum(`logps/real`), any(learning_rate) FROM spin_metrics" + where, "8\t4\t-2\t6\t-80\t5e-7"},
		{"margin_percentiles", "SELECT iteration, epoch, pairs, mean, p05, p50, p95, accuracy FROM margin_percentiles" + where + "ORDER BY iteration, epoch LIMIT 1 OFFSET 3", "1\t2\t16\t0.5\t-1\t1\t2\t0.5"},
		{"generator_throughput", "SELECT iteration, generator, minute, samples, tokens, tokens_per_s, retried, latency_ms_p50, latency_ms_p95 FROM generator_throughput" + where + "ORDER BY iteration LIMIT 1", "0\tgen-a\t2026-11-24 12:00:00\t12\t36\t0.6\t6\t250\t250"},
		{"score_progress", "SELECT task, metric, iteration, value, gain FROM score_progress" + where + "ORDER BY metric, iteration LIMIT 1 OFFSET 1", "heldout\taccuracy\t2\t0.75\t0.25"},
		{"answers", "SELECT count(), uniqExact(prompt_id, draw), any(iterations), countIf(startsWith(texts[2], 'model answer ' || draw || ' of iteration 1')) FROM answers" + where, "12\t12\t[0,1]\t12"},
		{"lineage", "SELECT count(), countIf(prompt != '' AND real != '' AND weights_sha256 != '') FROM lineage" + where, "24\t24"},
		{"lineage", "SELECT used FROM lineage" + where + "AND sample_id = 'r1/0/p3/1'", "[(0,1,2),(0,2,4),(1,1,2),(1,2,4)]"},
		{"lineage", "SELECT used FROM lineage" + where + "AND sample_id = 'r1/1/p3/1'", "[(1,1,2),(1,2,4)]"},
		{"lineage", "SELECT used FROM lineage" + where + "AND sample_id = 'r1/1/p5/0'", "[]"}, // held out
		{"score_progress", "SELECT round(low, 3), round(high, 3), round(gain_stderr, 4) FROM score_progress" + where + "AND metric = 'accuracy' AND iteration = 2", "0.57\t0.94\t0.1414"},
		{"generators", "SELECT generator, games, samples, tokens, round(seconds, 3), retried FROM generators" + where + "AND iteration = 1", "gen-a\t6\t12\t36\t0.255\t6"},
		{"prompt_margins", "SELECT prompt_id, epoch, margin, worst, pairs, lost, prompt FROM prompt_margins" + where + "AND iteration = 1 AND lost > 0 ORDER BY margin", "p0\t2\t-1\t-1\t4\t4\tquestion 0?\np1\t2\t0\t0\t4\t4\tquestion 1?"},
		{"worst_pairs", "SELECT place, round(loss, 4), prompt_id, sample_iteration, draw, prompt, startsWith(generated, 'model answer 1 of iteration 0 to 0') FROM worst_pairs" + where + "AND iteration = 1 AND epoch = 2 ORDER BY place LIMIT 1 OFFSET 1", "2\t0.4931\tp0\t0\t1\tquestion 0?\t1"},
		{"checkpoint_lineage", "SELECT count(), uniqExact(sample_id), groupUniqArray(iteration), arraySort(groupUniqArray(right(sampled_by, 2))) FROM checkpoint_lineage" + where + "AND endsWith(weights_sha256, '66')", "32\t16\t[1]\t['64','65']"},
		{"best_checkpoint", "SELECT phase, iteration, right(weights_sha256, 2), nll, round(nll_low, 2), round(nll_high, 2), files, length(file_sha256s) FROM best_checkpoint" + where, "spin\t1\t65\t1.5\t1.32\t1.69\t['model.safetensors']\t1"},
		{"duplicates", "SELECT count() FROM duplicates" + where, "0"},
		{"engine_drift", "SELECT iteration, fingerprint != '', samples, tokens, mean, mean_abs, largest FROM engine_drift" + where + "ORDER BY iteration LIMIT 1", "0\t1\t12\t36\t0\t0\t0"},
	} {
		if got := ask(t, s, c.sql); got != c.want {
			t.Errorf("%s\n%s\n got %q\nwant %q", c.name, c.sql, got, c.want)
		}
	}
}

// Two answers that differ in case and one far word are near duplicates; a copy is a duplicate.
func TestDuplicates(t *testing.T) {
	s := storetest.Open(t)
	b := play("r1", "gen-a", epoch)
	const text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
	for i, answer := range []string{text, text, "One" + text[3:], "something else entirely that shares no three words with all of these others"} {
		b.Samples[i].Text, b.Samples[i].NTokens = answer, 14
	}
	insert(t, s, "1", b)
	for _, c := range []struct{ sql, want string }{
		{"SELECT answer, copies, prompts, iterations, examples FROM duplicates WHERE run_id = 'r1'", text + "\t2\t1\t[0]\t[(0,'p0',0),(0,'p0',1)]"},
		{"SELECT samples, texts, prompts FROM near_duplicates WHERE run_id = 'r1'", "3\t2\t2"},
	} {
		if got := ask(t, s, c.sql); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.sql, got, c.want)
		}
	}
}

func TestSummaries(t *testing.T) {
	s := storetest.Open(t)
	b := play("r1", "gen-a", epoch)
	// Iteration 2 has just begun: nothing but its row is there.
	b.Iterations = append(b.Iterations, store.Iteration{RunID: "r1", Iteration: 2, State: "generating", StartedAt: epoch})
	insert(t, s, "1", b)
	got, err := s.Summaries(t.Context(), "r1")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 {
		t.Fatalf("%d rows", len(got))
	}
	x := got[1]
	for _, c := range []struct {
		name string
		got  *float64
		want float64
	}{
		{"loss_first", x.LossFirst, 0.693147}, {"loss_last", x.LossLast, 0.393147}, {"margin", x.Margin, 0.75}, {"accuracy", x.Accuracy, 0.75},
		{"heldout_accuracy", x.HeldoutAccuracy, 0.75}, {"its stderr", x.HeldoutAccuracyStderr, 0.1}, {"heldout_nll", x.HeldoutNLL, 1.75},
		{"entropy", x.Entropy, 1.5}, {"length_real", x.LengthReal, 3}, {"length_generated", x.LengthGenerated, 3}, {"stopped", x.Stopped, 0.5},
		{"sample tokens/s", x.SampleTokensPerS, 36 / (0.25 + 5*1037e-6)}, {"train tokens/s", x.TrainTokensPerS, 200}, {"seconds", x.Seconds, 10},
	} {
		if c.got == nil || !(math.Abs(*c.got-c.want) <= 1e-3*math.Abs(c.want)) {
			t.Errorf("%s = %v, want %g", c.name, show(c.got), c.want)
		}
	}
	if *x.Samples != 12 || *x.Pairs != 16 || *x.Steps != 4 || x.OpponentSHA256 != b.Iterations[1].OpponentSHA256 || x.WeightsSHA256 != b.Iterations[1].WeightsSHA256 {
		t.Errorf("%+v", x)
	}
	if y := got[2]; y.Samples != nil || y.LossFirst != nil || y.HeldoutAccuracy != nil || y.Seconds != nil || y.State != "generating" {
		t.Errorf("an iteration that has just begun: %+v", y)
	}
}

func show(x *float64) string {
	if x == nil {
		return "NULL"
	}
	return fmt.Sprint(*x)
}

func TestCompare(t *testing.T) {
	s := storetest.Open(t)
	insert(t, s, "1", play("r1", "gen-a", epoch))
	got, err := s.Compare(t.Context(), "r1", "heldout", 3)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].PromptID != "p4" || got[1].PromptID != "p5" {
		t.Fatalf("%+v", got)
	}
	x := got[1]
	if x.Prompt != "question 5?" || !strings.HasPrefix(x.Real, "human") || !reflect.DeepEqual(x.Iterations, []uint32{0, 1}) ||
		!strings.HasPrefix(x.Texts[1], "model answer 0 of iteration 1 to 5") || !reflect.DeepEqual(x.Logps, []float64{-50, -150}) {
		t.Errorf("%+v", x)
	}
}

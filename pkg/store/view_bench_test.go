package store_test

import (
	"io"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// BenchmarkViews asks each view what people ask it, of a run of four iterations with 1,000,000 samples of 64 tokens and about 300 bytes and 1,000,000
// pairs, made by the engine itself. Nothing that an analyst waits for should take a second.
func BenchmarkViews(b *testing.B) {
	s := storetest.Open(b)
	for _, sql := range []string{
		`INSERT INTO runs (run_id, created_at) VALUES ('r', now64(6))`,
		`INSERT INTO prompts (run_id, prompt_id, position, split, prompt, real)
			SELECT 'r', leftPad(toString(number), 8, '0'), number, if(number % 10 = 0, 'heldout', 'train'), 'what of ' || toString(number) || '?', 'that is so' FROM numbers(250000)`,
		`INSERT INTO iterations (run_id, iteration, opponent_sha256, weights_sha256, started_at, finished_at)
			SELECT 'r', number, hex(SHA256(toString(number))), hex(SHA256(toString(number + 1))), now64(6) - 9, now64(6) FROM numbers(4)`,
		`INSERT INTO samples (run_id, iteration, prompt_id, draw, split, weights_sha256, text, n_tokens, logp, finish_reason, entropy, generator, attempt, latency_ms, created_at)
			SELECT 'r', number % 4 AS t, leftPad(toString(intDiv(number, 4)), 8, '0'), 0, if(intDiv(number, 4) % 10 = 0, 'heldout', 'train'), hex(SHA256(toString(t))),
				arrayStringConcat(arrayMap(i -> ['time', 'person', 'year', 'way', 'day', 'thing', 'man', 'world', 'life', 'hand', 'part', 'child', 'eye', 'woman', 'place', 'work'][1 + cityHash64(number % 999983, i) % 16], range(56)), ' '),
				64, -90, 'stop', 2, 'gen-' || toString(number % 8), 1, 900, now64(6) - number / 1000
			FROM numbers(1000000)`,
		`INSERT INTO pairs (run_id, iteration, epoch, step, prompt_id, draw, sample_iteration, loss, margin, beta)
			SELECT 'r', number % 4 AS t, 1, 1 + intDiv(number, 512), leftPad(toString(intDiv(number, 4)), 8, '0'), 0, t, 0.6 + (cityHash64(number) % 1000) / 5000, 0.1 - (cityHash64(number) % 1000) / 5000, 0.1
			FROM numbers(1000000)`,
		`INSERT INTO steps (run_id, phase, iteration, step, epoch, steps, loss, margin, tokens, seconds) SELECT 'r', 'spin', number % 4, 1 + intDiv(number, 4), 1, 500, 0.6, 0.1, 9999, 1 FROM numbers(2000)`,
		`INSERT INTO scores (run_id, iteration, phase, task, metric, split, value, stderr, n)
			SELECT 'r', number % 5, 'spin', 'task' || toString(intDiv(number, 5)), 'accuracy', 'test', 0.5, 0.01, 100 FROM numbers(100)`,
	} {
		if err := s.Query(b.Context(), sql, "Null", io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	for _, q := range []struct{ name, sql string }{
		{"trl_metrics", "SELECT * FROM trl_metrics WHERE run_id = 'r' ORDER BY iteration, step"},
		{"spin_metrics", "SELECT * FROM spin_metrics WHERE run_id = 'r' ORDER BY iteration, step"},
		{"iteration_summary", "SELECT * FROM iteration_summary WHERE run_id = 'r' ORDER BY iteration"},
		{"margin_percentiles", "SELECT * FROM margin_percentiles WHERE run_id = 'r'"},
		{"generator_throughput", "SELECT * FROM generator_throughput WHERE run_id = 'r' ORDER BY minute"},
		{"generators", "SELECT * FROM generators WHERE run_id = 'r' AND iteration = 1 ORDER BY tokens_per_s LIMIT 1"},
		{"score_progress", "SELECT * FROM score_progress WHERE run_id = 'r'"},
		{"best_checkpoint", "SELECT * FROM best_checkpoint WHERE run_id = 'r'"},
		{"answers", "SELECT * FROM answers WHERE run_id = 'r' AND prompt_id = '00000123'"},
		{"answers_page", "SELECT * FROM answers WHERE run_id = 'r' AND prompt_id IN (SELECT prompt_id FROM prompts WHERE run_id = 'r' AND split = 'heldout' ORDER BY position LIMIT 8)"},
		{"lineage", "SELECT * FROM lineage WHERE run_id = 'r' AND iteration = 1 AND prompt_id = '00000123'"},
		{"prompt_margins", "SELECT prompt_id, prompt, margin FROM prompt_margins WHERE run_id = 'r' AND iteration = 3 AND lost > 0 ORDER BY margin LIMIT 100"},
		{"worst_pairs", "SELECT * FROM worst_pairs WHERE run_id = 'r' AND iteration = 3 ORDER BY place"},
		{"checkpoint_lineage", "SELECT sampled_by, count(), min(step), max(step) FROM checkpoint_lineage WHERE run_id = 'r' AND weights_sha256 = hex(SHA256('3')) GROUP BY sampled_by"},
		{"duplicates", "SELECT * FROM duplicates WHERE run_id = 'r' ORDER BY copies DESC LIMIT 100"},
		{"near_duplicates", "SELECT * FROM near_duplicates WHERE run_id = 'r' ORDER BY samples DESC LIMIT 100"},
		{"sampled_by_weights", "SELECT prompt_id, text FROM samples FINAL WHERE run_id = 'r' AND weights_sha256 = hex(SHA256('2')) LIMIT 1000"},
	} {
		b.Run(q.name, func(b *testing.B) {
			for b.Loop() {
				if err := s.Query(b.Context(), q.sql, "Native", io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

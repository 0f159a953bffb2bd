package store

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Summary is a row of the view iteration_summary. A nil figure is not there yet.
type Summary struct {
	RunID                 string   `ch:"run_id"`
	Iteration             uint32   `ch:"iteration"`
	State                 string   `ch:"state"`
	Samples               *uint64  `ch:"samples"`
	Pairs                 *uint64  `ch:"pairs"` // of epoch 1
	Steps                 *uint64  `ch:"steps"`
	LossFirst             *float64 `ch:"loss_first"`
	LossLast              *float64 `ch:"loss_last"` // mean of the last quarter of the steps, as Margin and Accuracy
	Margin                *float64 `ch:"margin"`
	Accuracy              *float64 `ch:"accuracy"`
	HeldoutAccuracy       *float64 `ch:"heldout_accuracy"` // of theta_(t+1), as HeldoutNLL
	HeldoutAccuracyStderr *float64 `ch:"heldout_accuracy_stderr"`
	HeldoutNLL            *float64 `ch:"heldout_nll"`
	Entropy               *float64 `ch:"entropy"`
	LengthReal            *float64 `ch:"length_real"`
	LengthGenerated       *float64 `ch:"length_generated"`
	Stopped               *float64 `ch:"stopped"` // share of samples that ended their turn
	OpponentSHA256        string   `ch:"opponent_sha256"`
	WeightsSHA256         string   `ch:"weights_sha256"`
	SampleTokensPerS      *float64 `ch:"sample_tokens_per_s"`
	TrainTokensPerS       *float64 `ch:"train_tokens_per_s"`
	Seconds               *float64 `ch:"seconds"`
}

// Answers is a prompt with its human answer and what each iteration answered:
// Texts[k], with log-probability Logps[k], is the answer of Iterations[k].
type Answers struct {
	PromptID   string    `ch:"prompt_id"`
	Position   uint64    `ch:"position"`
	Split      string    `ch:"split"`
	Draw       uint32    `ch:"draw"`
	Prompt     string    `ch:"prompt"`
	Real       string    `ch:"real"`
	Iterations []uint32  `ch:"iterations"`
	Texts      []string  `ch:"texts"`
	Logps      []float64 `ch:"logps"`
}

// Runs lists the runs, the newest first.
func (s *Store) Runs(ctx context.Context) ([]Run, error) {
	var out []Run
	return out, s.list(ctx, &out, "SELECT * FROM runs FINAL ORDER BY created_at DESC, run_id")
}

// Summaries is a run's table, an iteration a row.
func (s *Store) Summaries(ctx context.Context, run string) ([]Summary, error) {
	var out []Summary
	return out, s.list(ctx, &out, "SELECT * FROM iteration_summary WHERE run_id = {run:String} ORDER BY iteration", clickhouse.Named("run", run))
}

// Steps are the steps of one phase (sft, spin, control), in order.
func (s *Store) Steps(ctx context.Context, run, phase string) ([]Step, error) {
	var out []Step
	return out, s.list(ctx, &out, "SELECT * FROM steps FINAL WHERE run_id = {run:String} AND phase = {phase:String} ORDER BY iteration, step",
		clickhouse.Named("run", run), clickhouse.Named("phase", phase))
}

// Scores are the run's scores, by task, metric, split, iteration and phase.
func (s *Store) Scores(ctx context.Context, run string) ([]Score, error) {
	var out []Score
	return out, s.list(ctx, &out, "SELECT * FROM scores FINAL WHERE run_id = {run:String} ORDER BY task, metric, split, iteration, phase", clickhouse.Named("run", run))
}

// Compare puts the answers to the first n prompts of a split side by side, the
// first draw of each.
func (s *Store) Compare(ctx context.Context, run, split string, n int) ([]Answers, error) {
	var out []Answers
	return out, s.list(ctx, &out, `SELECT prompt_id, position, split, draw, prompt, real, iterations, texts, logps FROM answers
		WHERE run_id = {run:String} AND split = {split:String} AND draw = 0 ORDER BY position LIMIT {n:UInt32}`,
		clickhouse.Named("run", run), clickhouse.Named("split", split), clickhouse.Named("n", fmt.Sprint(n)))
}

func (s *Store) list(ctx context.Context, out any, sql string, args ...any) error {
	if err := s.db.Select(ctx, out, sql, args...); err != nil {
		return fmt.Errorf("query clickhouse: %w", err)
	}
	return nil
}

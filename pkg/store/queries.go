package store

import (
	"context"
	"errors"
	"fmt"
	"time"

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
		WHERE run_id = {run:String} AND draw = 0 AND prompt_id IN
			(SELECT prompt_id FROM prompts FINAL WHERE run_id = {run:String} AND split = {split:String} ORDER BY position LIMIT {n:UInt32})
		ORDER BY position`,
		clickhouse.Named("run", run), clickhouse.Named("split", split), clickhouse.Named("n", fmt.Sprint(n)))
}

// Checkpoints are the run's checkpoints in the order in which they were made.
func (s *Store) Checkpoints(ctx context.Context, run string) ([]Checkpoint, error) {
	var out []Checkpoint
	return out, s.list(ctx, &out, "SELECT * FROM checkpoints FINAL WHERE run_id = {run:String} ORDER BY created_at, iteration", clickhouse.Named("run", run))
}

// Best is a row of the view best_checkpoint.
type Best struct {
	RunID         string   `ch:"run_id"`
	Phase         string   `ch:"phase"`
	Iteration     uint32   `ch:"iteration"`
	WeightsSHA256 string   `ch:"weights_sha256"`
	NLL           float64  `ch:"nll"` // held out, nats per token, with its 95 % interval
	NLLLow        float64  `ch:"nll_low"`
	NLLHigh       float64  `ch:"nll_high"`
	URI           string   `ch:"uri"`
	Files         []string `ch:"files"`
	FileSHA256s   []string `ch:"file_sha256s"`
}

// ErrNotFound says that what was asked for is not recorded.
var ErrNotFound = errors.New("not recorded")

// Best is the run's checkpoint with the lowest held-out human NLL. ErrNotFound: none is measured.
func (s *Store) Best(ctx context.Context, run string) (Best, error) {
	var out []Best
	err := s.list(ctx, &out, "SELECT * FROM best_checkpoint WHERE run_id = {run:String}", clickhouse.Named("run", run))
	if err != nil {
		return Best{}, err
	}
	if len(out) == 0 || len(out[0].Files) != len(out[0].FileSHA256s) {
		return Best{}, fmt.Errorf("best checkpoint of run %s: %w", run, ErrNotFound)
	}
	return out[0], nil
}

// Events are the newest n events of the run, the worst first.
func (s *Store) Events(ctx context.Context, run string, n int) ([]Event, error) {
	var out []Event
	return out, s.list(ctx, &out, `SELECT * FROM events FINAL WHERE run_id = {run:String}
		ORDER BY indexOf(['alarm', 'warn', 'info'], level::String), created_at DESC, id LIMIT {n:UInt32}`,
		clickhouse.Named("run", run), clickhouse.Named("n", fmt.Sprint(n)))
}

// Rate is what a generator sampled in a slice of time.
type Rate struct {
	Generator  string  `ch:"generator"`
	Slice      uint64  `ch:"slice"` // from 0, at the run's first sample
	TokensPerS float64 `ch:"tokens_per_s"`
}

// Rates are the generators' rates over the clock, in slices of width seconds: an answer's tokens are
// spread over the time that its game took.
func (s *Store) Rates(ctx context.Context, run string, width float64) ([]Rate, error) {
	var out []Rate
	return out, s.list(ctx, &out, `WITH {width:Float64} AS w,
			(SELECT min(toUnixTimestamp64Micro(created_at) / 1e6 - latency_ms / 1e3) FROM samples FINAL WHERE run_id = {run:String}) AS began,
			toUnixTimestamp64Micro(created_at) / 1e6 - began AS until, greatest(until - greatest(latency_ms / 1e3, 1e-3), 0) AS since
		SELECT generator, arrayJoin(range(toUInt64(floor(since / w)), toUInt64(floor(until / w)) + 1)) AS slice,
			sum(n_tokens * greatest(least(until, (slice + 1) * w) - greatest(since, slice * w), 0) / greatest(until - since, 1e-3)) / w AS tokens_per_s
		FROM samples FINAL WHERE run_id = {run:String} GROUP BY generator, slice ORDER BY generator, slice`,
		clickhouse.Named("run", run), clickhouse.Named("width", fmt.Sprint(width)))
}

// SampledBetween is when the run's first sample was begun, and the seconds from then to its last one;
// 0: there is none.
func (s *Store) SampledBetween(ctx context.Context, run string) (began time.Time, span float64, err error) {
	var out []struct {
		N     uint64 `ch:"n"`
		Began int64  `ch:"began"`
		Ended int64  `ch:"ended"`
	}
	err = s.list(ctx, &out, `SELECT count() AS n, min(toUnixTimestamp64Micro(created_at) - toInt64(latency_ms * 1000)) AS began, max(toUnixTimestamp64Micro(created_at)) AS ended
		FROM samples FINAL WHERE run_id = {run:String}`, clickhouse.Named("run", run))
	if err != nil || len(out) == 0 || out[0].N == 0 {
		return time.Time{}, 0, err
	}
	return time.UnixMicro(out[0].Began).UTC(), float64(out[0].Ended-out[0].Began) / 1e6, nil
}

// Sampled is what a run's iteration has of samples.
type Sampled struct {
	Iteration     uint32            `ch:"iteration"`
	WeightsSHA256 string            `ch:"weights_sha256"`
	Fingerprint   string            `ch:"fingerprint"`
	Splits        map[string]uint64 `ch:"splits"` // how many are train, and heldout
}

// Sampled counts a run's samples, an iteration an entry, in order.
func (s *Store) Sampled(ctx context.Context, run string) ([]Sampled, error) {
	var out []Sampled
	return out, s.list(ctx, &out, `SELECT iteration, any(weights_sha256)::String AS weights_sha256, any(fingerprint)::String AS fingerprint,
			map('train', countIf(split = 'train'), 'heldout', countIf(split = 'heldout')) AS splits
		FROM samples FINAL WHERE run_id = {run:String} GROUP BY iteration ORDER BY iteration`, clickhouse.Named("run", run))
}

func (s *Store) list(ctx context.Context, out any, sql string, args ...any) error {
	if err := s.db.Select(ctx, out, sql, args...); err != nil {
		return fmt.Errorf("query clickhouse: %w", err)
	}
	return nil
}

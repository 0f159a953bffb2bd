package command

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/store"
)

// runSummary is the file that --summary names.
type runSummary struct {
	RunID           string             `json:"run_id"`
	Iterations      []iterationSummary `json:"iterations"`
	RowsDigest      string             `json:"rows_digest"`
	Seconds         float64            `json:"seconds"` // of this process
	PeakMemoryBytes int64              `json:"peak_memory_bytes"`
}

// iterationSummary is a row of the table.
type iterationSummary struct {
	Iteration        uint32  `json:"iteration"`
	Samples          uint64  `json:"samples"`
	Pairs            uint64  `json:"pairs"`
	Steps            uint64  `json:"steps"`
	LossFirst        float64 `json:"loss_first"`
	LossLast         float64 `json:"loss_last"`
	Margin           float64 `json:"margin"`
	Accuracy         float64 `json:"accuracy"`
	HeldoutAccuracy  float64 `json:"heldout_accuracy"`
	HeldoutNLL       float64 `json:"heldout_nll"`
	WeightsSHA256    string  `json:"weights_sha256"`
	CheckpointDir    string  `json:"checkpoint_dir"`
	SampleTokensPerS float64 `json:"sample_tokens_per_s"`
	TrainTokensPerS  float64 `json:"train_tokens_per_s"`
	Seconds          float64 `json:"seconds"`
}

// report ends a run: the table, some answers side by side, where things lie, and the summary.
func (c *runCommand) report(ctx context.Context, l *local, id string, s Streams, took time.Duration) error {
	dirs, err := placeCheckpoints(ctx, l, &c.places, id)
	if err != nil {
		return err
	}
	rows, err := l.store.Summaries(ctx, id)
	if err != nil {
		return err
	}
	scores, err := l.store.Scores(ctx, id)
	if err != nil {
		return err
	}
	sum := runSummary{RunID: id, Seconds: took.Seconds(), PeakMemoryBytes: peakMemory()}
	for _, r := range rows {
		sum.Iterations = append(sum.Iterations, iterationSummary{
			Iteration: r.Iteration, Samples: value(r.Samples), Pairs: value(r.Pairs), Steps: value(r.Steps), LossFirst: value(r.LossFirst), LossLast: value(r.LossLast),
			Margin: value(r.Margin), Accuracy: value(r.Accuracy), HeldoutAccuracy: value(r.HeldoutAccuracy), HeldoutNLL: value(r.HeldoutNLL),
			WeightsSHA256: r.WeightsSHA256, CheckpointDir: dirs[fmt.Sprintf("spin-%d", r.Iteration+1)],
			SampleTokensPerS: value(r.SampleTokensPerS), TrainTokensPerS: value(r.TrainTokensPerS), Seconds: value(r.Seconds),
		})
	}
	if sum.RowsDigest, err = l.store.RowsDigest(ctx, id); err != nil {
		return err
	}
	printTable(s.Out, rows, scores)
	if r, _, err := (bus.State[run.Run]{Bucket: l.bus.Control()}).Load(ctx, run.Key(id)); err == nil && r.Stop != nil {
		fmt.Fprintf(s.Out, "\nStopped early, after %d of %d iterations: %s.\n", r.Stop.Played, r.Spec.Iterations, r.Stop.Reason)
	}
	answers, err := l.store.Compare(ctx, id, "heldout", 3)
	if err != nil {
		return err
	}
	printAnswers(s.Out, answers)
	fmt.Fprintf(s.Out, "\nCheckpoints, each a directory that transformers loads: %s/%s\n", c.checkpoints(), id)
	fmt.Fprintf(s.Out, "%.0f s, peak memory %.1f GiB, rows_digest %s\n", took.Seconds(), float64(sum.PeakMemoryBytes)/(1<<30), sum.RowsDigest)
	fmt.Fprintf(s.Out, "\nAsk for more, for example:\n  bin/spin sql --dir %s 'SELECT * FROM iteration_summary'\n  bin/spin sql --dir %s \"SELECT prompt, real, texts FROM answers WHERE split = 'heldout' LIMIT 5\"\n", c.places.dir, c.places.dir)
	if c.summary == "" {
		return nil
	}
	return writeSummary(c.summary, s.Out, sum)
}

// value of a figure, 0 where it is not there.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// printTable prints the iterations, and beside them the held-out figures of all weights: those that
// the run began with, and the control.
func printTable(w io.Writer, rows []store.Summary, scores []store.Score) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\niteration\tloss first → last\tmargin\taccuracy\theld-out accuracy\tentropy\tlength (human)\tsampling\ttraining\ttime\t")
	for _, r := range rows {
		fmt.Fprintf(t, "%d\t%.4f → %.4f\t%+.3f\t%.2f\t%.3f ± %.3f\t%.2f\t%.1f (%.1f)\t%.0f tok/s\t%.0f tok/s\t%.0f s\t\n", r.Iteration, value(r.LossFirst), value(r.LossLast),
			value(r.Margin), value(r.Accuracy), value(r.HeldoutAccuracy), 1.96*value(r.HeldoutAccuracyStderr), value(r.Entropy), value(r.LengthGenerated), value(r.LengthReal),
			value(r.SampleTokensPerS), value(r.TrainTokensPerS), value(r.Seconds))
	}
	t.Flush()
	fmt.Fprintln(w, "\nHeld-out figures, with 95 % intervals. Accuracy is of telling the human answer from the opponent's;")
	fmt.Fprintln(w, "at equal length both are cut to the shorter one. NLL is of the human answers, nats per token.")
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "weights\tNLL\taccuracy\tat equal length\t")
	for _, row := range heldoutRows(scores) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\n", row.name, interval(row.nll), interval(row.accuracy), interval(row.equal))
	}
	t.Flush()
}

// heldoutRow is one set of weights in the table of held-out figures.
type heldoutRow struct {
	name                 string
	nll, accuracy, equal *store.Score
}

func heldoutRows(scores []store.Score) []heldoutRow {
	var rows []heldoutRow
	at := map[string]int{}
	for _, phase := range []string{"base", "sft", "spin", "control"} {
		for i := range scores {
			s := &scores[i]
			if s.Phase != phase || s.Task != "heldout" {
				continue
			}
			key := fmt.Sprintf("%s-%d", s.Phase, s.Iteration)
			if _, ok := at[key]; !ok {
				at[key] = len(rows)
				name := fmt.Sprintf("θ_%d", s.Iteration)
				switch phase {
				case "base":
					name = "as given"
				case "control":
					name = "control: fine-tuning goes on"
				}
				rows = append(rows, heldoutRow{name: name})
			}
			row := &rows[at[key]]
			switch s.Metric {
			case "nll":
				row.nll = s
			case "accuracy":
				row.accuracy = s
			case "accuracy_equal_length":
				row.equal = s
			}
		}
	}
	return rows
}

func interval(s *store.Score) string {
	if s == nil {
		return "–"
	}
	return fmt.Sprintf("%.3f ± %.3f", s.Value, 1.96*s.Stderr)
}

// printAnswers shows prompts with what people and what each iteration's opponent answered.
func printAnswers(w io.Writer, answers []store.Answers) {
	fmt.Fprintln(w, "\nHeld-out prompts, the human answer, and what each iteration's opponent answered:")
	for _, a := range answers {
		fmt.Fprintf(w, "\n  %s\n    human  %s\n", flat(a.Prompt), flat(a.Real))
		for i, text := range a.Texts {
			fmt.Fprintf(w, "    θ_%d    %s\n", a.Iterations[i], flat(text))
		}
	}
}

// flat is a text on one line, cut to what a screen shows, without what would steer a terminal.
func flat(text string) string {
	const most = 200
	text = strings.Join(strings.Fields(text), " ")
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + " …"
	}
	return text
}

package command_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
)

// stepLine and summary are what users read; the names are the contract.
type stepLine struct {
	Step            int
	Epoch           int
	Loss            float64
	Margin          float64
	Accuracy        float64
	RewardReal      float64 `json:"reward_real"`
	RewardGenerated float64 `json:"reward_generated"`
	LogpReal        float64 `json:"logp_real"`
	LogpGenerated   float64 `json:"logp_generated"`
	NLL             float64
	GradNorm        float64 `json:"grad_norm"`
	LR              float64
	Tokens          int
}

type summary struct {
	WeightsSHA256 string  `json:"weights_sha256"`
	CheckpointDir string  `json:"checkpoint_dir"`
	Steps         int     `json:"steps"`
	Pairs         int     `json:"pairs"`
	LossFirst     float64 `json:"loss_first"`
	LossLast      float64 `json:"loss_last"`
	TokensPerS    float64 `json:"train_tokens_per_s"`
	Fingerprint   string  `json:"fingerprint"`
}

// train runs `spin train` on the tiny model in F32 and returns what it wrote.
func train(t *testing.T, args ...string) (summary, []stepLine) {
	t.Helper()
	dir := t.TempDir()
	metrics, sum := filepath.Join(dir, "metrics.jsonl"), filepath.Join(dir, "summary.json")
	mustSpin(t, append([]string{"train", "--model", tiny, "--pairs", pairs, "--dtype", "f32", "--metrics", metrics, "--summary", sum}, args...)...)
	var s summary
	must(t, json.Unmarshal([]byte(read(t, sum)), &s))
	return s, lines[stepLine](t, read(t, metrics))
}

// asTRL are the flags of testdata/trl.json's settings.
func asTRL() []string {
	return []string{"--shuffle=false", "--batch", "4", "--epochs", "2", "--steps", "20", "--lr", "1e-4", "--warmup", "0.13", "--horizon", "30", "--max-grad-norm", "1", "--threads", "2"}
}

// TestTrainAgainstTRL: twenty steps through the command line have the losses, rewards and gradient
// norms of TRL's DPOTrainer on the same pairs. The issue asks for 1e-3.
func TestTrainAgainstTRL(t *testing.T) {
	var golden struct {
		Steps []struct {
			Loss, LR float64
			Chosen   float64 `json:"rewards/chosen"`
			Rejected float64 `json:"rewards/rejected"`
			Accuracy float64 `json:"rewards/accuracies"`
			GradNorm float64 `json:"grad_norm"`
		}
	}
	must(t, json.Unmarshal([]byte(read(t, "../../trainer/train/testdata/trl.json")), &golden))
	dir := filepath.Join(t.TempDir(), "checkpoint")
	sum, steps := train(t, append(asTRL(), "--dir", dir)...)
	if len(steps) != len(golden.Steps) || sum.Steps != len(steps) || sum.Pairs != 40 {
		t.Fatalf("%d steps, summary %+v; want %d of 40 pairs", len(steps), sum, len(golden.Steps))
	}
	if steps[0].Loss != math.Ln2 || steps[0].Margin != 0 || sum.LossFirst != math.Ln2 {
		t.Errorf("first loss %v, margin %v; want ln 2 and 0 exactly", steps[0].Loss, steps[0].Margin)
	}
	worst := map[string]float64{}
	for i, want := range golden.Steps {
		got := steps[i]
		if got.Step != i+1 || got.Epoch != 1+i/10 {
			t.Errorf("line %d is step %d of epoch %d", i+1, got.Step, got.Epoch)
		}
		for _, f := range []struct {
			name           string
			got, want, tol float64
		}{
			{"loss", got.Loss, want.Loss, 1e-5},
			{"learning rate", got.LR, want.LR, 1e-12},
			{"accuracy", got.Accuracy, want.Accuracy, 0},
			{"reward of the real answers", got.RewardReal, want.Chosen, 1e-4},
			{"reward of the generated answers", got.RewardGenerated, want.Rejected, 1e-4},
			{"margin", got.Margin, want.Chosen - want.Rejected, 1e-4},
			{"gradient norm", got.GradNorm, want.GradNorm, 1e-4 * (1 + want.GradNorm)},
		} {
			diff := math.Abs(f.got - f.want)
			worst[f.name] = max(worst[f.name], diff)
			if !(diff <= f.tol) {
				t.Errorf("step %d: %s %v, TRL has %v", i+1, f.name, f.got, f.want)
			}
		}
		if !(got.Tokens > 0 && got.LogpReal < 0 && got.LogpGenerated < 0 && got.NLL > 0) {
			t.Errorf("step %d: %+v", i+1, got)
		}
	}
	t.Logf("largest differences to TRL: %v", worst)
	last := 0.0
	for _, s := range steps[15:] {
		last += s.Loss / 5
	}
	if !(math.Abs(sum.LossLast-last) <= 1e-12) || sum.CheckpointDir != dir || sum.TokensPerS <= 0 || len(sum.WeightsSHA256) != 64 || sum.Fingerprint == "" {
		t.Errorf("summary %+v, want the last quarter's loss %v and the checkpoint in %s", sum, last, dir)
	}
}

// TestTrainIsReproducible: the same command gives the same weights_sha256, on one thread and on two,
// with any memory; another seed gives another.
func TestTrainIsReproducible(t *testing.T) {
	for _, dtype := range []string{"f32", "bf16"} {
		for _, kind := range [][]string{nil, {"--lora-rank", "4"}, {"--objective", "sft"}} {
			run := func(more ...string) string {
				args := append([]string{"--dtype", dtype, "--steps", "3", "--lr", "1e-4", "--warmup", "0", "--micro-tokens", "256"}, kind...)
				sum, _ := train(t, append(args, more...)...)
				return sum.WeightsSHA256
			}
			want := run("--threads", "1")
			for _, more := range [][]string{{"--threads", "1"}, {"--threads", "2"}, {"--threads", "3", "--memory", "1KiB"}} {
				if got := run(more...); got != want {
					t.Errorf("%s %v %v: weights %s, want %s", dtype, kind, more, got, want)
				}
			}
			if got := run("--seed", "2"); got == want {
				t.Errorf("%s %v: another seed gives the same weights", dtype, kind)
			}
		}
	}
}

// TestTrainObjectives: every loss starts at its value for a margin of 0, and falls; SFT lowers the
// real answers' NLL.
func TestTrainObjectives(t *testing.T) {
	for loss, first := range map[string]float64{"logistic": math.Ln2, "hinge": 1, "exponential": 1, "correlation": 1} {
		sum, steps := train(t, "--loss", loss, "--lr", "1e-3", "--warmup", "0", "--epochs", "3")
		if steps[0].Loss != first || !(sum.LossLast < first) {
			t.Errorf("%s: first loss %v, last quarter %v; want %v exactly, then less", loss, steps[0].Loss, sum.LossLast, first)
		}
	}
	sum, steps := train(t, "--objective", "sft", "--lr", "1e-3", "--warmup", "0", "--epochs", "3")
	if steps[0].Loss != steps[0].NLL || !(sum.LossLast < 0.9*sum.LossFirst) {
		t.Errorf("sft: first loss %v, NLL %v, last quarter %v", steps[0].Loss, steps[0].NLL, sum.LossLast)
	}
}

// TestTrainLoRA: the checkpoint of a run with adapters is a whole model: it scores differently from
// the one it came from, and starts the next iteration at ln 2.
func TestTrainLoRA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "merged")
	first, steps := train(t, "--lora-rank", "4", "--lr", "1e-2", "--warmup", "0", "--epochs", "2", "--dir", dir)
	if steps[0].Loss != math.Ln2 || !(first.LossLast < math.Ln2) {
		t.Errorf("first loss %v, last quarter %v", first.LossFirst, first.LossLast)
	}
	next, again := train(t, "--model", dir, "--lora-rank", "4", "--lr", "1e-3", "--warmup", "0", "--shuffle=false")
	if again[0].Loss != math.Ln2 || next.WeightsSHA256 == first.WeightsSHA256 {
		t.Errorf("second iteration: first loss %v, weights %s after %s", again[0].Loss, next.WeightsSHA256, first.WeightsSHA256)
	}
}

// cancelled is a context that is cancelled after it was asked some times whether it is.
type cancelled struct {
	context.Context
	left atomic.Int32
}

func (c *cancelled) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// TestTrainInterrupted: nothing half-written is left, and a checkpoint that was there stays.
func TestTrainInterrupted(t *testing.T) {
	dir := t.TempDir()
	checkpoint := filepath.Join(dir, "checkpoint")
	train(t, "--steps", "1", "--dir", checkpoint)
	before := read(t, filepath.Join(checkpoint, "model.safetensors"))
	for after := range int32(4) {
		ctx := &cancelled{Context: t.Context()}
		ctx.left.Store(after)
		metrics := filepath.Join(dir, "metrics"+strconv.Itoa(int(after)))
		code, stdout, stderr := spin(ctx, "", "train", "--model", tiny, "--pairs", pairs, "--dir", checkpoint, "--metrics", metrics, "--summary", filepath.Join(dir, "summary"))
		if code != 1 || stdout != "" || stderr != "spin: interrupted\n" {
			t.Errorf("exit %d, %q, %q", code, stdout, stderr)
		}
		if n := len(lines[stepLine](t, read(t, metrics))); n != int(after) {
			t.Errorf("%d whole lines of metrics, want %d", n, after)
		}
	}
	if read(t, filepath.Join(checkpoint, "model.safetensors")) != before {
		t.Error("the checkpoint that was there has changed")
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 5 { // the checkpoint and the metrics
		t.Errorf("left behind: %v", entries)
	}
}

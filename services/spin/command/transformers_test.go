package command_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// texts are answers to score, in every layout and with what tokenizers stumble over.
const texts = `{"messages": [{"role": "user", "content": "What is the capital of France?"}, {"role": "assistant", "content": "The capital of France is Paris."}]}
{"prompt": "Name three primes.", "response": "2, 3 and 1234567."}
{"messages": [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hi, how can I help?"}, {"role": "user", "content": "  Was ist größer: π oder e?\n\n(Bitte\tkurz)"}, {"role": "assistant", "content": "π ≈ 3,14 — also π 🙂.\n\n- e ≈ 2,718"}]}
{"prompt": "日本の首都はどこですか?", "response": "東京です。"}
{"prompt": "x", "response": "  leading spaces, and trailing ones  "}
`

// TestTransformersReadsCheckpoints: transformers loads what spin writes, makes the same token ids of
// the same texts, and gives them the same log-probabilities. SPIN_PYTHON names a python that has
// torch and transformers; the default model is what `make model` fetches.
func TestTransformersReadsCheckpoints(t *testing.T) {
	python := os.Getenv("SPIN_PYTHON")
	if python == "" {
		t.Skip("SPIN_PYTHON names no python with torch and transformers")
	}
	dir := t.TempDir()
	in := write(t, dir, "texts.jsonl", texts)
	verify := func(t *testing.T, checkpoint string) {
		t.Helper()
		scores := filepath.Join(t.TempDir(), "scores.jsonl")
		mustSpin(t, "score", "--model", checkpoint, "--dtype", "f32", "--in", in, "--output", scores)
		cmd := exec.CommandContext(t.Context(), python, "../../../bench/peers/verify_checkpoint.py", checkpoint, "--scores", scores, "--in", in)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s\n%s", err, out, stderr.Bytes())
		}
		var report struct {
			Lines, Tokens int
			Texts         bool
		}
		must(t, json.Unmarshal(out, &report))
		if report.Lines != 5 || report.Tokens < 30 || !report.Texts {
			t.Errorf("%s", out)
		}
		t.Logf("%s", out)
	}
	t.Run("trained", func(t *testing.T) {
		checkpoint := filepath.Join(dir, "trained")
		train(t, "--lr", "1e-3", "--dir", checkpoint)
		verify(t, checkpoint)
	})
	t.Run("trained with adapters", func(t *testing.T) {
		checkpoint := filepath.Join(dir, "adapters")
		train(t, "--lr", "1e-3", "--lora-rank", "4", "--dir", checkpoint)
		verify(t, checkpoint)
	})
	t.Run("default model", func(t *testing.T) {
		gguf := defaultModel(t)
		t.Run("exported", func(t *testing.T) {
			checkpoint := filepath.Join(dir, "exported")
			mustSpin(t, "export", "--model", gguf, "--format", "safetensors", "--output", checkpoint)
			if from, to := mustSpin(t, "score", "--model", gguf, "--in", in), mustSpin(t, "score", "--model", checkpoint, "--in", in); from != to {
				t.Error("the exported directory scores differently from the GGUF")
			}
			verify(t, checkpoint)
		})
		t.Run("trained", func(t *testing.T) {
			checkpoint := filepath.Join(dir, "default-trained")
			sum, steps := train(t, "--model", gguf, "--batch", "4", "--steps", "1", "--warmup", "0", "--lr", "1e-5", "--dir", checkpoint)
			t.Logf("%.0f tokens/s, %s, first loss %v", sum.TokensPerS, sum.Fingerprint, steps[0].Loss)
			verify(t, checkpoint)
		})
	})
}

// defaultModel is the file that `make model` fetches.
func defaultModel(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("SPIN_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		must(t, err)
		cache = filepath.Join(base, "spin")
	}
	path := filepath.Join(cache, "SmolLM2-135M-Instruct.Q4_1.gguf")
	if _, err := os.Stat(path); err != nil && os.Getenv("SPIN_MODEL_REQUIRED") == "" {
		t.Skipf("the default model is not there (%v): `make model` fetches it", err)
	}
	return path
}

package command_test

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
)

// scored is a line of `spin score`.
type scored struct {
	PromptIDs   []int32   `json:"prompt_ids"`
	ResponseIDs []int32   `json:"response_ids"`
	TokenLogps  []float64 `json:"token_logps"`
	Logp        float64   `json:"logp"`
}

// TestScoreAgainstTransformers: the default model gives the golden texts transformers' token ids and
// log-probabilities, from the command line, with both ways to write a line.
func TestScoreAgainstTransformers(t *testing.T) {
	type answer struct {
		Text  string
		IDs   []int32
		Logps []float64
	}
	var golden struct {
		Pairs []struct {
			Prompt      string
			PromptIDs   []int32 `json:"prompt_ids"`
			Human, Self answer
		}
	}
	must(t, json.Unmarshal([]byte(read(t, "../../../pkg/model/testdata/goldens.json")), &golden))
	var in strings.Builder
	out := json.NewEncoder(&in)
	for _, p := range golden.Pairs {
		must(t, out.Encode(map[string]string{"prompt": p.Prompt, "response": p.Human.Text}))
		must(t, out.Encode(map[string]any{"messages": []map[string]string{{"role": "user", "content": p.Prompt}, {"role": "assistant", "content": strings.TrimSuffix(p.Self.Text, "<|im_end|>")}}}))
	}
	got := lines[scored](t, mustSpin(t, "score", "--model", defaultModel(t), "--dtype", "f32", "--in", write(t, t.TempDir(), "in.jsonl", in.String())))
	if len(got) != 2*len(golden.Pairs) {
		t.Fatalf("%d lines, want %d", len(got), 2*len(golden.Pairs))
	}
	worst := 0.0
	for i, p := range golden.Pairs {
		for j, want := range []answer{p.Human, p.Self} {
			s := got[2*i+j]
			n := len(want.IDs) // an answer that was cut has no end-of-turn token, which score adds
			if !slices.Equal(s.PromptIDs, p.PromptIDs) || !slices.Equal(s.ResponseIDs[:n], want.IDs) || len(s.ResponseIDs) > n+1 {
				t.Errorf("pair %d answer %d: ids %v, %v; want %v, %v", i, j, s.PromptIDs, s.ResponseIDs, p.PromptIDs, want.IDs)
				continue
			}
			for k, lp := range want.Logps {
				diff := math.Abs(s.TokenLogps[k] - lp)
				worst = max(worst, diff)
				if !(diff <= 1e-4+1e-4*math.Abs(lp)) {
					t.Errorf("pair %d answer %d token %d: logp %v, want %v", i, j, k, s.TokenLogps[k], lp)
				}
			}
		}
	}
	t.Logf("largest |Δ logp| %.2g", worst)
}

// TestScoreDependsOnTheLineAlone: a line's bits are the same whatever is scored with it, in batches of
// any size, on any threads, from a file or from standard input.
func TestScoreDependsOnTheLineAlone(t *testing.T) {
	dir := t.TempDir()
	for _, dtype := range []string{"f32", "bf16"} {
		args := []string{"score", "--model", tiny, "--dtype", dtype}
		want := mustSpin(t, append(args, "--threads", "1", "--in", write(t, dir, "in.jsonl", texts))...)
		for _, s := range lines[scored](t, want) {
			sum := 0.0
			for _, lp := range s.TokenLogps {
				sum += lp
			}
			if len(s.TokenLogps) != len(s.ResponseIDs) || s.ResponseIDs[len(s.ResponseIDs)-1] != 2 || !(math.Abs(sum-s.Logp) <= 1e-5*math.Abs(sum)) {
				t.Errorf("%+v", s)
			}
		}
		code, stdout, stderr := spin(t.Context(), texts, append(args, "--threads", "2", "--batch-tokens", "1", "--in", "-")...)
		if code != 0 || stdout != want {
			t.Errorf("%s, from standard input in small batches: exit %d, %s%s; want %s", dtype, code, stderr, stdout, want)
		}
		backwards := slices.Collect(strings.Lines(texts))
		slices.Reverse(backwards)
		got := slices.Collect(strings.Lines(mustSpin(t, append(args, "--in", write(t, dir, "backwards.jsonl", strings.Join(backwards, "")))...)))
		slices.Reverse(got)
		if strings.Join(got, "") != want {
			t.Errorf("%s, backwards: %s; want %s", dtype, strings.Join(got, ""), want)
		}
	}
}

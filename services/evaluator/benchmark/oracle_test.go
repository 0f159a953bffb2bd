package benchmark_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/pkg/harness"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
	"github.com/seed-8780d58e/spin/services/evaluator/benchmark"
)

// oracle is what make_oracle.py wrote of lm-eval.
type oracle struct {
	Tasks map[string]struct {
		Shots   int
		Version float64
		New     int `json:"max_gen_toks"`
		Results map[string]float64
		Samples []struct {
			Doc       int `json:"doc_id"`
			Filter    string
			Arguments [][]any
			Resps     json.RawMessage
			Filtered  json.RawMessage
			Metrics   map[string]any
		}
	}
}

// TestOracle asks what lm-eval asked, of the same weights: the same prompts and continuations, log-likelihoods within 1e-3
// nats, the same generations, and the same verdict on each question. SPIN_ORACLE, SPIN_ORACLE_DATA and SPIN_ORACLE_MODEL
// name another oracle, its data and its model (`make eval-oracle`).
func TestOracle(t *testing.T) {
	path, dir, weights := "../../../pkg/harness/testdata/oracle.json", "../../../pkg/harness/testdata/data", "../../trainer/train/testdata/tiny"
	if other := os.Getenv("SPIN_ORACLE"); other != "" {
		path, dir, weights = other, os.Getenv("SPIN_ORACLE_DATA"), os.Getenv("SPIN_ORACLE_MODEL")
	}
	hold(t, path, dir, 12, respondent(t, weights))
}

// TestOracleAddsBOS is TestOracle with a tokenizer that puts a token before every text: lm-eval leaves that to the tokenizer,
// and so do we. testdata/oracle_bos.json is lm-eval's word on the tiny model with such a post-processor:
//
//	make_oracle.py run MODEL data oracle_bos.json --limit 2 --shots 1 --max-gen-toks 16 --tasks arc_easy,winogrande,gsm8k,wikitext
//
// It differs from what the same model is asked without, and from what a second token would give.
func TestOracleAddsBOS(t *testing.T) {
	const tiny = "../../trainer/train/testdata/tiny"
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(tiny)))
	file := filepath.Join(dir, "tokenizer.json")
	raw, err := os.ReadFile(file)
	must(t, err)
	var doc map[string]any
	must(t, json.Unmarshal(raw, &doc))
	const bos = "<|im_start|>"
	doc["post_processor"] = map[string]any{
		"type":           "TemplateProcessing",
		"single":         []any{map[string]any{"SpecialToken": map[string]any{"id": bos}}, map[string]any{"Sequence": map[string]any{"id": "A"}}},
		"special_tokens": map[string]any{bos: map[string]any{"id": bos, "ids": []int{1}, "tokens": []string{bos}}},
	}
	raw, err = json.Marshal(doc)
	must(t, err)
	must(t, os.WriteFile(file, raw, 0o644))
	r := respondent(t, dir)
	if id, _ := r.Tokenizer.ID(bos); id != 1 || r.Tokenizer.BOS != id {
		t.Fatalf("%s is %d, BOS %d", bos, id, r.Tokenizer.BOS)
	}
	hold(t, "../../../pkg/harness/testdata/oracle_bos.json", "../../../pkg/harness/testdata/data", 4, r)
}

// hold asks r what an oracle's file says lm-eval asked, and compares.
func hold(t *testing.T, path, dir string, least int, r *benchmark.Respondent) {
	t.Helper()
	raw, err := os.ReadFile(path)
	must(t, err)
	var want oracle
	must(t, json.Unmarshal(raw, &want))
	if len(want.Tasks) < least {
		t.Fatalf("the oracle has %d tasks", len(want.Tasks))
	}
	asked, largest := 0, 0.0
	for name, o := range want.Tasks {
		t.Run(name, func(t *testing.T) {
			tasks, err := harness.Load(name)
			must(t, err)
			task := tasks[0]
			if task.TaskVersion != o.Version {
				t.Errorf("version %v, lm-eval's is %v", task.TaskVersion, o.Version)
			}
			task.Generation.MaxTokens = o.New
			filters := max(1, len(task.Filters))
			n := len(o.Samples) / filters
			questions, err := task.Questions(harness.Data{Dir: dir}, o.Shots, n)
			must(t, err)
			answers, err := r.Ask(t.Context(), task, questions, nil)
			must(t, err)
			verdicts := make([]harness.Verdict, n)
			for i, q := range questions {
				verdicts[i], err = task.Judge(q, answers[i])
				must(t, err)
			}
			for _, s := range o.Samples {
				q, a := questions[s.Doc], answers[s.Doc]
				switch {
				case q.Rolling != nil:
					var resps [][]float64
					must(t, json.Unmarshal(s.Resps, &resps))
					if *q.Rolling != s.Arguments[0][0] {
						t.Errorf("doc %d: asked %q, lm-eval %q", s.Doc, *q.Rolling, s.Arguments[0][0])
					}
					if diff := math.Abs(a.LogLikelihoods[0] - resps[0][0]); !(diff <= 1e-3) {
						t.Errorf("doc %d: %v, lm-eval %v", s.Doc, a.LogLikelihoods, resps)
					}
				case len(q.Pairs) > 0:
					var resps [][][2]any // [log-likelihood, greedy] of each pair, once each
					must(t, json.Unmarshal(s.Resps, &resps))
					if len(q.Pairs) != len(s.Arguments) {
						t.Fatalf("doc %d: %d pairs, lm-eval %d", s.Doc, len(q.Pairs), len(s.Arguments))
					}
					for i, p := range q.Pairs {
						if p.Context != s.Arguments[i][0] || p.Continuation != s.Arguments[i][1] {
							t.Errorf("doc %d, choice %d: asked %q, lm-eval %q", s.Doc, i, p, s.Arguments[i])
						}
						ll, err := strconv.ParseFloat(fmt.Sprint(resps[i][0][0]), 64)
						must(t, err)
						diff := math.Abs(a.LogLikelihoods[i] - ll)
						asked, largest = asked+1, max(largest, diff)
						if !(diff <= 1e-3) || !strings.EqualFold(fmt.Sprint(resps[i][0][1]), fmt.Sprint(a.Greedy[i])) {
							t.Errorf("doc %d, choice %d: %v %v, lm-eval %v", s.Doc, i, a.LogLikelihoods[i], a.Greedy[i], resps[i][0])
						}
					}
				default:
					var resps [][]string
					must(t, json.Unmarshal(s.Resps, &resps))
					var filtered []string
					must(t, json.Unmarshal(s.Filtered, &filtered))
					if q.Prompt != s.Arguments[0][0] || a.Text != resps[0][0] || verdicts[s.Doc].Filtered[s.Filter] != filtered[0] {
						t.Errorf("doc %d, %s: asked %q, answer %q, filtered %q; lm-eval %q, %q, %q", s.Doc, s.Filter, q.Prompt, a.Text, verdicts[s.Doc].Filtered[s.Filter], s.Arguments[0][0], resps, filtered)
					}
				}
				for metric, v := range s.Metrics {
					if ours, ok := v.(float64); ok {
						if got, there := verdicts[s.Doc].Values[metric+","+s.Filter]; !there || !(math.Abs(got-ours) <= 1e-5) {
							t.Errorf("doc %d: %s is %v, lm-eval %v", s.Doc, metric, got, v)
						}
					}
				}
			}
			for _, s := range harness.Summarize(verdicts) {
				v, ok := o.Results[s.Metric]
				if !ok || !(math.Abs(s.Value-v) <= 1e-4*math.Abs(v)) {
					t.Errorf("%s = %v, lm-eval %v", s.Metric, s.Value, v)
				}
				if metric, filter, _ := cut(s.Metric); verdicts[0].Weights == nil {
					if v := o.Results[metric+"_stderr,"+filter]; !(math.Abs(s.Stderr-v) <= 1e-5) {
						t.Errorf("%s: standard error %v, lm-eval %v", s.Metric, s.Stderr, v)
					}
				}
			}
		})
	}
	t.Logf("%d tasks, %d log-likelihoods, largest difference %.1e nats", len(want.Tasks), asked, largest)
}

func cut(name string) (metric, filter string, ok bool) {
	for i := range name {
		if name[i] == ',' {
			return name[:i], name[i+1:], true
		}
	}
	return name, "", false
}

func respondent(t *testing.T, path string) *benchmark.Respondent {
	t.Helper()
	p, err := pretrained.Open(path)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	dev, err := cpu.New(cpu.Config{Threads: 2})
	must(t, err)
	t.Cleanup(func() { must(t, dev.Close()) })
	m, err := model.New(dev, dev.NewBackend(), p.ModelConfig, p, model.Options{DType: compute.F32})
	must(t, err)
	t.Cleanup(m.Free)
	return &benchmark.Respondent{Model: m, Tokenizer: p.Tokenizer, Stops: p.Stops(), BatchTokens: 512, Sequences: 4}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

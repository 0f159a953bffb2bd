package page_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
	"github.com/seed-8780d58e/spin/services/spin/page"
)

// hostile is what a model or a data set may say.
const hostile = `</script><script>alert(1)</script><img src=x onerror=alert(2)> ' " {{.}} `

var epoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// rows of a run with one iteration of two steps, one held-out prompt and one alarm.
func rows(id string) store.Batch {
	b := store.Batch{
		Runs: []store.Run{{RunID: id, Name: hostile, Model: "/models/tiny", Config: `{"name": "` + "<b>" + `"}`, State: "done", Fingerprint: "cpu/test", CreatedAt: epoch, Revision: 1}},
		Iterations: []store.Iteration{{RunID: id, OpponentSHA256: strings.Repeat("a", 64), WeightsSHA256: strings.Repeat("b", 64), State: "done",
			StartedAt: epoch, FinishedAt: new(epoch.Add(time.Minute)), Revision: 2}},
		Checkpoints: []store.Checkpoint{
			{RunID: id, Phase: "sft", WeightsSHA256: strings.Repeat("a", 64), CreatedAt: epoch, Revision: 1},
			{RunID: id, Phase: "spin", Iteration: 1, WeightsSHA256: strings.Repeat("b", 64), BaseSHA256: strings.Repeat("a", 64), CreatedAt: epoch.Add(time.Minute), Revision: 2},
			{RunID: id, Phase: "control", WeightsSHA256: strings.Repeat("c", 64), BaseSHA256: strings.Repeat("a", 64), CreatedAt: epoch.Add(2 * time.Minute), Revision: 3},
		},
		Prompts: []store.Prompt{{RunID: id, PromptID: "p1", Split: "heldout", Prompt: "Why? " + hostile, Real: "Human " + hostile, Revision: 1}},
		Samples: []store.Sample{{RunID: id, PromptID: "p1", Split: "heldout", SampleID: id + "/0/p1/0", Text: "Drawn " + hostile, NTokens: 40,
			Generator: "gen-" + hostile, LatencyMS: 4000, CreatedAt: epoch.Add(4 * time.Second), Revision: 1}},
		Scores: []store.Score{
			{RunID: id, Iteration: 1, Phase: "spin", Task: "heldout", Metric: "accuracy", Split: "heldout", Value: 0.75, Stderr: 0.05, Low: 0.64, High: 0.85, Revision: 1},
			{RunID: id, Phase: "control", Task: "heldout", Metric: "nll", Split: "heldout", Value: 3.125, Stderr: 0.01, Low: 3.1, High: 3.14, Revision: 2},
		},
		Events: []store.Event{{RunID: id, CreatedAt: epoch, ID: "e1", Service: "trainer", Kind: "entropy", Level: "alarm", Message: "entropy " + hostile, Revision: 1}},
	}
	for i := range 2 {
		b.Steps = append(b.Steps, store.Step{RunID: id, Phase: "spin", Step: uint32(i + 1), Steps: 2, Loss: math.Ln2 - 0.1*float64(i), Margin: 0.5 * float64(i),
			Tokens: 100, Seconds: 2, CreatedAt: epoch.Add(time.Duration(8+2*i) * time.Second), Revision: uint64(i + 1)})
	}
	return b
}

func draw(t *testing.T, s *store.Store, r store.Run) string {
	t.Helper()
	var b bytes.Buffer
	if err := page.Write(t.Context(), s, []store.Run{r}, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWrite(t *testing.T) {
	s := storetest.Open(t)
	b := rows("r1")
	if err := s.Insert(t.Context(), "1", &b); err != nil {
		t.Fatal(err)
	}
	html := draw(t, s, b.Runs[0])
	for _, want := range []string{
		"0.750 ± 0.098", "3.125 ± 0.020", "0.6931 → 0.5931", "Why? &lt;/script&gt;", "Drawn &lt;/script&gt;", "Human &lt;/script&gt;",
		"alarm: entropy", `<html lang="en">`, "default-src &#39;none&#39;", `id="w-` + strings.Repeat("b", 64) + `"`, `href="#w-` + strings.Repeat("a", 64) + `"`,
	} {
		if !strings.Contains(html, want) && !strings.Contains(html, strings.ReplaceAll(want, "&#39;", "'")) {
			t.Errorf("the page has no %q", want)
		}
	}
	for _, bad := range []string{"<script>alert", "<img", "ZgotmplZ", "<link", "@import", "src=\"http"} {
		if strings.Contains(html, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if got := strings.Count(html, "<script"); got != 2 {
		t.Errorf("%d scripts, want the data and the code", got)
	}
	script := between(t, html, "<script>", "</script>")
	sum := sha256.Sum256([]byte(script))
	if want := "script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(html, want) {
		t.Errorf("the policy does not allow the page's script: no %s", want)
	}

	var charts []struct {
		ID     string
		X      []any
		Series []struct {
			Name              string
			Values, Low, High []*float64
		}
	}
	if err := json.Unmarshal([]byte(between(t, html, `id="data">`, "</script>")), &charts); err != nil {
		t.Fatal(err)
	}
	drawn := map[string]string{}
	for _, c := range charts {
		var values [][]any
		for _, s := range c.Series {
			if len(s.Values) != len(c.X) {
				t.Errorf("%s: %s has %d values for %d x", c.ID, s.Name, len(s.Values), len(c.X))
			}
			var line []any
			for _, v := range s.Values {
				if v == nil {
					line = append(line, "gap")
				} else {
					line = append(line, *v)
				}
			}
			values = append(values, line)
		}
		drawn[c.ID] = fmt.Sprint(c.X, values)
	}
	for id, want := range map[string]string{
		"margins":  "[1 2] [[0 0] [0 0] [0 0.5]]",
		"accuracy": "[θ_1] [[0.75] [gap]]",
		"nll":      "[control (SFT goes on)] [[3.125]]",
	} {
		if drawn[id] != want {
			t.Errorf("%s: %s, want %s", id, drawn[id], want)
		}
	}
	// 40 tokens were sampled in the first 4 s of 10: 10 a second.
	throughput := charts[len(charts)-1]
	if throughput.ID != "throughput" || len(throughput.Series) != 2 {
		t.Fatalf("%+v", throughput)
	}
	for i, v := range throughput.Series[0].Values {
		want := 10.0
		if throughput.X[i].(float64) > 4 {
			want = 0
		}
		if !(math.Abs(*v-want) <= 0.01) {
			t.Errorf("at %v s: %v tokens/s sampled, want %v", throughput.X[i], *v, want)
		}
	}
	trained := 0.0
	for _, v := range throughput.Series[1].Values {
		trained += *v * 0.1
	}
	if !(math.Abs(trained-200) <= 2) {
		t.Errorf("%v tokens trained, want 200", trained)
	}
}

// Several runs lie over one another, and the page says in what they differ.
func TestCompare(t *testing.T) {
	s := storetest.Open(t)
	var runs []store.Run
	for i, id := range []string{"r1", "r2"} {
		b := rows(id)
		b.Runs[0].Config = fmt.Sprintf(`{"seed": %d, "spin": {"beta": [0.1, %d], "batch": 8}, "name": "%d"}`, i, i, i)
		b.Runs[0].Played, b.Runs[0].StopReason = 1, map[string]string{"r2": "no gain " + hostile}[id]
		for k := range b.Scores {
			b.Scores[k].Value += float64(i)
		}
		nll := store.Score{RunID: id, Phase: "spin", Iteration: 1, Task: "heldout", Metric: "nll", Split: "heldout", Value: 4.5 - float64(i), Stderr: 0.1, Low: 4.4, High: 4.7, Revision: 3}
		b.Scores = append(b.Scores, nll, store.Score{RunID: id, Phase: "sft", Task: "heldout", Metric: "nll", Split: "heldout", Value: 5, Low: 5, High: 5, Revision: 4})
		if err := s.Insert(t.Context(), id, &b); err != nil {
			t.Fatal(err)
		}
		runs = append(runs, b.Runs[0])
	}
	var out bytes.Buffer
	if err := page.Write(t.Context(), s, runs, &out); err != nil {
		t.Fatal(err)
	}
	html := out.String()
	for _, want := range []string{
		"2 runs compared", "4.500 ± 0.196", "3.500 ± 0.196", "3.125 ± 0.020", "<code>seed</code>", "<code>spin.beta</code>", `<td class="value">[0.1,1]</td>`, "stopped early", `"values":[5,4.5,3.125],"low":[5,4.4,3.1],"high":[5,4.7,3.14]`,
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	for _, bad := range []string{"<script>alert", "<img", "ZgotmplZ", "<code>spin.batch</code>", "<code>name</code>"} {
		if strings.Contains(html, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	alone := draw(t, s, runs[1])
	for _, want := range []string{"In 1 iteration of self-play the held-out human NLL went from 5.000 to 3.500", "After it, θ_1 tells people’s answers from θ_0’s", "comes to 4.125: self-play is ahead", "Best by held-out NLL: θ_1.", "The stop rule ended the run after 1 of its iterations: no gain &lt;/script"} {
		if !strings.Contains(alone, want) {
			t.Errorf("the story has no %q", want)
		}
	}
}

// A run that has just begun is drawn too.
func TestWriteEmpty(t *testing.T) {
	s := storetest.Open(t)
	html := draw(t, s, store.Run{RunID: "r2", State: "running", CreatedAt: epoch})
	for _, want := range []string{"No alarm and no warning.", "No step has been taken.", "No game has been played.", "None has begun."} {
		if !strings.Contains(html, want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

func between(t *testing.T, text, from, to string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, from)
	inside, _, ends := strings.Cut(rest, to)
	if !ok || !ends {
		t.Fatalf("nothing between %s and %s", from, to)
	}
	return inside
}

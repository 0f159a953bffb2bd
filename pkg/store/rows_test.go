package store_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/seed-8780d58e/spin/pkg/store"
)

// play makes the rows of a small run: 2 iterations of 4 training and 2 held-out
// prompts with 2 draws, mixed from iteration 1 on, 2 epochs. who and when fill
// the circumstances; nothing else depends on them.
func play(run, who string, when time.Time) *store.Batch {
	b := &store.Batch{}
	var rev uint64
	stamp := func() (time.Time, uint64) {
		rev++
		return when.Add(time.Duration(rev) * 1037 * time.Microsecond), rev
	}
	weights := func(t uint32) string { return fmt.Sprintf("%064x", 100+t) }
	text := func(kind string, prompt, iteration, draw uint32) string {
		return fmt.Sprintf("%s answer %d of iteration %d to %d: 'a\\b\t\u00e9'\n", kind, draw, iteration, prompt)
	}
	floats := func(n int, key uint64) []float32 {
		r := rand.New(rand.NewPCG(key, 7))
		f := make([]float32, n)
		for i := range f {
			f[i] = -float32(r.ExpFloat64())
		}
		return f
	}

	at, r := stamp()
	end := at.Add(time.Minute)
	b.Runs = append(b.Runs, store.Run{RunID: run, Name: who, Model: "smol", BaseSHA256: weights(99), Seed: 7, Spec: `{"beta":0.1}`, Config: `{"threads":"` + who + `"}`,
		TemplateID: "t1", Fingerprint: "cpu/avx2/bf16/1", State: "done", Played: 2, Build: who, CreatedAt: at, FinishedAt: &end, Revision: r})
	for p := range uint32(6) {
		_, r := stamp()
		b.Prompts = append(b.Prompts, store.Prompt{RunID: run, PromptID: fmt.Sprintf("p%d", p), Position: uint64(p), Split: split(p), Prompt: fmt.Sprintf("question %d?", p),
			Messages: `[{"role":"user"}]`, Real: text("human", p, 0, 0), PromptIDs: []uint32{1, 2, p}, RealIDs: []uint32{3, p, 2}, NPromptTokens: 3, NRealTokens: 3, TemplateID: "t1", Revision: r})
	}
	for t := range uint32(2) {
		at, r := stamp()
		end := at.Add(10 * time.Second)
		b.Iterations = append(b.Iterations, store.Iteration{RunID: run, Iteration: t, OpponentSHA256: weights(t), WeightsSHA256: weights(t + 1), GamesSHA256: weights(50 + t),
			Games: 6, Pairs: 8 * (1 + t), Steps: 4, State: "done", Attempt: 1, StartedAt: at, FinishedAt: &end, Revision: r})
		for p := range uint32(6) {
			at, r := stamp()
			prompt := fmt.Sprintf("p%d", p)
			b.Games = append(b.Games, store.Game{RunID: run, Iteration: t, PromptID: prompt, Split: split(p), WeightsSHA256: weights(t), TemplateID: "t1", Fingerprint: "cpu/avx2/bf16/1",
				Temperature: 1, TopP: 1, MaxNewTokens: 64, Draws: 2, Kept: 2 * t, RealLogp: -12.5, RealTokenLogps: floats(3, uint64(p)), RealEntropy: 2, Generator: who, Attempt: 1, LatencyMS: 250, CreatedAt: at, Revision: r})
			for d := range uint32(2) {
				key := uint64(t*100 + p*10 + d)
				b.Samples = append(b.Samples, store.Sample{RunID: run, Iteration: t, PromptID: prompt, Draw: d, SampleID: fmt.Sprintf("%s/%d/%s/%d", run, t, prompt, d), Split: split(p), WeightsSHA256: weights(t),
					Text: text("model", p, t, d), TokenIDs: []uint32{9, p, d}, TokenLogps: floats(3, key), SamplingLogps: floats(3, key), Logp: -float64(key), NTokens: 3, FinishReason: []string{"stop", "length"}[d],
					Entropy: 1.5, Seed: 1<<63 + key, TemplateID: "t1", Fingerprint: "cpu/avx2/bf16/1", Generator: who, Attempt: 1 + d, LatencyMS: 250, CreatedAt: at, Revision: r})
			}
		}
		for e := range uint32(2) {
			for st := range uint32(2) {
				at, r := stamp()
				step := 2*e + st + 1
				loss := 0.693147 - 0.1*float64(step-1)
				b.Steps = append(b.Steps, store.Step{RunID: run, Phase: "spin", Iteration: t, Step: step, Epoch: e + 1, Steps: 4, Loss: loss, RewardReal: 0.5, RewardGenerated: -0.25, Accuracy: 0.75, Margin: 0.75,
					LogpReal: -10, LogpGenerated: -20, OpponentLogpReal: -15, OpponentLogpGenerated: -17.5, LearningRate: 5e-7, Beta: 0.1, GradNorm: 3, Entropy: 1.5, NLLReal: 3.3, LengthReal: 3, LengthGenerated: 3,
					Games: 2, Pairs: 4 * (1 + t), Tokens: 100, Seconds: 0.5, TokensPerS: 200, Instance: who, Attempt: 1, CreatedAt: at, Revision: r})
				for p := 2 * st; p < 2*st+2; p++ {
					for from := t - min(t, 1); from <= t; from++ {
						for d := range uint32(2) {
							b.Pairs = append(b.Pairs, store.Pair{RunID: run, Iteration: t, Epoch: e + 1, Step: step, PromptID: fmt.Sprintf("p%d", p), Draw: d, SampleIteration: from, LogpReal: -10, LogpGenerated: -20,
								OpponentLogpReal: -15, OpponentLogpGenerated: -17.5, Loss: loss, Margin: float64(p) - 1, Beta: 0.1, Instance: who, Attempt: 1, CreatedAt: at, Revision: r})
						}
					}
				}
			}
		}
		at, r = stamp()
		b.Checkpoints = append(b.Checkpoints, store.Checkpoint{RunID: run, Iteration: t + 1, Phase: "spin", WeightsSHA256: weights(t + 1), BaseSHA256: weights(99), DType: "bf16", Fingerprint: "cpu/avx2/bf16/1", TemplateID: "t1",
			Bytes: 9, URI: "file:///" + who, Files: []string{"model.safetensors"}, FileSHA256s: []string{weights(7)}, Instance: who, Attempt: 1, CreatedAt: at, Revision: r})
		for i, metric := range []string{"accuracy", "nll"} {
			at, r := stamp()
			value := 0.5 + float64(i) + 0.25*float64(t)
			b.Scores = append(b.Scores, store.Score{RunID: run, Iteration: t + 1, Phase: "spin", Task: "heldout", Metric: metric, Split: "heldout", Value: value, Stderr: 0.1, Low: value - 0.18, High: value + 0.19, N: 4, WeightsSHA256: weights(t + 1),
				TaskVersion: "1", HarnessVersion: "1", TemplateID: "t1", Fingerprint: "cpu/avx2/bf16/1", Instance: who, Attempt: 1, Seconds: 1, CreatedAt: at, Revision: r})
		}
	}
	at, r = stamp() // events expire: these not soon
	b.Events = append(b.Events, store.Event{RunID: run, CreatedAt: at.AddDate(70, 0, 0), ID: who + "-1", Service: "trainer", Instance: who, Kind: "run_state", Level: "info", Message: "done", Body: "{}", Revision: r})
	return b
}

func split(prompt uint32) string {
	if prompt < 4 {
		return "train"
	}
	return "heldout"
}

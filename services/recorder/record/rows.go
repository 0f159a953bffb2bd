package record

import (
	"encoding/json"
	"time"

	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/spin"
	"github.com/seed-8780d58e/spin/pkg/store"
)

// addRows appends the rows that a message makes. seq is its place in its stream: of two rows with
// one identity the later one stays.
func addRows(b *store.Batch, m event.Message, seq uint64) {
	switch m := m.(type) {
	case *event.Game:
		addGame(b, m, seq)
	case *event.Step:
		b.Steps = append(b.Steps, stepRow(m, seq))
	case *event.PairTraces:
		addPairs(b, m, seq)
	case *event.Checkpoint:
		b.Checkpoints = append(b.Checkpoints, checkpointRow(m, seq))
	case *event.Score:
		b.Scores = append(b.Scores, scoreRow(m, seq))
	case *event.Event:
		c := m.GetCircumstance()
		b.Events = append(b.Events, store.Event{
			RunID: m.GetRunId(), CreatedAt: created(c), ID: m.GetId(), Service: m.GetService(), Instance: c.GetInstance(), Kind: m.GetKind(),
			Level: m.GetLevel().Token(), Iteration: m.GetIteration(), Message: m.GetMessage(), Body: m.GetBody(), Revision: seq,
		})
	}
}

// addGame makes a game, its samples, and in iteration 0 its prompt.
func addGame(b *store.Batch, m *event.Game, seq uint64) {
	c, s := m.GetCircumstance(), m.GetSampling()
	real := m.GetReal()
	b.Games = append(b.Games, store.Game{
		RunID: m.GetRunId(), Iteration: m.GetIteration(), PromptID: m.GetPromptId(), Split: m.GetSplit().Token(), WeightsSHA256: m.GetWeightsSha256(),
		TemplateID: m.GetTemplateId(), Fingerprint: m.GetFingerprint(), Temperature: s.GetTemperature(), TopP: s.GetTopP(), TopK: s.GetTopK(),
		MaxNewTokens: s.GetMaxNewTokens(), Draws: uint32(len(m.GetDraws())), Kept: uint32(len(m.GetKept())),
		RealLogp: spin.LogP(real.GetTokenLogps()), RealTokenLogps: real.GetTokenLogps(), RealEntropy: real.GetEntropy(), Hole: m.GetHole().GetReason(),
		Generator: c.GetInstance(), Attempt: c.GetAttempt(), LatencyMS: float32(c.GetSeconds() * 1000), CreatedAt: created(c), Revision: seq,
	})
	if m.GetHole() != nil {
		return
	}
	if m.GetIteration() == 0 {
		b.Prompts = append(b.Prompts, promptRow(m, seq))
	}
	for _, d := range m.GetDraws() {
		r := d.GetResponse()
		b.Samples = append(b.Samples, store.Sample{
			RunID: m.GetRunId(), Iteration: d.GetIteration(), PromptID: m.GetPromptId(), Draw: d.GetDraw(), SampleID: d.GetSampleId(), Split: m.GetSplit().Token(),
			WeightsSHA256: m.GetWeightsSha256(), Text: r.GetText(), TokenIDs: r.GetTokenIds(), TokenLogps: r.GetTokenLogps(), SamplingLogps: d.GetSamplingLogps(),
			Logp: spin.LogP(r.GetTokenLogps()), NTokens: uint32(len(r.GetTokenIds())), FinishReason: r.GetFinishReason().Token(), Entropy: r.GetEntropy(),
			Seed: s.GetSeed(), TemplateID: m.GetTemplateId(), Fingerprint: m.GetFingerprint(),
			Generator: c.GetInstance(), Attempt: c.GetAttempt(), LatencyMS: float32(c.GetSeconds() * 1000), CreatedAt: created(c), Revision: seq,
		})
	}
}

func promptRow(m *event.Game, seq uint64) store.Prompt {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	var messages []message
	last := ""
	for _, x := range m.GetMessages() {
		messages = append(messages, message{x.GetRole(), x.GetContent()})
		last = x.GetContent()
	}
	text, err := json.Marshal(messages)
	if err != nil {
		panic(err) // strings always encode
	}
	return store.Prompt{
		RunID: m.GetRunId(), PromptID: m.GetPromptId(), Position: uint64(m.GetIndex()), Split: m.GetSplit().Token(), Prompt: last, Messages: string(text),
		Real: m.GetReal().GetText(), PromptIDs: m.GetPromptIds(), RealIDs: m.GetReal().GetTokenIds(), NPromptTokens: uint32(len(m.GetPromptIds())),
		NRealTokens: uint32(len(m.GetReal().GetTokenIds())), TemplateID: m.GetTemplateId(), Revision: seq,
	}
}

func addPairs(b *store.Batch, m *event.PairTraces, seq uint64) {
	c := m.GetCircumstance()
	for _, p := range m.GetPairs() {
		b.Pairs = append(b.Pairs, store.Pair{
			RunID: m.GetRunId(), Iteration: m.GetIteration(), Epoch: m.GetEpoch(), Step: m.GetStep(), PromptID: p.GetPromptId(), Draw: p.GetDraw(),
			SampleIteration: p.GetSampleIteration(), LogpReal: p.GetPolicyRealLogp(), LogpGenerated: p.GetPolicyGeneratedLogp(),
			OpponentLogpReal: p.GetOpponentRealLogp(), OpponentLogpGenerated: p.GetOpponentGeneratedLogp(), Loss: p.GetLoss(), Margin: p.GetMargin(),
			Beta: m.GetBeta(), Instance: c.GetInstance(), Attempt: c.GetAttempt(), CreatedAt: created(c), Revision: seq,
		})
	}
}

func stepRow(m *event.Step, seq uint64) store.Step {
	c := m.GetCircumstance()
	return store.Step{
		RunID: m.GetRunId(), Phase: m.GetPhase().Token(), Iteration: m.GetIteration(), Step: m.GetStep(), Epoch: m.GetEpoch(), Steps: m.GetSteps(),
		Loss: m.GetLoss(), RewardReal: m.GetRewardReal(), RewardGenerated: m.GetRewardGenerated(), Accuracy: m.GetAccuracy(), Margin: m.GetMargin(),
		LogpReal: m.GetLogpReal(), LogpGenerated: m.GetLogpGenerated(), OpponentLogpReal: m.GetOpponentLogpReal(), OpponentLogpGenerated: m.GetOpponentLogpGenerated(),
		LearningRate: m.GetLearningRate(), Beta: m.GetBeta(), GradNorm: m.GetGradNorm(), Entropy: m.GetEntropy(), NLLReal: m.GetNllReal(),
		LengthReal: m.GetLengthReal(), LengthGenerated: m.GetLengthGenerated(), Games: m.GetGames(), Pairs: m.GetPairs(), Tokens: m.GetTokens(),
		Seconds: c.GetSeconds(), TokensPerS: c.GetTokensPerSecond(), PeakMemoryBytes: c.GetPeakMemoryBytes(),
		Instance: c.GetInstance(), Attempt: c.GetAttempt(), CreatedAt: created(c), Revision: seq,
	}
}

func checkpointRow(m *event.Checkpoint, seq uint64) store.Checkpoint {
	c := m.GetCircumstance()
	row := store.Checkpoint{
		RunID: m.GetRunId(), Iteration: m.GetIteration(), Phase: m.GetPhase().Token(), WeightsSHA256: m.GetWeightsSha256(), BaseSHA256: m.GetBaseSha256(),
		DType: m.GetDtype(), Fingerprint: m.GetFingerprint(), TemplateID: m.GetTemplateId(), Adapter: m.GetAdapter(), URI: m.GetUri(),
		Files: []string{}, FileSHA256s: []string{},
		Instance: c.GetInstance(), Attempt: c.GetAttempt(), CreatedAt: created(c), Revision: seq,
	}
	for _, f := range m.GetFiles() {
		row.Files, row.FileSHA256s, row.Bytes = append(row.Files, f.GetName()), append(row.FileSHA256s, f.GetSha256()), row.Bytes+f.GetSize()
	}
	return row
}

func scoreRow(m *event.Score, seq uint64) store.Score {
	c := m.GetCircumstance()
	return store.Score{
		RunID: m.GetRunId(), Iteration: m.GetIteration(), Phase: m.GetPhase().Token(), Task: m.GetTask(), Metric: m.GetMetric(), Split: m.GetSplit().Token(),
		Value: m.GetValue(), Stderr: m.GetStderr(), Low: m.GetLow(), High: m.GetHigh(), N: m.GetN(), WeightsSHA256: m.GetWeightsSha256(), TaskVersion: m.GetTaskVersion(),
		HarnessVersion: m.GetHarnessVersion(), TemplateID: m.GetTemplateId(), Shots: m.GetShots(), Fingerprint: m.GetFingerprint(),
		Instance: c.GetInstance(), Attempt: c.GetAttempt(), Seconds: c.GetSeconds(), CreatedAt: created(c), Revision: seq,
	}
}

func created(c *event.Circumstance) time.Time { return c.GetCreatedAt().AsTime() }

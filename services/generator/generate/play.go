package generate

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seed-8780d58e/spin/pkg/engine"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/model"
)

// request asks for the draws of one prompt.
func (p *player) request(c *event.Chunk, prompt *event.Prompt) *engine.Request {
	s := c.GetSampling()
	return &engine.Request{
		ID: prompt.GetPromptId(), Prompt: event.DecodeIDs(prompt.GetPromptIds()), Draws: int(c.GetDraws()),
		MaxNew: int(s.GetMaxNewTokens()), Stop: p.weights.Stops(),
		Temperature: s.GetTemperature(), TopP: s.GetTopP(), TopK: int32(s.GetTopK()),
		Seed: s.GetSeed(), Iteration: c.GetIteration(), Index: prompt.GetIndex(),
	}
}

// score makes the task's games: one packed pass over the human answers, the draws and the kept
// draws gives the log-probabilities under θ_t. alive is called as it moves on.
func (p *player) score(j *job, alive func()) error {
	chunk := j.lease.Chunk
	trees := make([]model.Tree, len(chunk.GetPrompts()))
	responses := make([][]*event.Response, len(trees))
	for i, prompt := range chunk.GetPrompts() {
		g := p.game(chunk, prompt, j.draws[prompt.GetPromptId()])
		j.games = append(j.games, g)
		responses[i] = append(responses[i], g.Real)
		for _, d := range append(g.Draws[:len(g.Draws):len(g.Draws)], g.Kept...) {
			responses[i] = append(responses[i], d.Response)
		}
		trees[i].Prompt = event.DecodeIDs(prompt.GetPromptIds())
		for _, r := range responses[i] {
			trees[i].Answers = append(trees[i].Answers, event.DecodeIDs(r.GetTokenIds()))
		}
	}
	p.growPass(trees)
	tokens := 0
	err := p.pass.Score(trees, func(tree, answer int, s model.Scored) {
		r := responses[tree][answer]
		r.TokenLogps = append([]float32(nil), s.Logps...)
		r.Entropy = float32(s.Entropy)
		tokens += len(s.Logps)
		alive()
	})
	if err != nil {
		return fmt.Errorf("score: %w", err)
	}
	seconds := time.Since(j.started).Seconds()
	for _, g := range j.games {
		// The tasks in hand overlap, so a game's time is its task's and says little alone; the
		// dashboards add tokens and divide by the clock.
		g.Circumstance = &event.Circumstance{CreatedAt: timestamppb.Now(), Seconds: seconds / float64(len(j.games)), TokensPerSecond: float64(tokens) / seconds}
	}
	return nil
}

// growPass makes the scoring pass large enough for each tree: a game is scored as one, or its answers
// would not share their prompt.
func (p *player) growPass(trees []model.Tree) {
	need := p.scoreTokens
	for _, t := range trees {
		need = max(need, len(t.Prompt)+t.Targets()) // at least its inputs and its targets
	}
	if p.pass != nil && p.pass.Config().Tokens >= need {
		return
	}
	if p.pass != nil {
		p.pass.Free()
	}
	p.pass = p.weights.Model.NewPass(model.PassConfig{Tokens: need})
}

// game is one prompt's game before it is scored.
func (p *player) game(c *event.Chunk, prompt *event.Prompt, answers []engine.Answer) *event.Game {
	g := &event.Game{
		RunId: c.GetRunId(), Iteration: c.GetIteration(), PromptId: prompt.GetPromptId(), Index: prompt.GetIndex(), Split: prompt.GetSplit(),
		WeightsSha256: c.GetWeightsSha256(), TemplateId: c.GetTemplateId(), Fingerprint: p.weights.Fingerprint(), Sampling: c.GetSampling(),
		Messages: prompt.GetMessages(), PromptIds: prompt.GetPromptIds(),
		Real: unscored(prompt.GetReal()),
	}
	for d, a := range answers {
		finish := event.FinishReason_FINISH_REASON_LENGTH
		text := a.IDs
		if a.Finish == engine.FinishStop {
			finish = event.FinishReason_FINISH_REASON_STOP
			text = text[:len(text)-1]
		}
		sampling := make([]float32, len(a.Logps))
		for i, lp := range a.Logps {
			sampling[i] = float32(lp)
		}
		g.Draws = append(g.Draws, &event.Draw{
			SampleId: event.SampleID(c.GetRunId(), c.GetIteration(), prompt.GetPromptId(), uint32(d)), Iteration: c.GetIteration(), Draw: uint32(d),
			SamplingLogps: sampling,
			Response:      &event.Response{Text: p.weights.Tokenizer.Decode(text), TokenIds: event.EncodeIDs(a.IDs), FinishReason: finish},
		})
	}
	for _, k := range prompt.GetKept() {
		g.Kept = append(g.Kept, &event.Draw{
			SampleId: k.GetSampleId(), Iteration: k.GetIteration(), Draw: k.GetDraw(), SamplingLogps: k.GetSamplingLogps(),
			Response: unscored(k.GetResponse()),
		})
	}
	return g
}

// unscored copies a response without its log-probabilities: those of another θ.
func unscored(r *event.Response) *event.Response {
	return &event.Response{Text: r.GetText(), TokenIds: r.GetTokenIds(), FinishReason: r.GetFinishReason()}
}

package event

import (
	"fmt"
	"math"
	"strings"
)

const (
	maxPrompts  = 1024    // of a chunk
	maxDraws    = 256     // of a game
	maxTokens   = 1 << 17 // of a prompt or an answer
	maxText     = 1 << 20 // bytes of a prompt or an answer
	maxMessages = 1024    // of a conversation
	maxPairs    = 1 << 15 // of a step
	maxFiles    = 4096    // of a checkpoint
)

// checker keeps the first complaint, so that Validate methods read as a list of rules.
type checker struct {
	schema string
	err    error
}

func (c *checker) that(ok bool, format string, args ...any) {
	if !ok && c.err == nil {
		c.err = fmt.Errorf("%s: %s: %w", c.schema, fmt.Sprintf(format, args...), ErrInvalid)
	}
}

func (c *checker) token(field, s string) {
	c.that(IsToken(s), "%s is %.70q, want 1 to 64 of a-z 0-9 _ -", field, s)
}

// frame checks what all messages have.
func (c *checker) frame(m Message) {
	c.token("run_id", m.GetRunId())
	if at := m.GetCircumstance().GetCreatedAt(); at != nil {
		c.that(at.IsValid(), "created_at is out of range")
	}
}

func (c *checker) sha256(field, s string) {
	c.that(IsDigest(s), "%s is %.70q, want 64 hexadecimal digits", field, s)
}

func (c *checker) finite(field string, values ...float64) {
	for _, v := range values {
		c.that(!math.IsNaN(v) && !math.IsInf(v, 0), "%s is %v", field, v)
	}
}

func (c *checker) logps(field string, logps []float32, tokens int) {
	c.that(len(logps) == tokens, "%s has %d values for %d tokens", field, len(logps), tokens)
	for i, v := range logps {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			c.that(false, "%s[%d] is %v", field, i, v)
			return
		}
	}
}

func (c *checker) response(field string, r *Response, scored bool) {
	c.that(r != nil, "%s is missing", field)
	c.that(len(r.GetTokenIds()) > 0 && len(r.GetTokenIds()) <= maxTokens, "%s has %d tokens, want 1 to %d", field, len(r.GetTokenIds()), maxTokens)
	c.that(len(r.GetText()) <= maxText, "%s has %d bytes of text, the most is %d", field, len(r.GetText()), maxText)
	c.that(FinishReason_name[int32(r.GetFinishReason())] != "", "%s.finish_reason is %d", field, r.GetFinishReason())
	c.finite(field+".entropy", float64(r.GetEntropy()))
	if scored || len(r.GetTokenLogps()) > 0 {
		c.logps(field+".token_logps", r.GetTokenLogps(), len(r.GetTokenIds()))
	}
}

func (c *checker) draws(field, run, prompt string, draws []*Draw, iteration uint32, scored bool) {
	c.that(len(draws) <= maxDraws, "%d %s, the most is %d", len(draws), field, maxDraws)
	last := int64(-1)
	for _, d := range draws {
		c.that(d.GetIteration() == iteration, "%s: sampled in iteration %d, want %d", field, d.GetIteration(), iteration)
		c.that(int64(d.GetDraw()) > last, "%s: draw %d after %d", field, d.GetDraw(), last)
		last = int64(d.GetDraw())
		want := SampleID(run, d.GetIteration(), prompt, d.GetDraw())
		c.that(d.GetSampleId() == want, "%s: sample_id is %.160q, want %q", field, d.GetSampleId(), want)
		c.response(field, d.GetResponse(), scored)
		if len(d.GetSamplingLogps()) > 0 {
			c.logps(field+".sampling_logps", d.GetSamplingLogps(), len(d.GetResponse().GetTokenIds()))
		}
	}
}

func (c *checker) conversation(messages []*ChatMessage, ids []uint32) {
	c.that(len(messages) > 0 && len(messages) <= maxMessages, "%d messages, want 1 to %d", len(messages), maxMessages)
	for i, m := range messages {
		switch m.GetRole() {
		case "system", "user", "assistant":
		default:
			c.that(false, "messages[%d].role is %.32q, want system, user or assistant", i, m.GetRole())
		}
		c.that(len(m.GetContent()) <= maxText, "messages[%d] has %d bytes, the most is %d", i, len(m.GetContent()), maxText)
	}
	c.that(len(ids) <= maxTokens, "%d prompt_ids, the most is %d", len(ids), maxTokens)
}

func (c *checker) sampling(s *Sampling) {
	c.that(s != nil, "sampling is missing")
	t, p := float64(s.GetTemperature()), float64(s.GetTopP())
	c.that(t >= 0 && t <= 100, "sampling.temperature is %v, want 0 to 100", t)
	c.that(p > 0 && p <= 1, "sampling.top_p is %v, want above 0, at most 1", p)
	c.that(s.GetMaxNewTokens() > 0 && s.GetMaxNewTokens() <= maxTokens, "sampling.max_new_tokens is %d, want 1 to %d", s.GetMaxNewTokens(), maxTokens)
}

func (c *checker) phase(p Phase, allowed ...Phase) {
	for _, a := range allowed {
		if p == a {
			return
		}
	}
	c.that(false, "phase is %s", p.Token())
}

func (c *checker) split(s Split) {
	c.that(s == Split_SPLIT_TRAIN || s == Split_SPLIT_HELDOUT, "split is %s", s.Token())
}

// Validate checks the task.
func (m *Chunk) Validate() error {
	c := &checker{schema: "chunk"}
	c.frame(m)
	c.sha256("weights_sha256", m.GetWeightsSha256())
	c.sampling(m.GetSampling())
	c.that(m.GetDraws() > 0 && m.GetDraws() <= maxDraws, "draws is %d, want 1 to %d", m.GetDraws(), maxDraws)
	c.that(len(m.GetPrompts()) > 0 && len(m.GetPrompts()) <= maxPrompts, "%d prompts, want 1 to %d", len(m.GetPrompts()), maxPrompts)
	c.that(!m.GetSingle() || len(m.GetPrompts()) == 1, "a single chunk has %d prompts", len(m.GetPrompts()))
	seen := make(map[string]bool, len(m.GetPrompts()))
	for _, p := range m.GetPrompts() {
		c.token("prompt_id", p.GetPromptId())
		c.that(!seen[p.GetPromptId()], "prompt %.70q twice", p.GetPromptId())
		seen[p.GetPromptId()] = true
		c.split(p.GetSplit())
		c.conversation(p.GetMessages(), p.GetPromptIds())
		c.response("real", p.GetReal(), false)
		c.that(len(p.GetKept()) == 0 || m.GetIteration() > 0, "iteration 0 keeps draws")
		if m.GetIteration() > 0 {
			c.draws("kept", m.GetRunId(), p.GetPromptId(), p.GetKept(), m.GetIteration()-1, false)
		}
		if c.err != nil {
			break
		}
	}
	return c.err
}

// Validate checks the game: a hole, or a real answer and draws that are scored token by token.
func (m *Game) Validate() error {
	c := &checker{schema: "game"}
	c.frame(m)
	c.token("prompt_id", m.GetPromptId())
	c.split(m.GetSplit())
	if m.GetHole() != nil {
		c.that(m.GetReal() == nil && len(m.GetDraws()) == 0 && len(m.GetKept()) == 0, "a hole with answers")
		return c.err
	}
	c.sha256("weights_sha256", m.GetWeightsSha256())
	c.that(m.GetFingerprint() != "" && len(m.GetFingerprint()) <= 256, "fingerprint has %d bytes, want 1 to 256", len(m.GetFingerprint()))
	c.sampling(m.GetSampling())
	c.conversation(m.GetMessages(), m.GetPromptIds())
	c.that(len(m.GetPromptIds()) > 0, "prompt_ids is empty")
	c.response("real", m.GetReal(), true)
	c.that(len(m.GetDraws()) > 0, "no draws")
	c.draws("draws", m.GetRunId(), m.GetPromptId(), m.GetDraws(), m.GetIteration(), true)
	c.that(len(m.GetKept()) == 0 || m.GetIteration() > 0, "iteration 0 keeps draws")
	if m.GetIteration() > 0 {
		c.draws("kept", m.GetRunId(), m.GetPromptId(), m.GetKept(), m.GetIteration()-1, true)
	}
	return c.err
}

// Validate checks identity and that every figure is finite.
func (m *Step) Validate() error {
	c := &checker{schema: "step"}
	c.frame(m)
	c.phase(m.GetPhase(), Phase_PHASE_SFT, Phase_PHASE_SPIN, Phase_PHASE_CONTROL)
	c.that(m.GetStep() > 0, "step counts from 1")
	c.finite("figures", m.GetLoss(), m.GetRewardReal(), m.GetRewardGenerated(), m.GetAccuracy(), m.GetMargin(), m.GetLogpReal(), m.GetLogpGenerated(),
		m.GetOpponentLogpReal(), m.GetOpponentLogpGenerated(), m.GetLearningRate(), m.GetBeta(), m.GetGradNorm(), m.GetEntropy(), m.GetNllReal())
	return c.err
}

// Validate checks identity and that every figure is finite.
func (m *PairTraces) Validate() error {
	c := &checker{schema: "pair traces"}
	c.frame(m)
	c.that(m.GetStep() > 0, "step counts from 1")
	c.that(len(m.GetPairs()) <= maxPairs, "%d pairs, the most is %d", len(m.GetPairs()), maxPairs)
	c.finite("beta", m.GetBeta())
	for _, p := range m.GetPairs() {
		c.token("prompt_id", p.GetPromptId())
		c.that(p.GetSampleIteration() <= m.GetIteration() && m.GetIteration()-p.GetSampleIteration() <= 1,
			"a draw of iteration %d in iteration %d", p.GetSampleIteration(), m.GetIteration())
		c.finite("figures of "+p.GetPromptId(), p.GetPolicyRealLogp(), p.GetPolicyGeneratedLogp(), p.GetOpponentRealLogp(), p.GetOpponentGeneratedLogp(),
			p.GetLoss(), p.GetMargin())
		if c.err != nil {
			break
		}
	}
	return c.err
}

// Validate checks identity, digests, and that file names can't leave their directory.
func (m *Checkpoint) Validate() error {
	c := &checker{schema: "checkpoint"}
	c.frame(m)
	c.phase(m.GetPhase(), Phase_PHASE_BASE, Phase_PHASE_SFT, Phase_PHASE_SPIN, Phase_PHASE_CONTROL)
	c.sha256("weights_sha256", m.GetWeightsSha256())
	if m.GetBaseSha256() != "" || m.GetAdapter() {
		c.sha256("base_sha256", m.GetBaseSha256())
	}
	c.that(len(m.GetUri()) <= 4096, "uri has %d bytes", len(m.GetUri()))
	c.that(len(m.GetFiles()) > 0 && len(m.GetFiles()) <= maxFiles, "%d files, want 1 to %d", len(m.GetFiles()), maxFiles)
	seen := make(map[string]bool, len(m.GetFiles()))
	for _, f := range m.GetFiles() {
		name := f.GetName()
		c.that(name != "" && len(name) <= 255 && name != "." && name != ".." && !strings.ContainsAny(name, "/\\\x00"), "file name %.64q", name)
		c.that(!seen[name], "file %.64q twice", name)
		seen[name] = true
		c.sha256("sha256 of "+name, f.GetSha256())
		if c.err != nil {
			break
		}
	}
	return c.err
}

// Validate checks identity and that the figure is finite.
func (m *Score) Validate() error {
	c := &checker{schema: "score"}
	c.frame(m)
	c.phase(m.GetPhase(), Phase_PHASE_BASE, Phase_PHASE_SFT, Phase_PHASE_SPIN, Phase_PHASE_CONTROL)
	c.token("task", m.GetTask())
	c.token("metric", m.GetMetric())
	c.split(m.GetSplit())
	c.sha256("weights_sha256", m.GetWeightsSha256())
	c.finite("value", m.GetValue())
	c.finite("stderr", m.GetStderr())
	c.that(!(m.GetStderr() < 0), "stderr is %v", m.GetStderr())
	return c.err
}

// Validate checks identity and length.
func (m *Event) Validate() error {
	c := &checker{schema: "event"}
	c.frame(m)
	c.that(m.GetId() != "" && len(m.GetId()) <= 256, "id has %d bytes, want 1 to 256", len(m.GetId()))
	c.token("service", m.GetService())
	c.token("kind", m.GetKind())
	c.that(Level_name[int32(m.GetLevel())] != "", "level is %d", m.GetLevel())
	c.that(len(m.GetMessage()) <= maxText && len(m.GetBody()) <= maxText, "%d bytes of text, the most is %d", len(m.GetMessage())+len(m.GetBody()), maxText)
	return c.err
}

// Validate checks identity.
func (m *DeadLetter) Validate() error {
	c := &checker{schema: "dead letter"}
	c.frame(m)
	c.token("stream", m.GetStream())
	c.that(m.GetReason() != "", "reason is empty")
	c.that(m.GetPromptId() == "" || IsToken(m.GetPromptId()), "prompt_id is %.70q", m.GetPromptId())
	for _, a := range m.GetAttempts() {
		c.that(a.GetTakenAt() == nil || a.GetTakenAt().IsValid(), "taken_at is out of range")
	}
	return c.err
}

// IsDigest reports whether s is a SHA-256 in 64 lower-case hexadecimal digits.
func IsDigest(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'f') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

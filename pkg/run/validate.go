package run

import (
	"fmt"
	"math"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/spin"
)

// rules keeps the first complaint.
type rules struct{ err error }

func (r *rules) that(ok bool, format string, args ...any) {
	if !ok && r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *rules) within(field string, v, low, high int) {
	r.that(v >= low && v <= high, "%s is %d: want %d to %d", field, v, low, high)
}

func (r *rules) positive(field string, v float64) {
	r.that(v > 0 && !math.IsInf(v, 0), "%s is %v: want a number above 0", field, v)
}

func (r *rules) share(field string, v float64) {
	r.that(v >= 0 && v <= 1, "%s is %v: want 0 to 1", field, v)
}

func (r *rules) norm(field string, v float64) {
	r.that(v >= 0 && !math.IsInf(v, 0), "%s is %v: want 0 (no clipping) or above", field, v)
}

func (r *rules) oneOf(field, v string, allowed ...string) {
	r.that(slices.Contains(allowed, v), "%s is %q: want one of %v", field, v, allowed)
}

func (r *rules) digest(field, v string) {
	r.that(v == "" || isDigest(v), "%s is %.70q: want 64 hexadecimal digits", field, v)
}

func (r *rules) optimizer(field string, o Optimizer) {
	rule, err := optim.ParseRule(o.Name)
	r.that(err == nil, "%s.name: %v", field, err)
	rule.Alpha, rule.Beta1, rule.Beta2, rule.Eps, rule.WeightDecay = o.Alpha, o.Beta1, o.Beta2, o.Eps, o.WeightDecay
	if err == nil {
		err = optim.Validate(rule)
		r.that(err == nil, "%s: %v", field, err)
	}
}

// each checks every entry of a per-iteration list.
func each[T any](r *rules, field string, list PerIteration[T], check func(field string, v T)) {
	r.that(len(list.PerIteration) > 0, "%s is an empty list: want one value, or one for each iteration", field)
	for t, v := range list.PerIteration {
		name := field
		if len(list.PerIteration) > 1 {
			name = fmt.Sprintf("%s[%d]", field, t)
		}
		check(name, v)
	}
}

// Validate reports the first thing that can't be run, in one line that says what would be right.
func (s Spec) Validate() error {
	r := &rules{}
	r.that(len(s.Name) <= 200, "name has %d bytes: want 200 at most", len(s.Name))
	r.oneOf("preset", s.Preset, presetNames[:]...)
	r.digest("model.sha256", s.Model.SHA256)
	r.digest("data.sha256", s.Data.SHA256)
	r.within("data.prompts", s.Data.Prompts, 0, 100_000_000)
	r.within("data.heldout", s.Data.Heldout, 0, 10_000_000)
	r.within("data.max_prompt_tokens", s.Data.MaxPromptTokens, 1, 1<<17)
	r.within("iterations", s.Iterations, 0, 1000)
	r.that(s.Iterations > 0 || s.SFT.Epochs > 0, "iterations and sft.epochs are both 0: nothing to do")
	r.within("draws", s.Draws, 1, 256)
	r.within("max_missing", s.MaxMissing, 0, 100_000_000)
	r.within("checkpoint_every", s.CheckpointEvery, 0, 1<<30)
	r.within("retention.last", s.Retention.Last, 0, 1<<30)
	r.oneOf("control", s.Control, "none", "sft")
	r.share("stop_when.accuracy_below", s.StopWhen.AccuracyBelow)
	r.that(!s.StopWhen.Waits() || s.Data.Heldout > 0, "stop_when needs held-out prompts: data.heldout is 0")

	r.within("sampling.max_new_tokens", s.Sampling.MaxNewTokens, 1, 1<<17)
	r.that(s.Sampling.Temperature >= 0 && s.Sampling.Temperature <= 100, "sampling.temperature is %v: want 0 to 100", s.Sampling.Temperature)
	r.that(s.Sampling.TopP > 0 && s.Sampling.TopP <= 1, "sampling.top_p is %v: want above 0, 1 at most", s.Sampling.TopP)
	r.within("sampling.top_k", s.Sampling.TopK, 0, 1<<20)
	r.that(s.Sampling.Temperature > 0 || s.Draws == 1, "draws is %d at temperature 0: greedy draws are all the same, want 1", s.Draws)

	s.validateSFT(r)
	s.validateSPIN(r)

	r.within("lora.rank", s.LoRA.Rank, 0, 4096)
	if s.LoRA.Rank > 0 {
		r.positive("lora.alpha", s.LoRA.Alpha)
		r.that(len(s.LoRA.Targets) > 0, "lora.targets is empty: want names such as q_proj")
	}
	r.oneOf("engine.dtype", s.Engine.DType, "bf16", "f32", "auto")
	most := s.Data.MaxPromptTokens + (1+2*s.Draws)*s.Sampling.MaxNewTokens
	r.that(s.Engine.MicroTokens >= most, "engine.micro_tokens is %d: want %d or more, the longest game (prompt, human answer, draws)", s.Engine.MicroTokens, most)
	r.that(s.Engine.Memory >= 0, "engine.memory is %d: want 0 or more", int64(s.Engine.Memory))
	return r.err
}

func (s Spec) validateSFT(r *rules) {
	r.within("sft.epochs", s.SFT.Epochs, 0, 1000)
	if s.SFT.Epochs == 0 && s.Control == "none" {
		return
	}
	r.positive("sft.lr", s.SFT.LR)
	r.within("sft.batch", s.SFT.Batch, 1, 1<<20)
	r.optimizer("sft.optimizer", s.SFT.Optimizer)
	r.share("sft.warmup", s.SFT.Warmup)
	_, err := optim.ParseShape(s.SFT.Schedule)
	r.that(err == nil, "sft.schedule: %v", err)
	r.norm("sft.max_grad_norm", s.SFT.MaxGradNorm)
}

func (s Spec) validateSPIN(r *rules) {
	each(r, "spin.loss", s.SPIN.Loss, func(field, v string) {
		_, err := spin.ParseLoss(v)
		r.that(err == nil, "%s: %v", field, err)
	})
	each(r, "spin.beta", s.SPIN.Beta, r.positive)
	each(r, "spin.lr", s.SPIN.LR, r.positive)
	each(r, "spin.epochs", s.SPIN.Epochs, func(field string, v int) { r.within(field, v, 1, 1000) })
	each(r, "spin.horizon", s.SPIN.Horizon, func(field string, v int) { r.within(field, v, 0, 1000) })
	each(r, "spin.mix_previous", s.SPIN.MixPrevious, func(string, bool) {})
	r.within("spin.batch", s.SPIN.Batch, 1, 1<<20)
	r.optimizer("spin.optimizer", s.SPIN.Optimizer)
	r.share("spin.warmup", s.SPIN.Warmup)
	_, err := optim.ParseShape(s.SPIN.Schedule)
	r.that(err == nil, "spin.schedule: %v", err)
	r.norm("spin.max_grad_norm", s.SPIN.MaxGradNorm)
	r.oneOf("spin.opponent_logps", s.SPIN.OpponentLogps, "generator", "trainer")
	if r.err != nil {
		return
	}
	for t := range s.Iterations {
		pairs := s.PairsPerGame(t)
		r.that(s.SPIN.Batch%pairs == 0, "spin.batch is %d pairs, but a game of iteration %d has %d: want a multiple of it", s.SPIN.Batch, t, pairs)
		h, epochs := s.SPIN.Horizon.At(t), s.SPIN.Epochs.At(t)
		r.that(h == 0 || h >= epochs, "spin.horizon is %d epochs in iteration %d, which has %d: want as many or more, or 0 for the same", h, t, epochs)
	}
}

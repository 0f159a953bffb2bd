package run

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/seed-8780d58e/spin/pkg/spin"
)

// PerIteration is a setting that may change from one iteration to the next. In a run file it is one value or a list, whose last entry holds for all
// iterations that follow.
type PerIteration[T any] struct{ spin.PerIteration[T] }

// Each makes a PerIteration; Each(x) is x in every iteration.
func Each[T any](values ...T) PerIteration[T] {
	return PerIteration[T]{spin.PerIteration[T](values)}
}

// Spec is everything that decides what a run computes. Fields marked (how) decide only how, and are not part of the digest.
type Spec struct {
	Name       string   `json:"name"`       // (how) for people
	Preset     string   `json:"preset"`     // (how) default, quick or paper: whose values hold where the file says nothing
	Seed       uint64   `json:"seed"`       // of order and sampling
	Model      Source   `json:"model"`      // what θ_0 comes from: a directory or a GGUF
	Data       Data     `json:"data"`       // prompts with their human answers
	Iterations int      `json:"iterations"` // T of self-play
	Draws      int      `json:"draws"`      // opponent's answers a prompt
	Sampling   Sampling `json:"sampling"`   // how they are drawn
	SFT        SFT      `json:"sft"`        // before iteration 0
	SPIN       SPIN     `json:"spin"`       // the game
	LoRA       LoRA     `json:"lora"`       // rank 0: full fine-tuning
	Engine     Engine   `json:"engine"`     // arithmetic
	// MaxMissing is how many games of an iteration may become holes without a person's word.
	MaxMissing int `json:"max_missing"`
	// StopWhen lets the trainer wait for the scores of θ_{t+1} before it plays iteration t+1, and end the run early.
	StopWhen  StopWhen  `json:"stop_when"`
	Control   string    `json:"control"`   // none, or sft: fine-tuning that goes on for as many tokens, beside the result
	Retention Retention `json:"retention"` // (how) of checkpoints
	// CheckpointEvery steps the trainer saves what it needs to go on in the middle of an iteration (how); 0: as often as two percent of its time allow,
	// and not more than once a minute.
	CheckpointEvery int `json:"checkpoint_every"`
}

// Source is a file or directory and what it must be.
type Source struct {
	Path   string `json:"path"`   // (how, once the digest is known) empty: the default of the project
	SHA256 string `json:"sha256"` // empty in a file: filled in when the run is submitted
}

// Data is the fine-tuning set and how much of it is played.
type Data struct {
	Source          `yaml:",inline"`
	Prompts         int  `json:"prompts"`           // trained on; 0: all that are not held out, counted on submission
	Heldout         int  `json:"heldout"`           // only measured
	MaxPromptTokens int  `json:"max_prompt_tokens"` // longer ones are bad rows
	SkipBadRows     bool `json:"skip_bad_rows"`     // count and list bad rows instead of refusing the run
}

// Sampling of the opponent's answers. Human answers are cut at MaxNewTokens too, so that length gives nothing away.
type Sampling struct {
	MaxNewTokens int     `json:"max_new_tokens"`
	Temperature  float64 `json:"temperature"` // 1 is the model's own distribution, what Algorithm 1 says; 0 is greedy
	TopP         float64 `json:"top_p"`       // 1: off
	TopK         int     `json:"top_k"`       // 0: off
}

// SFT makes θ_0 out of the model by fine-tuning on the human answers; 0 epochs where the model already is one.
type SFT struct {
	Epochs      int       `json:"epochs"`
	LR          float64   `json:"lr"`
	Batch       int       `json:"batch"` // answers a step
	Optimizer   Optimizer `json:"optimizer"`
	Warmup      float64   `json:"warmup"` // share of the steps
	Schedule    string    `json:"schedule"`
	MaxGradNorm float64   `json:"max_grad_norm"` // 0: no clipping
}

// SPIN is the game of each iteration.
type SPIN struct {
	Loss   PerIteration[string]  `json:"loss"` // logistic, hinge, exponential, correlation
	Beta   PerIteration[float64] `json:"beta"` // the paper's λ
	LR     PerIteration[float64] `json:"lr"`
	Epochs PerIteration[int]     `json:"epochs"`
	// Horizon is the number of epochs that the schedule is made for; 0: Epochs. The reference plans 6 and stops after 2, at 74 % of the peak.
	Horizon     PerIteration[int]  `json:"horizon"`
	MixPrevious PerIteration[bool] `json:"mix_previous"` // train on the draws of t−1 too, rescored under θ_t; of no effect in iteration 0
	Batch       int                `json:"batch"`        // pairs a step
	Optimizer   Optimizer          `json:"optimizer"`
	Warmup      float64            `json:"warmup"` // share of the horizon
	Schedule    string             `json:"schedule"`
	MaxGradNorm float64            `json:"max_grad_norm"` // 0: no clipping
	// OpponentLogps says who scores the pairs under θ_t: generator, with the game; or trainer, in a pass of its own after sealing, for fleets whose
	// engines differ from the trainer's.
	OpponentLogps string `json:"opponent_logps"`
}

// Optimizer by name, with torch's constants.
type Optimizer struct {
	Name        string  `json:"name"`  // rmsprop or adamw
	Alpha       float64 `json:"alpha"` // rmsprop
	Beta1       float64 `json:"beta1"` // adamw
	Beta2       float64 `json:"beta2"` // adamw
	Eps         float64 `json:"eps"`
	WeightDecay float64 `json:"weight_decay"`
}

// LoRA adapters (arXiv 2106.09685).
type LoRA struct {
	Rank    int      `json:"rank"`
	Alpha   float64  `json:"alpha"`
	Targets []string `json:"targets"` // Hugging Face names of the adapted projections
}

// Engine is arithmetic: what decides bits.
type Engine struct {
	DType       string   `json:"dtype"`        // of the compute weights: bf16, f32, or auto, which is settled when the run is submitted
	MicroTokens int      `json:"micro_tokens"` // of a micro-batch at most; decides the order of summation
	Memory      Bytes    `json:"memory"`       // (how) for activations; 0: what the machine has. Decides only what is recomputed
	Engines     []string `json:"engines"`      // fingerprints whose games are taken; empty: the trainer's own
}

// Retention says which checkpoints are kept.
type Retention struct {
	Last int  `json:"last"` // newest ones; 0: all
	Best bool `json:"best"` // and the one with the lowest held-out NLL
}

// Canonical is what decides the result, as JSON: the fields that are not marked (how), and no path whose digest is known.
func (s Spec) Canonical() []byte {
	s.Name, s.Preset, s.Engine.Memory, s.Retention, s.CheckpointEvery = "", "", 0, Retention{}, 0
	if s.Model.SHA256 != "" {
		s.Model.Path = ""
	}
	if s.Data.SHA256 != "" {
		s.Data.Path = ""
	}
	b, err := json.Marshal(s)
	if err != nil {
		panic("run: a spec that is not valid has no digest") // NaN or infinity, which Validate refuses
	}
	return b
}

// Digest names what the run computes: two specs with one digest, on one engine, give the same weights.
func (s Spec) Digest() string {
	sum := sha256.Sum256(s.Canonical())
	return hex.EncodeToString(sum[:])
}

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

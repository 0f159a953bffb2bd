package command

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/checkpoint"
	"github.com/seed-8780d58e/spin/pkg/dataset"
	"github.com/seed-8780d58e/spin/pkg/file"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/spin"
	"github.com/seed-8780d58e/spin/services/trainer/train"
)

// trainCommand plays one iteration from given pairs, the opponent being the weights it starts from.
type trainCommand struct {
	machine
	pairs, objective, loss, schedule, optimizer string
	beta, lr, warmup, maxNorm, weightDecay      float64
	alpha, beta1, beta2, eps                    float64
	batch, epochs, horizon, steps, micro        int
	loraRank                                    int
	loraAlpha                                   float64
	memory                                      string
	seed                                        uint64
	shuffle                                     bool
	dir, metrics, summary                       string
}

func (c *trainCommand) flags(f *pflag.FlagSet) {
	f.StringVar(&c.pairs, "pairs", "", `JSON Lines: {"real", "generated"} message lists, or {"prompt", "chosen", "rejected"}`)
	f.StringVar(&c.dir, "dir", "", "checkpoint directory to write; transformers loads it")
	f.StringVar(&c.metrics, "metrics", "", "file for each step's metrics, a JSON line each")
	f.StringVar(&c.summary, "summary", "", "file for the summary, JSON")
	c.engine.DType = "f32" // what is measured against others, unless asked for otherwise
	c.machine.flags(f)
	f.StringVar(&c.objective, "objective", "spin", "spin, or sft: fine-tuning on the real answers alone")
	f.StringVar(&c.loss, "loss", "logistic", "logistic, hinge, exponential or correlation")
	f.Float64Var(&c.beta, "beta", 0.1, "the paper's lambda")
	f.IntVar(&c.batch, "batch", 8, "pairs a step")
	f.IntVar(&c.epochs, "epochs", 1, "times that the pairs are used")
	f.IntVar(&c.steps, "steps", 0, "stop after this many steps; 0: after the epochs")
	f.BoolVar(&c.shuffle, "shuffle", true, "order by the seed; false keeps the file's order")
	f.Uint64Var(&c.seed, "seed", 1, "of the order, and of LoRA's start")
	f.StringVar(&c.optimizer, "optimizer", "rmsprop", "rmsprop or adamw, with torch's rules")
	f.Float64Var(&c.lr, "lr", 5e-7, "peak learning rate")
	f.StringVar(&c.schedule, "schedule", "linear", "linear, cosine or constant")
	f.Float64Var(&c.warmup, "warmup", 0.1, "share of the horizon over which the rate rises")
	f.IntVar(&c.horizon, "horizon", 0, "steps that the schedule is made for; 0: as many as are taken")
	f.Float64Var(&c.maxNorm, "max-grad-norm", 1, "clip the gradient to this global norm; 0: never")
	f.Float64Var(&c.alpha, "alpha", 0.99, "rmsprop's decay")
	f.Float64Var(&c.beta1, "beta1", 0.9, "adamw's")
	f.Float64Var(&c.beta2, "beta2", 0.999, "adamw's")
	f.Float64Var(&c.eps, "eps", 1e-8, "of both optimizers")
	f.Float64Var(&c.weightDecay, "weight-decay", 0, "on matrices")
	f.IntVar(&c.loraRank, "lora-rank", 0, "train adapters of this rank on all projections; 0: all weights")
	f.Float64Var(&c.loraAlpha, "lora-alpha", 16, "adapters count alpha / rank")
	f.IntVar(&c.micro, "micro-tokens", 2048, "tokens of a micro-batch; decides the order of summation")
	f.StringVar(&c.memory, "memory", "0", "for activations, e.g. 2GiB; 0: no bound. Changes no result")
}

// stepLine is a line of --metrics.
type stepLine struct {
	Step            int     `json:"step"`
	Epoch           int     `json:"epoch"`
	Loss            float64 `json:"loss"`
	Margin          float64 `json:"margin"`
	Accuracy        float64 `json:"accuracy"`
	RewardReal      float64 `json:"reward_real"`
	RewardGenerated float64 `json:"reward_generated"`
	LogpReal        float64 `json:"logp_real"`
	LogpGenerated   float64 `json:"logp_generated"`
	NLL             float64 `json:"nll"`
	Entropy         float64 `json:"entropy"`
	GradNorm        float64 `json:"grad_norm"`
	LR              float64 `json:"lr"`
	Tokens          int     `json:"tokens"`
	Seconds         float64 `json:"seconds"`
}

// trainSummary is --summary.
type trainSummary struct {
	WeightsSHA256  string  `json:"weights_sha256"`
	CheckpointDir  string  `json:"checkpoint_dir"`
	Steps          int     `json:"steps"`
	Pairs          int     `json:"pairs"`
	LossFirst      float64 `json:"loss_first"`
	LossLast       float64 `json:"loss_last"` // mean of the last quarter of the steps
	TokensPerS     float64 `json:"train_tokens_per_s"`
	Seconds        float64 `json:"seconds"`
	Fingerprint    string  `json:"fingerprint"`
	PeakDeviceByte int64   `json:"device_bytes"`
}

// recipe is what the flags say, read and checked.
type recipe struct {
	objective spin.Objective
	rule      compute.Optimizer
	memory    int64
	shape     optim.Shape
	lora      *model.LoRA
}

func (c *trainCommand) run(ctx context.Context, _ []string, s Streams) error {
	r, err := c.recipe()
	if err != nil {
		return badInput(err)
	}
	pairs, _, err := dataset.OpenPairs(c.pairs, dataset.Options{Duplicates: true})
	if err != nil {
		return badInput(err)
	}
	schedule, steps, err := c.plan(r.shape, len(pairs))
	if err != nil {
		return badInput(err)
	}
	p, dev, dtype, err := c.open()
	if err != nil {
		return err
	}
	defer p.Close()
	defer dev.Close()
	games, longest, err := encodePairs(p, pairs, c.micro)
	if err != nil {
		return badInput(err)
	}
	if err := c.outputs(); err != nil {
		return badInput(err)
	}
	m, err := load(p, dev, model.Options{DType: dtype, Full: r.lora == nil, LoRA: r.lora, MaxContext: longest})
	if err != nil {
		return err
	}
	defer m.Free()
	learner, err := train.NewLearner(m, train.Settings{MicroTokens: c.micro, Memory: r.memory, Rule: r.rule, MaxNorm: c.maxNorm})
	if err != nil {
		return badInput(err)
	}
	defer learner.Free()
	sum, err := c.play(ctx, learner, games, r.objective, schedule, steps)
	if err != nil {
		return err
	}
	sum.Fingerprint = dev.Fingerprint() + "/" + dtype.String()
	sum.PeakDeviceByte = m.Bytes() + learner.Bytes()
	if err := c.save(p, m, &sum); err != nil {
		return err
	}
	return writeSummary(c.summary, s.Out, sum)
}

// recipe reads the flags before anything is opened.
func (c *trainCommand) recipe() (r recipe, err error) {
	switch {
	case c.pairs == "":
		return r, fmt.Errorf("--pairs is missing: the file of pairs to train on")
	case c.batch < 1 || c.epochs < 1 || c.micro < 1 || c.steps < 0 || c.horizon < 0 || c.loraRank < 0:
		return r, fmt.Errorf("--batch, --epochs and --micro-tokens want 1 or more, --steps, --horizon and --lora-rank 0 or more")
	case c.objective != "spin" && c.objective != "sft":
		return r, fmt.Errorf("--objective %q, want spin or sft", c.objective)
	case !(c.warmup >= 0 && c.warmup <= 1):
		return r, fmt.Errorf("--warmup %v, want a share of the horizon, 0 to 1", c.warmup)
	case !(c.maxNorm >= 0):
		return r, fmt.Errorf("--max-grad-norm %v, want 0 (never clip) or more", c.maxNorm)
	case c.loraRank > 0 && !(c.loraAlpha > 0):
		return r, fmt.Errorf("--lora-alpha %v, want more than 0", c.loraAlpha)
	}
	if r.objective.Loss, err = spin.ParseLoss(c.loss); err != nil {
		return r, fmt.Errorf("--loss: %w", err)
	}
	r.objective.Beta = c.beta
	if err := r.objective.Validate(); err != nil {
		return r, err
	}
	if r.rule, err = optim.ParseRule(c.optimizer); err != nil {
		return r, fmt.Errorf("--optimizer: %w", err)
	}
	r.rule.Alpha, r.rule.Beta1, r.rule.Beta2, r.rule.Eps, r.rule.WeightDecay = c.alpha, c.beta1, c.beta2, c.eps, c.weightDecay
	if err := optim.Validate(r.rule); err != nil {
		return r, err
	}
	memory, err := run.ParseBytes(c.memory)
	if err != nil {
		return r, fmt.Errorf("--memory: %w", err)
	}
	r.memory = int64(memory)
	if r.shape, err = optim.ParseShape(c.schedule); err != nil {
		return r, fmt.Errorf("--schedule: %w", err)
	}
	if c.loraRank > 0 {
		r.lora = &model.LoRA{Rank: c.loraRank, Alpha: c.loraAlpha, Seed: c.seed, Targets: []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}}
	}
	return r, nil
}

// plan is the number of steps that so many pairs make, and their learning rates.
func (c *trainCommand) plan(shape optim.Shape, pairs int) (optim.Schedule, int, error) {
	steps := optim.Steps(pairs, c.batch) * c.epochs
	if c.steps > 0 {
		steps = min(steps, c.steps)
	}
	horizon := c.horizon
	if horizon == 0 {
		horizon = steps
	}
	s := optim.Schedule{Shape: shape, LR: c.lr, Warmup: optim.WarmupSteps(c.warmup, horizon), Horizon: horizon}
	return s, steps, s.Validate()
}

// outputs finds out before the work, not after it, that a result could not be written.
func (c *trainCommand) outputs() error {
	if c.dir != "" {
		if err := replaceable(c.dir); err != nil {
			return fmt.Errorf("--dir: %w", err)
		}
		d, err := file.CreateDir(c.dir)
		if err != nil {
			return fmt.Errorf("--dir: %w", err)
		}
		d.Abort()
	}
	if c.summary != "" {
		f, err := file.Create(c.summary)
		if err != nil {
			return fmt.Errorf("--summary: %w", err)
		}
		f.Abort()
	}
	return nil
}

// play takes the steps.
func (c *trainCommand) play(ctx context.Context, l *train.Learner, games []train.Game, objective spin.Objective, schedule optim.Schedule, steps int) (sum trainSummary, err error) {
	lines, err := newLines(c.metrics)
	if err != nil {
		return sum, badInput(err)
	}
	defer lines.close()
	began := time.Now()
	if c.objective == "spin" {
		if err := l.Score(games); err != nil {
			return sum, err
		}
	}
	var losses []float64
	tokens, trained := 0, time.Now()
	for epoch := 1; epoch <= c.epochs && len(losses) < steps; epoch++ {
		for _, batch := range c.batches(len(games), epoch) {
			if len(losses) == steps {
				break
			}
			if ctx.Err() != nil {
				return sum, ctx.Err()
			}
			step, start := len(losses)+1, time.Now()
			out, err := c.step(l, batch, games, objective, schedule.At(step))
			if err != nil {
				return sum, fmt.Errorf("step %d: %w", step, err)
			}
			losses = append(losses, out.Loss)
			tokens += out.Tokens
			if err := lines.write(newStepLine(step, epoch, schedule.At(step), out, time.Since(start))); err != nil {
				return sum, err
			}
		}
	}
	sum = trainSummary{Steps: len(losses), Pairs: len(games), LossFirst: losses[0], LossLast: lastQuarter(losses), TokensPerS: float64(tokens) / time.Since(trained).Seconds(), Seconds: time.Since(began).Seconds()}
	return sum, lines.close()
}

func (c *trainCommand) batches(n, epoch int) [][]int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	if c.shuffle {
		order = run.Order(c.seed, run.SPINStage, 0, epoch, n)
	}
	return run.Batches(order, c.batch, nil)
}

func (c *trainCommand) step(l *train.Learner, batch []int, games []train.Game, objective spin.Objective, lr float64) (train.Outcome, error) {
	chosen := make([]train.Game, len(batch))
	for i, g := range batch {
		chosen[i] = games[g]
	}
	if c.objective == "sft" {
		return l.Imitate(chosen, lr)
	}
	return l.Play(chosen, objective, lr)
}

func newStepLine(step, epoch int, lr float64, out train.Outcome, took time.Duration) stepLine {
	line := stepLine{Step: step, Epoch: epoch, Loss: out.Loss, NLL: out.NLL, Entropy: out.Entropy, GradNorm: out.GradNorm, LR: lr, Tokens: out.Tokens, Seconds: took.Seconds()}
	if out.Pairs() > 0 {
		line.Margin, line.Accuracy, line.RewardReal, line.RewardGenerated = out.Margin(), out.Accuracy(), out.RewardReal(), out.RewardGenerated()
		line.LogpReal, line.LogpGenerated = out.LogPReal(), out.LogPGenerated()
	}
	return line
}

// lastQuarter is the mean of the last quarter, at least one.
func lastQuarter(losses []float64) float64 {
	n := max(len(losses)/4, 1)
	sum := 0.0
	for _, l := range losses[len(losses)-n:] {
		sum += l
	}
	return sum / float64(n)
}

// encodePairs makes the games, none of more than micro tokens, and the length of the longest sequence.
func encodePairs(p *pretrained.Pretrained, pairs []dataset.Pair, micro int) (games []train.Game, longest int, err error) {
	for _, pair := range pairs {
		prompt, err := p.Template.Prompt(pair.Prompt)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", pair.Place, err)
		}
		g := train.Game{PromptID: pair.PromptID, Prompt: prompt, Real: train.Answer{IDs: p.Template.Response(pair.Response, true)}}
		g.Draws = []train.Draw{{Answer: train.Answer{IDs: p.Template.Response(pair.Generated, true)}}}
		n := len(prompt) + max(len(g.Real.IDs), len(g.Draws[0].IDs))
		if n > p.ModelConfig.Context {
			return nil, 0, fmt.Errorf("%s: prompt and answer have %d tokens, the model's context is %d", pair.Place, n, p.ModelConfig.Context)
		}
		t := model.Tree{Prompt: prompt, Answers: [][]int32{g.Real.IDs, g.Draws[0].IDs}}
		if n := max(t.Tokens(), t.Targets()); n > micro {
			return nil, 0, fmt.Errorf("%s: the pair has %d tokens, --micro-tokens is %d", pair.Place, n, micro)
		}
		longest = max(longest, n)
		games = append(games, g)
	}
	return games, longest, nil
}

// save writes the checkpoint, and fills in its digest.
func (c *trainCommand) save(p *pretrained.Pretrained, m *model.Model, sum *trainSummary) error {
	src := train.Weights(m, p)
	var err error
	if sum.WeightsSHA256, err = checkpoint.Digest(src); err != nil {
		return err
	}
	if c.dir == "" {
		return nil
	}
	if sum.CheckpointDir, err = filepath.Abs(c.dir); err != nil {
		return err
	}
	return badInput(p.Write(c.dir, src, "", true))
}

package command

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/checkpoint"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/services/trainer/train"
)

// specFlags say what a run computes: flags over a run file over a preset.
type specFlags struct {
	config string
	quick  bool
	set    *pflag.FlagSet
	v      run.Spec // where the flags' values go before they are laid over the file's
	lr     []float64
	beta   []float64
	loss   []string
	epochs []int
	mix    bool
	memory string
	stop   string
}

func (s *specFlags) flags(f *pflag.FlagSet) {
	s.set = f
	f.StringVar(&s.config, "config", "", "run file, YAML; --print-config shows every key")
	f.StringVar(&s.v.Preset, "preset", "", "default, quick or paper: what holds where neither flag nor file says anything")
	f.BoolVar(&s.quick, "quick", false, "--preset quick: half the prompts, for a first look")
	f.StringVar(&s.v.Name, "name", "", "of the run, for people")
	f.StringVar(&s.v.Data.Path, "data", "", "prompts with human answers: JSON Lines or Parquet (default: the chit-chat set, see `make answers`)")
	f.IntVar(&s.v.Iterations, "iterations", 0, "of self-play")
	f.IntVar(&s.v.Data.Prompts, "prompts", 0, "to train on")
	f.IntVar(&s.v.Data.Heldout, "heldout", 0, "prompts that are only measured")
	f.BoolVar(&s.v.Data.SkipBadRows, "skip-bad-rows", false, "count and list bad rows instead of stopping at the first")
	f.IntVar(&s.v.Draws, "draws", 0, "opponent's answers a prompt")
	f.Uint64Var(&s.v.Seed, "seed", 0, "of the split, the order and the draws")
	f.IntVar(&s.v.Sampling.MaxNewTokens, "max-new-tokens", 0, "of a draw; human answers are cut there too")
	f.Float64Var(&s.v.Sampling.Temperature, "temperature", 0, "of the draws; 1 is the model's own distribution")
	f.IntVar(&s.v.SFT.Epochs, "sft-epochs", 0, "of fine-tuning before iteration 0; 0 where the model is fine-tuned already")
	f.Float64Var(&s.v.SFT.LR, "sft-lr", 0, "its peak learning rate")
	f.IntVar(&s.v.SPIN.Batch, "batch", 0, "pairs a step")
	f.Float64SliceVar(&s.lr, "lr", nil, "peak learning rate, one or one for each iteration")
	f.Float64SliceVar(&s.beta, "beta", nil, "the paper's lambda, one or one for each iteration")
	f.StringSliceVar(&s.loss, "loss", nil, "logistic, hinge, exponential or correlation, one or one for each iteration")
	f.IntSliceVar(&s.epochs, "epochs", nil, "over the games, one or one for each iteration")
	f.BoolVar(&s.mix, "mix-previous", true, "train on the draws of the iteration before too")
	f.StringVar(&s.v.Control, "control", "", "none, or sft: fine-tuning that goes on for as many tokens, beside the result")
	f.StringVar(&s.stop, "stop-when", "", "end the run early, after an iteration: no_gain (held-out NLL within its standard error), accuracy_below=0.55 (held-out), or both with a comma")
	f.IntVar(&s.v.LoRA.Rank, "lora-rank", 0, "adapters of this rank; 0: all weights")
	f.IntVar(&s.v.Engine.MicroTokens, "micro-tokens", 0, "tokens of a micro-batch; decides the order of summation")
	f.StringVar(&s.memory, "memory", "", "for activations, e.g. 2GiB. Changes no result")
}

// spec lays the flags that were given over the file and the preset.
func (s *specFlags) spec() (run.Spec, error) {
	preset := s.v.Preset
	if s.quick {
		preset = "quick"
	}
	var data []byte
	if s.config != "" {
		var err error
		if data, err = os.ReadFile(s.config); err != nil {
			return run.Spec{}, err
		}
	}
	name := s.config
	if name == "" {
		name = "preset"
	}
	spec, err := run.ParseOver(name, data, preset)
	if err != nil {
		return run.Spec{}, err
	}
	for flag, lay := range map[string]func(){
		"name": func() { spec.Name = s.v.Name }, "data": func() { spec.Data.Path, spec.Data.SHA256 = s.v.Data.Path, "" },
		"iterations": func() { spec.Iterations = s.v.Iterations }, "prompts": func() { spec.Data.Prompts = s.v.Data.Prompts },
		"heldout": func() { spec.Data.Heldout = s.v.Data.Heldout }, "skip-bad-rows": func() { spec.Data.SkipBadRows = s.v.Data.SkipBadRows },
		"draws": func() { spec.Draws = s.v.Draws }, "seed": func() { spec.Seed = s.v.Seed },
		"max-new-tokens": func() { spec.Sampling.MaxNewTokens = s.v.Sampling.MaxNewTokens },
		"temperature":    func() { spec.Sampling.Temperature = s.v.Sampling.Temperature },
		"sft-epochs":     func() { spec.SFT.Epochs = s.v.SFT.Epochs }, "sft-lr": func() { spec.SFT.LR = s.v.SFT.LR },
		"batch": func() { spec.SPIN.Batch = s.v.SPIN.Batch }, "lr": func() { spec.SPIN.LR = run.Each(s.lr...) },
		"beta": func() { spec.SPIN.Beta = run.Each(s.beta...) }, "loss": func() { spec.SPIN.Loss = run.Each(s.loss...) },
		"epochs": func() { spec.SPIN.Epochs = run.Each(s.epochs...) }, "mix-previous": func() { spec.SPIN.MixPrevious = run.Each(s.mix) },
		"control": func() { spec.Control = s.v.Control }, "lora-rank": func() { spec.LoRA.Rank = s.v.LoRA.Rank },
		"micro-tokens": func() { spec.Engine.MicroTokens = s.v.Engine.MicroTokens },
	} {
		if s.set.Changed(flag) {
			lay()
		}
	}
	if s.set.Changed("memory") {
		if spec.Engine.Memory, err = run.ParseBytes(s.memory); err != nil {
			return run.Spec{}, fmt.Errorf("--memory: %w", err)
		}
	}
	if s.set.Changed("stop-when") {
		if spec.StopWhen, err = run.ParseStopWhen(s.stop); err != nil {
			return run.Spec{}, fmt.Errorf("--stop-when: %w", err)
		}
	}
	if spec.LoRA.Rank > 0 && spec.LoRA.Alpha == 0 {
		spec.LoRA.Alpha = float64(2 * spec.LoRA.Rank)
	}
	return spec, nil
}

// prepared is a run that could begin: its spec with nothing left open, its model and its device.
type prepared struct {
	spec   run.Spec
	model  *pretrained.Pretrained
	dev    compute.Device
	dtype  compute.DType
	tokens train.Lengths
}

// prepare opens model and device, those of the flags where they were given, else the spec's; settles
// what the spec leaves to the machine; and reads the prompts, so that bad ones are found before
// anything starts. The caller closes it.
func (s *specFlags) prepare(m *machine, spec run.Spec) (_ *prepared, err error) {
	if m.path == "" {
		m.path = spec.Model.Path
	}
	if !s.set.Changed("dtype") {
		m.engine.DType = spec.Engine.DType
	}
	p := &prepared{}
	if p.model, p.dev, p.dtype, err = m.open(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.spec, err = resolve(spec, p.model, p.dtype.String()); err != nil {
		return nil, badInput(err)
	}
	prompts, err := train.ReadPrompts(p.spec, p.model)
	if err != nil {
		return nil, badInput(err)
	}
	p.tokens = prompts.Lengths()
	p.spec.Data.Prompts = p.tokens.Prompts // 0 was: all that there are
	return p, nil
}

func (p *prepared) close() {
	p.dev.Close()
	p.model.Close()
}

// resolve fills in what a spec leaves to the machine: paths, digests and the dtype.
func resolve(spec run.Spec, p *pretrained.Pretrained, dtype string) (run.Spec, error) {
	var err error
	if spec.Model.Path, err = filepath.Abs(p.Path); err != nil {
		return spec, err
	}
	digest, err := checkpoint.Digest(p)
	if err != nil {
		return spec, err
	}
	if spec.Model.SHA256 != "" && spec.Model.SHA256 != digest {
		return spec, fmt.Errorf("model %s has weights %.12s, the run file wants %.12s", spec.Model.Path, digest, spec.Model.SHA256)
	}
	spec.Model.SHA256 = digest
	if spec.Data.Path == "" {
		if spec.Data.Path, err = defaultAnswers(); err != nil {
			return spec, err
		}
	}
	if spec.Data.Path, err = filepath.Abs(spec.Data.Path); err != nil {
		return spec, err
	}
	digest, err = fileDigest(spec.Data.Path)
	if err != nil {
		return spec, err
	}
	if spec.Data.SHA256 != "" && spec.Data.SHA256 != digest {
		return spec, fmt.Errorf("data %s has sha256 %.12s, the run file wants %.12s", spec.Data.Path, digest, spec.Data.SHA256)
	}
	spec.Data.SHA256 = digest
	spec.Engine.DType = dtype
	return spec, spec.Validate()
}

// defaultAnswers is the file that deploy/fetch.sh leaves in the cache folder.
func defaultAnswers() (string, error) {
	path := filepath.Join(cacheDir(), "chitchat", "dataset.json")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no data: give --data FILE.jsonl, or fetch the default human answers with `make answers` (looked for %s)", path)
	}
	return path, nil
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

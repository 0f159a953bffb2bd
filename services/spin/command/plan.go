package command

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/services/generator/generate"
	"github.com/seed-8780d58e/spin/services/trainer/train"
)

// plan says what a run would take before anything starts: memory and disk from the model's shape,
// time from its arithmetic and from how fast this machine multiplies, which is measured.
type plan struct {
	machine
	specFlags
	generator generate.Config
}

func (c *plan) flags(f *pflag.FlagSet) {
	c.machine.flags(f)
	c.specFlags.flags(f)
	c.generator.RegisterFlags(f)
}

func (c *plan) run(_ context.Context, _ []string, s Streams) error {
	spec, err := c.spec()
	if err != nil {
		return badInput(err)
	}
	p, err := c.prepare(&c.machine, spec)
	if err != nil {
		return err
	}
	defer p.close()
	e := estimate{spec: p.spec, cfg: p.model.ModelConfig, dtype: p.dtype, tokens: p.tokens}
	e.rate = measureRate(p.dev, p.model.ModelConfig, p.dtype)
	e.print(s.Out, c.generator)
	return nil
}

// estimate is what a run would take.
type estimate struct {
	spec   run.Spec
	cfg    model.Config
	dtype  compute.DType
	tokens train.Lengths
	rate   float64 // multiply-adds counted as two, a second
}

// What is reached of the rate that the products have by themselves; the rest is attention, norms, the
// optimizer, packing, waiting. From the default run on two idle cores with AVX2: fine-tuning took
// 104 s where its products alone would have taken 63, and BenchmarkDecode samples 32 at once at
// 297 tokens/s, 80 of 182 GFLOP/s.
const (
	trainShare  = 0.6 // training and scoring
	decodeShare = 0.4 // sampling, which memory bounds
)

func (e *estimate) print(w io.Writer, gen generate.Config) {
	c, spec := e.cfg, e.spec
	params := float64(c.Parameters())
	matrices, head := matrixParameters(c), float64(c.Vocab)*float64(c.Hidden)
	forward := func(inputs, targets int) float64 { return 2 * (matrices*float64(inputs) + head*float64(targets)) }

	weights, acts, sampler := e.memory(gen)

	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "model\t%.0f M parameters, %s\n", params/1e6, e.dtype)
	fmt.Fprintf(t, "memory\t%s to train (weights, gradients, %s), %s activations, %s to sample and evaluate\n", gib(weights), spec.SPIN.Optimizer.Name, gib(acts), gib(2*sampler))
	fmt.Fprintf(t, "disk\t%s at most, %s of it each checkpoint\n", gib(float64(train.DiskBytes(spec, c))), gib(4*params))
	fmt.Fprintf(t, "products\t%.0f GFLOP/s measured here\n", e.rate/1e9)

	n := e.tokens
	var total float64
	line := func(name string, flops, share float64) {
		seconds := flops / (e.rate * share)
		total += seconds
		fmt.Fprintf(t, "%s\t%s\n", name, duration(seconds))
	}
	// What prompts begin with is computed once a batch: read once for every other prompt of it less.
	prompts := func(batch int) int {
		batches := (n.Prompts + batch - 1) / max(batch, 1)
		return n.Prompt - n.Shared*(n.Prompts-batches)
	}
	if spec.SFT.Epochs > 0 {
		line("fine-tuning", 3*float64(spec.SFT.Epochs)*forward(prompts(spec.SFT.Batch)+n.Real, n.Real), trainShare)
	}
	draws := n.Real * spec.Draws // drawn answers are about as long as the human ones once fine-tuned
	games := float64(spec.Data.Prompts+spec.Data.Heldout) / float64(max(spec.Data.Prompts, 1))
	for i := range spec.Iterations {
		answers := n.Real + draws
		if spec.Mixes(i) {
			answers += draws
		}
		line(fmt.Sprintf("iteration %d, sampling", i), games*(forward(draws, draws)/decodeShare*trainShare+forward(n.Prompt, 0)), trainShare)
		line(fmt.Sprintf("iteration %d, scoring and evaluation", i), (2*games-1)*forward(prompts(spec.ChunkSize(i))+answers, answers), trainShare)
		line(fmt.Sprintf("iteration %d, training", i), 3*float64(spec.SPIN.Epochs.At(i))*forward(prompts(spec.GamesPerStep(i))+answers, answers), trainShare)
	}
	fmt.Fprintf(t, "in all\t%s, on an otherwise idle machine\n", duration(total))
	t.Flush()
}

// memory is what a run takes of the device, in bytes: weights (in two forms), masters, gradients and
// optimizer state; the activations of a micro-batch; and what sampling adds, cache included.
func (e *estimate) memory(gen generate.Config) (weights, acts, sampler float64) {
	c, spec, size := e.cfg, e.spec, float64(e.dtype.Size())
	params := float64(c.Parameters())
	trained := params
	if spec.LoRA.Rank > 0 {
		trained = loraParameters(c, spec.LoRA.Rank)
	}
	rule, _ := optim.ParseRule(spec.SPIN.Optimizer.Name) // a valid spec has one
	weights = params*size*2 + trained*8 + float64(optim.StateBytes(rule.Kind, int64(trained)))
	acts = float64(spec.Engine.Memory)
	if acts == 0 {
		acts = float64(model.ActivationBytes(c, e.dtype, spec.Engine.MicroTokens))
	}
	return weights, acts, params*size + float64(c.Layers)*float64(2*gen.CacheTokens*c.KVWidth())*size
}

// matrixParameters are the weights that each token is multiplied by, the head left out.
func matrixParameters(c model.Config) float64 {
	perLayer := c.Hidden*(2*c.QueryWidth()+2*c.KVWidth()) + 3*c.Hidden*c.Intermediate
	return float64(c.Layers) * float64(perLayer)
}

func loraParameters(c model.Config, rank int) float64 {
	perLayer := 2*(c.Hidden+c.QueryWidth()) + 2*(c.Hidden+c.KVWidth()) + 3*(c.Hidden+c.Intermediate)
	return float64(c.Layers) * float64(perLayer) * float64(rank)
}

// measureRate multiplies as the model's MLP does, for a moment.
func measureRate(dev compute.Device, c model.Config, dtype compute.DType) float64 {
	const rows = 2048
	be := dev.NewBackend()
	be.Reserve(compute.Limits{Tokens: rows, Width: max(c.Hidden, c.Intermediate)})
	w := dev.NewWeight(c.Intermediate, c.Hidden, dtype, false)
	defer w.Free()
	arena := dev.NewArena(int64(rows*(c.Hidden+c.Intermediate)*4) + 4096)
	defer arena.Free()
	x, y := arena.Alloc(dtype, rows, c.Hidden), arena.Alloc(dtype, rows, c.Intermediate)
	be.Zero(x)
	ys, ws := []compute.Tensor{y}, []compute.Weight{w}
	be.Linear(ys, x, ws, false)
	best := time.Duration(1 << 62)
	for began := time.Now(); time.Since(began) < time.Second; {
		start := time.Now()
		be.Linear(ys, x, ws, false)
		best = min(best, time.Since(start))
	}
	return 2 * rows * float64(c.Hidden) * float64(c.Intermediate) / best.Seconds()
}

func gib(bytes float64) string { return fmt.Sprintf("%.1f GiB", bytes/(1<<30)) }

func duration(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}

package command

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/checkpoint"
	"github.com/seed-8780d58e/spin/pkg/gguf"
	"github.com/seed-8780d58e/spin/pkg/safetensors"
)

// export writes a model in another form.
type export struct {
	machine
	best    best
	format  string
	dtype   string
	output  string
	replace bool
}

func (e *export) flags(f *pflag.FlagSet) {
	f.StringVar(&e.machine.path, "model", "", "Hugging Face directory or GGUF file (default: SmolLM2-135M-Instruct)")
	f.StringVar(&e.format, "format", "safetensors", "safetensors (a directory that transformers loads) or gguf (a file that llama.cpp loads)")
	f.StringVar(&e.dtype, "dtype", "f32", "f32, f16, bf16, or for gguf also q8_0")
	f.StringVar(&e.output, "output", "", "directory or file to write")
	f.BoolVar(&e.replace, "replace", false, "replace what is there already")
	e.best.flags(f)
}

func (e *export) run(ctx context.Context, _ []string, s Streams) error {
	switch {
	case e.output == "":
		return badInput(fmt.Errorf("--output is missing: where to write"))
	case e.best.wanted && e.machine.path != "":
		return badInput(fmt.Errorf("--best and --model: give one of them"))
	}
	if e.best.wanted {
		dir, of, err := e.best.fetch(ctx)
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		e.machine.path = dir
		fmt.Fprintf(s.Err, "run %s, %s %d: held-out NLL %.4f (%.4f to %.4f), weights %.12s\n", of.RunID, of.Phase, of.Iteration, of.NLL, of.NLLLow, of.NLLHigh, of.WeightsSHA256)
	}
	p, err := e.openModel()
	if err != nil {
		return err
	}
	defer p.Close()
	switch e.format {
	case "safetensors":
		dtype, ok := map[string]safetensors.DType{"f32": safetensors.F32, "f16": safetensors.F16, "bf16": safetensors.BF16}[e.dtype]
		if !ok {
			return badInput(fmt.Errorf("--dtype %q, want f32, f16 or bf16", e.dtype))
		}
		if e.replace {
			if err := replaceable(e.output); err != nil {
				return badInput(fmt.Errorf("--output: %w", err))
			}
		}
		err = p.Write(e.output, p, dtype, e.replace)
	case "gguf":
		kind, ok := map[string]gguf.Type{"f32": gguf.F32, "f16": gguf.F16, "bf16": gguf.BF16, "q8_0": gguf.Q8_0}[e.dtype]
		if !ok {
			return badInput(fmt.Errorf("--dtype %q, want f32, f16, bf16 or q8_0", e.dtype))
		}
		if !strings.HasSuffix(e.output, ".gguf") {
			return badInput(fmt.Errorf("--output %s: a GGUF file's name ends in .gguf", e.output))
		}
		var vocabulary *gguf.Metadata
		if vocabulary, err = p.Vocabulary(); err == nil {
			err = checkpoint.WriteGGUF(e.output, p.Config(), vocabulary, p, kind)
		}
	default:
		err = fmt.Errorf("--format %q, want safetensors or gguf", e.format)
	}
	if err != nil {
		return badInput(err)
	}
	fmt.Fprintln(s.Out, e.output)
	return nil
}

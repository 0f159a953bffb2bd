package command

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/dataset"
	"github.com/seed-8780d58e/spin/pkg/file"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
	"github.com/seed-8780d58e/spin/pkg/spin"
)

// score writes the log-probability of each token of given answers, by the pass that training uses.
type score struct {
	machine
	in     string
	output string
	tokens int
}

func (c *score) flags(f *pflag.FlagSet) {
	c.engine.DType = "f32" // what is measured against others, unless asked for otherwise
	c.machine.flags(f)
	f.StringVar(&c.in, "in", "", `JSON Lines: {"messages": […]} ending with the assistant's answer, or {"prompt", "response"}; - is standard input`)
	f.StringVar(&c.output, "output", "-", "where to write a JSON line for each; - is standard output")
	f.IntVar(&c.tokens, "batch-tokens", 2048, "tokens of a packed batch. Changes no result")
}

// scoredLine is a line of the output.
type scoredLine struct {
	PromptIDs   []int32   `json:"prompt_ids"`
	ResponseIDs []int32   `json:"response_ids"` // the end-of-turn token included
	TokenLogps  []float32 `json:"token_logps"`  // natural logarithms, one for each of response_ids
	Logp        float64   `json:"logp"`         // their sum
}

func (c *score) run(ctx context.Context, _ []string, s Streams) error {
	rows, err := c.read(s.In)
	if err != nil {
		return badInput(err)
	}
	p, dev, dtype, err := c.open()
	if err != nil {
		return err
	}
	defer p.Close()
	defer dev.Close()
	trees, longest, err := encodeRows(p, rows)
	if err != nil {
		return badInput(err)
	}
	m, err := load(p, dev, model.Options{DType: dtype, MaxContext: longest})
	if err != nil {
		return err
	}
	defer m.Free()
	pass := m.NewPass(model.PassConfig{Tokens: max(c.tokens, longest)})
	defer pass.Free()
	if c.output != "-" {
		f, err := file.Create(c.output)
		if err != nil {
			return badInput(err)
		}
		defer f.Abort()
		if err := c.write(ctx, pass, trees, f); err != nil {
			return err
		}
		return f.Commit()
	}
	w := bufio.NewWriter(s.Out)
	if err := c.write(ctx, pass, trees, w); err != nil {
		return err
	}
	return w.Flush()
}

// write scores the trees and writes a line for each.
func (c *score) write(ctx context.Context, pass *model.Pass, trees []model.Tree, w io.Writer) error {
	lines := json.NewEncoder(w)
	for part := range slices.Chunk(trees, 256) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var failed error
		err := pass.Score(part, func(tree, _ int, sc model.Scored) {
			line := scoredLine{part[tree].Prompt, part[tree].Answers[0], sc.Logps, spin.LogP(sc.Logps)}
			if math.IsNaN(line.Logp) || math.IsInf(line.Logp, 0) {
				failed = cmp.Or(failed, badInput(fmt.Errorf("the model's log-probability of an answer is %v: its weights are not usable", line.Logp)))
				return
			}
			if err := lines.Encode(line); err != nil {
				failed = cmp.Or(failed, err)
			}
		})
		if err != nil {
			return err
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

func (c *score) read(stdin io.Reader) ([]dataset.Row, error) {
	opts := dataset.Options{Duplicates: true}
	var rows []dataset.Row
	var err error
	switch c.in {
	case "":
		return nil, fmt.Errorf("--in is missing: the file of answers to score")
	case "-":
		rows, _, err = dataset.Read(stdin, "standard input", opts)
	default:
		rows, _, err = dataset.Open(c.in, opts)
	}
	if err == nil && len(rows) == 0 {
		err = fmt.Errorf("%s holds no answer", c.in)
	}
	return rows, err
}

// encodeRows makes the trees of prompts with one answer each, and the length of the longest.
func encodeRows(p *pretrained.Pretrained, rows []dataset.Row) (trees []model.Tree, longest int, err error) {
	for _, row := range rows {
		prompt, err := p.Template.Prompt(row.Prompt)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", row.Place, err)
		}
		t := model.Tree{Prompt: prompt, Answers: [][]int32{p.Template.Response(row.Response, true)}}
		if n := len(prompt) + len(t.Answers[0]); n > p.ModelConfig.Context {
			return nil, 0, fmt.Errorf("%s: prompt and answer have %d tokens, the model's context is %d", row.Place, n, p.ModelConfig.Context)
		} else if n > longest {
			longest = n
		}
		trees = append(trees, t)
	}
	return trees, longest, nil
}

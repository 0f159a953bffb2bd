package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/chat"
	"github.com/seed-8780d58e/spin/pkg/engine"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
)

// chatCommand talks: lines of standard input are the user's turns, answers stream as they are drawn.
type chatCommand struct {
	machine
	system      string
	prompt      string
	temperature float32
	topP        float32
	topK        int32
	maxNew      int
	seed        uint64
}

func (c *chatCommand) flags(f *pflag.FlagSet) {
	c.machine.flags(f)
	f.StringVar(&c.system, "system", "", "system message (default: the template's own)")
	f.StringVar(&c.prompt, "prompt", "", "answer this one message and stop")
	f.Float32Var(&c.temperature, "temperature", 0.7, "0 is greedy; 1 is the model's own distribution")
	f.Float32Var(&c.topP, "top-p", 0.95, "keep the most probable tokens up to this mass; 1: all")
	f.Int32Var(&c.topK, "top-k", 0, "keep this many tokens; 0: all")
	f.IntVar(&c.maxNew, "max-new-tokens", 256, "of one answer")
	f.Uint64Var(&c.seed, "seed", 0, "of the draws: the same seed gives the same answers")
}

func (c *chatCommand) run(ctx context.Context, _ []string, s Streams) error {
	p, dev, dtype, err := c.open()
	if err != nil {
		return err
	}
	defer p.Close()
	defer dev.Close()
	m, err := load(p, dev, model.Options{DType: dtype, MaxContext: 4096})
	if err != nil {
		return err
	}
	defer m.Free()
	const pageTokens = 64
	d := m.NewDecoder(model.DecoderConfig{Rows: 256, Sequences: 1, Pages: (m.Context + pageTokens - 1) / pageTokens, PageTokens: pageTokens})
	defer d.Free()
	talk := &conversation{chatCommand: c, p: p, e: engine.New(d), context: m.Context, out: s.Out}
	if c.system != "" {
		talk.turns = append(talk.turns, chat.Message{Role: chat.System, Content: c.system})
	}
	if c.prompt != "" {
		return talk.answer(ctx, c.prompt)
	}
	if isTerminal(s.Out) {
		fmt.Fprintln(s.Out, "Type a message; an empty line or Ctrl-D ends the conversation.")
	}
	lines := bufio.NewScanner(s.In)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	for {
		if isTerminal(s.Out) {
			fmt.Fprint(s.Out, "> ")
		}
		if !lines.Scan() || strings.TrimSpace(lines.Text()) == "" {
			return badInput(lines.Err())
		}
		if err := talk.answer(ctx, lines.Text()); err != nil {
			return err
		}
	}
}

// conversation is the turns so far. The engine's cache keeps the prompts of earlier turns, so a turn
// reads the last answer and what is new.
type conversation struct {
	*chatCommand
	p       *pretrained.Pretrained
	e       *engine.Engine
	context int // tokens that the conversation may have
	out     io.Writer
	turns   []chat.Message
}

func (t *conversation) answer(ctx context.Context, message string) error {
	t.turns = append(t.turns, chat.Message{Role: chat.User, Content: message})
	prompt, err := t.p.Template.Prompt(t.turns)
	if err != nil {
		return badInput(err)
	}
	room := t.context - len(prompt)
	if room < 1 {
		return badInput(fmt.Errorf("the conversation has %d tokens, the model's context is %d", len(prompt), t.context))
	}
	stream := t.p.Tokenizer.NewStream()
	var text strings.Builder
	write := func(piece string) {
		text.WriteString(piece)
		io.WriteString(t.out, piece)
	}
	err = t.e.Submit(&engine.Request{
		ID: "chat", Prompt: prompt, Draws: 1, MaxNew: min(t.maxNew, room), Stop: t.p.Stops(),
		Temperature: t.temperature, TopP: t.topP, TopK: t.topK, Seed: t.seed, Index: uint32(len(t.turns)),
		OnToken: func(_ int, id int32) bool { write(stream.Next(id)); return true },
	})
	if err != nil {
		return badInput(err)
	}
	for !t.e.Idle() {
		if _, err := t.e.Step(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), context.Cause(ctx))
		}
	}
	write(stream.Flush())
	fmt.Fprintln(t.out)
	t.turns = append(t.turns, chat.Message{Role: chat.Assistant, Content: text.String()})
	return nil
}

// Package command is the words of the spin command line, a file each. A word is a struct of
// settings that registers its own flags and has a Run; nothing here computes.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/cli"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// Streams are a command's standard streams.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// word is one command.
type word interface {
	flags(*pflag.FlagSet)
	run(ctx context.Context, args []string, s Streams) error
}

// entry describes a word in the help.
type entry struct {
	name, args, about string
	make              func() word
}

func entries() []entry {
	return []entry{
		{"run", "", "play SPIN in this process: generator, trainer, evaluator, recorder", func() word { return &runCommand{} }},
		{"sql", "'SELECT …'", "ask ClickHouse about runs, also while one goes on", func() word { return &sql{} }},
		{"watch", "", "show the progress of a run that goes on elsewhere", func() word { return &watch{} }},
		{"report", "[RUN…]", "write a run as one HTML page", func() word { return &report{} }},
		{"tap", "", "print a run's messages as JSON lines", func() word { return &tap{} }},
		{"submit", "run.yaml", "hand a run to the services of a fleet", func() word { return &submit{} }},
		{"pause", "RUN", "let a run stand still", func() word { return &steer{command: run.Pause} }},
		{"resume", "RUN", "let a run go on that was paused, blocked or failed", func() word { return &steer{command: run.Resume} }},
		{"dead", "[ls | show SEQ | requeue SEQ … | skip SEQ …]", "what nobody could play or take: look at it, try again, or go on without", func() word { return &dead{} }},
		{"abort", "RUN", "end a run for good", func() word { return &steer{command: run.Abort} }},
		{"rm", "RUN", "remove all that a run has left: rows, messages, checkpoints", func() word { return &remove{} }},
		{"score", "", "log-probabilities of given answers", func() word { return &score{} }},
		{"eval", "", "benchmark scores, as lm-evaluation-harness gives them", func() word { return &eval{} }},
		{"chat", "", "talk to a model", func() word { return &chatCommand{} }},
		{"train", "", "one iteration from a file of pairs", func() word { return &trainCommand{} }},
		{"export", "", "write a checkpoint as safetensors or GGUF", func() word { return &export{} }},
		{"export-data", "", "write an iteration's pairs as a Parquet data set", func() word { return &exportData{} }},
		{"import-data", "FILE…", "put published pairs into ClickHouse, to ask about", func() word { return &importData{} }},
		{"migrate", "", "make ClickHouse's tables, or bring them to this version", func() word { return &migrate{} }},
		{"plan", "", "memory, disk and time that a run would take", func() word { return &plan{} }},
		{"version", "", "what this binary is", func() word { return &version{} }},
	}
}

// Main runs one command line and returns its exit code. A failure is one line on s.Err.
func Main(ctx context.Context, args []string, s Streams) int {
	err := dispatch(ctx, args, s)
	switch {
	case err == nil || errors.Is(err, pflag.ErrHelp):
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		text, _, more := strings.Cut(cli.OneLine(err), ": "+context.Canceled.Error())
		if !more || !strings.HasPrefix(text, "interrupted") { // what broke off matters to nobody
			text = "interrupted"
		}
		fmt.Fprintln(s.Err, "spin:", text)
	default:
		fmt.Fprintln(s.Err, "spin:", cli.OneLine(err))
	}
	return cli.ExitCode(err)
}

func dispatch(ctx context.Context, args []string, s Streams) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		if len(args) > 1 && args[0] == "help" {
			return dispatch(ctx, []string{args[1], "--help"}, s)
		}
		overview(s.Out)
		return nil
	}
	for _, e := range entries() {
		if e.name == args[0] {
			return e.start(ctx, args[1:], s)
		}
	}
	return badInput(fmt.Errorf("unknown command %q; `spin help` lists them", args[0]))
}

func (e entry) start(ctx context.Context, args []string, s Streams) error {
	w := e.make()
	f := pflag.NewFlagSet("spin "+e.name, pflag.ContinueOnError)
	f.SortFlags = false
	w.flags(f)
	if help, all := wantsHelp(args); help {
		e.help(s.Out, w, f, all)
		return pflag.ErrHelp
	}
	if err := cli.Parse(f, args, "", "spin "+e.name+" --help", s.Out); err != nil {
		return err
	}
	if f.NArg() > 0 && e.args == "" {
		return badInput(fmt.Errorf("spin %s takes no argument, got %q", e.name, f.Arg(0)))
	}
	return w.run(ctx, f.Args(), s)
}

func overview(w io.Writer) {
	fmt.Fprint(w, "spin: self-play fine-tuning (arXiv 2401.01335) as event-streaming services\n")
	for _, e := range entries() {
		fmt.Fprintf(w, "  %-12s %s\n", e.name, e.about)
	}
	fmt.Fprintln(w, "\n`spin COMMAND --help` lists a command's flags. Begin with `spin run --quick`.")
}

// badInput marks err as the caller's to mend; nil stays nil.
func badInput(err error) error { return cli.BadInput(err) }

// isTerminal reports whether w is a person's screen.
func isTerminal(w io.Writer) bool { return cli.IsTerminal(w) }

// logging is the flags of a command that logs.
type logging struct{ cli.Logging }

func (l *logging) flags(f *pflag.FlagSet)                     { l.Flags(f) }
func (l *logging) logger(w io.Writer) (zerolog.Logger, error) { return l.Logger(w) }

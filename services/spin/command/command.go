// Package command is the words of the spin command line, a file each. A word is a struct of
// settings that registers its own flags and has a Run; nothing here computes.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
)

// Streams are a command's standard streams.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Exit codes.
const (
	exitOK       = 0
	exitFailure  = 1 // the machine's, the network's or our own fault
	exitBadInput = 2 // the caller's: a flag, a file, a setting
)

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
		{"score", "", "log-probabilities of given answers", func() word { return &score{} }},
		{"chat", "", "talk to a model", func() word { return &chatCommand{} }},
		{"train", "", "one iteration from a file of pairs", func() word { return &trainCommand{} }},
		{"export", "", "write a checkpoint as safetensors or GGUF", func() word { return &export{} }},
		{"plan", "", "memory, disk and time that a run would take", func() word { return &plan{} }},
		{"version", "", "what this binary is", func() word { return &version{} }},
	}
}

// Main runs one command line and returns its exit code. A failure is one line on s.Err.
func Main(ctx context.Context, args []string, s Streams) int {
	err := dispatch(ctx, args, s)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, pflag.ErrHelp):
		return exitOK
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(s.Err, "spin: interrupted")
		return exitFailure
	}
	fmt.Fprintln(s.Err, "spin:", oneLine(err))
	var bad inputError
	if errors.As(err, &bad) {
		return exitBadInput
	}
	return exitFailure
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
	f.SetOutput(io.Discard)
	w.flags(f)
	f.Usage = func() {
		fmt.Fprintf(s.Out, "spin %s: %s\n\nUsage: spin %s [flags] %s\n\n%s", e.name, e.about, e.name, e.args, f.FlagUsages())
		fmt.Fprintln(s.Out, "\nEach flag can be given as an environment variable too: SPIN_ and its name in capitals.")
	}
	if err := fromEnvironment(f, os.LookupEnv); err != nil {
		return badInput(err)
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return err
		}
		return badInput(fmt.Errorf("%w; `spin %s --help` lists the flags", err, e.name))
	}
	if f.NArg() > 0 && e.args == "" {
		return badInput(fmt.Errorf("spin %s takes no argument, got %q", e.name, f.Arg(0)))
	}
	return w.run(ctx, f.Args(), s)
}

// fromEnvironment sets each flag that the environment names: SPIN_MODEL for --model. The command
// line, parsed later, wins.
func fromEnvironment(f *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var err error
	f.VisitAll(func(fl *pflag.Flag) {
		name := "SPIN_" + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))
		if v, ok := lookup(name); ok && err == nil {
			if e := f.Set(fl.Name, v); e != nil {
				err = fmt.Errorf("environment variable %s: %w", name, e)
			}
		}
	})
	return err
}

func overview(w io.Writer) {
	fmt.Fprint(w, "spin: self-play fine-tuning (arXiv 2401.01335) as event-streaming services\n\nCommands:\n")
	for _, e := range entries() {
		fmt.Fprintf(w, "  %-9s %s\n", e.name, e.about)
	}
	fmt.Fprintln(w, "\n`spin COMMAND --help` lists a command's flags.")
}

// inputError marks what the caller can mend.
type inputError struct{ error }

func (e inputError) Unwrap() error { return e.error }

// badInput marks err as the caller's to mend; nil stays nil.
func badInput(err error) error {
	if err == nil {
		return nil
	}
	return inputError{err}
}

// oneLine keeps a message on one line, whatever a library put into it.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

// logging is the flags of a command that logs.
type logging struct {
	format string
	level  string
}

func (l *logging) flags(f *pflag.FlagSet) {
	f.StringVar(&l.format, "log-format", "text", "text or json")
	f.StringVar(&l.level, "log-level", "info", "debug, info, warn or error")
}

// logger writes to w.
func (l *logging) logger(w io.Writer) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(l.level)
	if err != nil || l.level == "" {
		return zerolog.Nop(), badInput(fmt.Errorf("--log-level %q, want debug, info, warn or error", l.level))
	}
	switch l.format {
	case "json":
	case "text":
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: "15:04:05", NoColor: !isTerminal(w)}
	default:
		return zerolog.Nop(), badInput(fmt.Errorf("--log-format %q, want text or json", l.format))
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger(), nil
}

// Package cli is what the project's command lines have in common: a failure is one line and an exit
// code that says whose fault it is, each flag can be given in the environment, logs are text or
// JSON. Main runs a service; `spin`, which has many commands, uses the pieces.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
)

// Exit codes.
const (
	ExitOK       = 0
	ExitFailure  = 1 // the machine's, the network's or our own fault
	ExitBadInput = 2 // the caller's: a flag, a file, a setting
)

// inputError marks what the caller can mend.
type inputError struct{ error }

func (e inputError) Unwrap() error { return e.error }

// BadInput marks err as the caller's to mend; nil stays nil.
func BadInput(err error) error {
	if err == nil {
		return nil
	}
	return inputError{err}
}

// ExitCode of a command that ended with err.
func ExitCode(err error) int {
	var bad inputError
	switch {
	case err == nil || errors.Is(err, pflag.ErrHelp):
		return ExitOK
	case errors.As(err, &bad):
		return ExitBadInput
	}
	return ExitFailure
}

// OneLine keeps a message on one line, whatever a library put into it.
func OneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// Service is a program that runs until it is told to stop.
type Service interface {
	// Flags registers the settings.
	Flags(*pflag.FlagSet)
	// Run works until ctx ends, and returns ctx's cause then.
	Run(ctx context.Context, log zerolog.Logger) error
}

// Main runs a service as this process, until SIGINT or SIGTERM, and returns its exit code.
func Main(name, about string, s Service) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return Serve(ctx, name, about, s, os.Args[1:], os.Stdout, os.Stderr)
}

// Serve is Main for the given arguments and streams: help goes to out, everything else to errs. A
// service that stops because ctx has ended exits with 0.
func Serve(ctx context.Context, name, about string, s Service, args []string, out, errs io.Writer) int {
	err := serve(ctx, name, about, s, args, out, errs)
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintf(errs, "%s: %s\n", name, OneLine(err))
	}
	return ExitCode(err)
}

func serve(ctx context.Context, name, about string, s Service, args []string, out, errs io.Writer) error {
	f := pflag.NewFlagSet(name, pflag.ContinueOnError)
	var logging Logging
	s.Flags(f)
	logging.Flags(f)
	usage := fmt.Sprintf("%s: %s\n\nUsage: %s [flags]\n", name, about, name)
	if err := Parse(f, args, usage, name+" --help", out); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return BadInput(fmt.Errorf("%s takes no argument, got %q", name, f.Arg(0)))
	}
	log, err := logging.Logger(errs)
	if err != nil {
		return err
	}
	if err := s.Run(ctx, log.With().Str("service", name).Logger()); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// Parse sets f's flags from the environment and then from args. For --help it prints usage and the
// flags on out and returns pflag.ErrHelp; other errors are bad input and name the help.
func Parse(f *pflag.FlagSet, args []string, usage, help string, out io.Writer) error {
	f.SortFlags = false
	f.SetOutput(io.Discard)
	f.Usage = func() {
		fmt.Fprintf(out, "%s\n%s\nEach flag can be given as an environment variable too: SPIN_ and its name in capitals.\n", usage, f.FlagUsages())
	}
	if err := Environment(f, os.LookupEnv); err != nil {
		return BadInput(err)
	}
	err := f.Parse(args)
	if err == nil || errors.Is(err, pflag.ErrHelp) {
		return err
	}
	return BadInput(fmt.Errorf("%w; `%s` lists the flags", err, help))
}

// Environment sets each flag that the environment names: SPIN_BLOB_DIR for --blob-dir. The command
// line, parsed later, wins.
func Environment(f *pflag.FlagSet, lookup func(string) (string, bool)) error {
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

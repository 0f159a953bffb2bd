package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
)

// echo is a service that says its setting and ends with err, or when it is told to stop.
type echo struct {
	folder string
	err    error
}

func (e *echo) Flags(f *pflag.FlagSet) { f.StringVar(&e.folder, "blob-dir", "default", "a folder") }

func (e *echo) Run(ctx context.Context, log zerolog.Logger) error {
	log.Info().Msg("folder " + e.folder)
	if e.err != nil {
		return e.err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestServe(t *testing.T) {
	for _, c := range []struct {
		what      string
		args, env string
		err       error
		code      int
		out, errs string // that must be said
	}{
		{"told to stop", "", "", nil, ExitOK, "", "folder default"},
		{"a flag", "--blob-dir x", "", nil, ExitOK, "", "folder x"},
		{"the environment", "", "y", nil, ExitOK, "", "folder y"},
		{"a flag over the environment", "--blob-dir x", "y", nil, ExitOK, "", "folder x"},
		{"logs as JSON", "--log-format json", "", nil, ExitOK, "", `"service":"echo"`},
		{"no such format", "--log-format xml", "", nil, ExitBadInput, "", `echo: --log-format "xml", want text or json`},
		{"no such level", "--log-level loud", "", nil, ExitBadInput, "", "--log-level \"loud\""},
		{"no such flag", "--nope", "", nil, ExitBadInput, "", "`echo --help` lists the flags"},
		{"an argument", "stray", "", nil, ExitBadInput, "", `echo takes no argument, got "stray"`},
		{"help", "--help", "", nil, ExitOK, "--blob-dir", ""},
		{"a failure", "", "", errors.New("the disk\n\tis full"), ExitFailure, "", "echo: the disk is full\n"},
		{"bad input", "", "", fmt.Errorf("start: %w", BadInput(errors.New("no such folder"))), ExitBadInput, "", "echo: start: no such folder\n"},
	} {
		t.Run(c.what, func(t *testing.T) {
			if c.env != "" {
				t.Setenv("SPIN_BLOB_DIR", c.env)
			}
			ctx, cancel := context.WithCancel(t.Context())
			if c.err == nil {
				cancel()
			}
			defer cancel()
			var out, errs bytes.Buffer
			if code := Serve(ctx, "echo", "says its setting", &echo{err: c.err}, strings.Fields(c.args), &out, &errs); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if !strings.Contains(out.String(), c.out) || !strings.Contains(errs.String(), c.errs) {
				t.Errorf("out %q, errors %q; want %q, %q", &out, &errs, c.out, c.errs)
			}
		})
	}
}

func TestEnvironmentNamesTheVariable(t *testing.T) {
	f := pflag.NewFlagSet("x", pflag.ContinueOnError)
	f.Int("max-rows", 1, "")
	err := Environment(f, func(name string) (string, bool) { return "many", name == "SPIN_MAX_ROWS" })
	if err == nil || !strings.Contains(err.Error(), "SPIN_MAX_ROWS") {
		t.Errorf("%v, want an error that names SPIN_MAX_ROWS", err)
	}
}

package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// Logging is the flags of a command that logs.
type Logging struct {
	format string
	level  string
}

// Flags registers --log-format and --log-level.
func (l *Logging) Flags(f *pflag.FlagSet) {
	f.StringVar(&l.format, "log-format", "text", "text or json")
	f.StringVar(&l.level, "log-level", "info", "debug, info, warn or error")
}

// Logger writes to w.
func (l *Logging) Logger(w io.Writer) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(l.level)
	if err != nil || l.level == "" {
		return zerolog.Nop(), BadInput(fmt.Errorf("--log-level %q, want debug, info, warn or error", l.level))
	}
	switch l.format {
	case "json":
	case "text":
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: "15:04:05", NoColor: !IsTerminal(w)}
	default:
		return zerolog.Nop(), BadInput(fmt.Errorf("--log-format %q, want text or json", l.format))
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger(), nil
}

// JSON reports whether the log is for programs.
func (l *Logging) JSON() bool { return l.format == "json" }

// IsTerminal reports whether w is a person's screen.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

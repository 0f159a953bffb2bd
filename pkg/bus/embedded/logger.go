package embedded

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/rs/zerolog"
)

// logger hands the server's lines to zerolog, its notices at debug level: they are about the broker, not about the run.
type logger struct {
	log   zerolog.Logger
	fatal chan<- string
	// stuck is set when a stream could not be written: the server says so in its log and nowhere else, and writes it no more.
	stuck *atomic.Bool
}

func (l *logger) Noticef(format string, v ...any) { l.log.Debug().Msgf(format, v...) }
func (l *logger) Warnf(format string, v ...any)   { l.log.Warn().Msgf(format, v...) }
func (l *logger) Debugf(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }
func (l *logger) Tracef(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }

// Errorf also looks for what keepGoing has to know.
func (l *logger) Errorf(format string, v ...any) {
	line := fmt.Sprintf(format, v...)
	if strings.Contains(line, "Critical write error") || strings.Contains(line, "failed to store a msg") {
		l.stuck.Store(true)
	}
	l.log.Error().Msg(line)
}

// Fatalf does not end the process, as the server expects of its logger: Start returns the reason.
func (l *logger) Fatalf(format string, v ...any) {
	l.log.Error().Msgf(format, v...)
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}

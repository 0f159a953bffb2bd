package embedded

import (
	"fmt"

	"github.com/rs/zerolog"
)

// logger hands the server's lines to zerolog, its notices at debug level: they are about the broker, not about the run.
type logger struct {
	log   zerolog.Logger
	fatal chan<- string
}

func (l *logger) Noticef(format string, v ...any) { l.log.Debug().Msgf(format, v...) }
func (l *logger) Warnf(format string, v ...any)   { l.log.Warn().Msgf(format, v...) }
func (l *logger) Errorf(format string, v ...any)  { l.log.Error().Msgf(format, v...) }
func (l *logger) Debugf(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }
func (l *logger) Tracef(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }

// Fatalf does not end the process, as the server expects of its logger: Start returns the reason.
func (l *logger) Fatalf(format string, v ...any) {
	l.log.Error().Msgf(format, v...)
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}

package bus

import (
	"errors"
	"maps"
	"slices"

	"github.com/nats-io/nats.go"

	"github.com/seed-8780d58e/spin/pkg/event"
)

// carrier is a message's headers as OpenTelemetry reads and writes trace context (propagation.TextMapCarrier).
// NATS' headers keep the case that they are given.
type carrier nats.Header

func (c carrier) Get(key string) string { return nats.Header(c).Get(key) }
func (c carrier) Set(key, value string) { nats.Header(c).Set(key, value) }
func (c carrier) Keys() []string        { return slices.Collect(maps.Keys(c)) }

// count notes what became of a message.
func (c *Conn) count(m event.Message, err error) {
	stream, unknown := streamOf(m)
	if unknown != nil {
		return
	}
	if err == nil {
		c.metrics.Published.WithLabelValues(stream).Inc()
		return
	}
	reason := "other"
	for _, r := range []struct {
		err  error
		name string
	}{{ErrFull, "full"}, {ErrFenced, "fenced"}, {ErrDenied, "denied"}, {event.ErrInvalid, "invalid"}} {
		if errors.Is(err, r.err) {
			reason = r.name
			break
		}
	}
	c.metrics.Errors.WithLabelValues(stream, reason).Inc()
}

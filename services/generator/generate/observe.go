package generate

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-8780d58e/spin/pkg/bus"
)

// observe is handle, counted.
func (s *Service) observe(service, ctx context.Context, lease *bus.Lease) error {
	m := s.cfg.Metrics
	m.InHand.Inc()
	defer m.InHand.Dec()
	c := lease.Chunk
	ctx, span := m.Tracer.Start(ctx, "draw", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("spin.run", c.GetRunId()), attribute.Int("spin.iteration", int(c.GetIteration())), attribute.Int("spin.chunk", int(c.GetChunk())),
		attribute.Int("spin.prompts", len(c.GetPrompts())), attribute.String("service.instance.id", s.instance)))
	defer span.End()
	began := time.Now()
	err := s.handle(service, ctx, lease)
	var unplayable *bus.Unplayable
	result := "failed"
	switch {
	case err == nil:
		result = "done"
		m.TaskSeconds.Observe(time.Since(began).Seconds())
	case errors.Is(context.Cause(ctx), bus.ErrLeaseLost):
		result = "lease_lost"
	case errors.As(err, &unplayable):
		result = "unplayable"
	case errors.Is(err, bus.ErrRelease) || ctx.Err() != nil:
		result = "released"
	}
	m.Tasks.WithLabelValues(result).Inc()
	span.SetAttributes(attribute.String("spin.result", result))
	return err
}

// Ready says what is loaded; an error: the device has failed, and every task with it.
func (s *Service) Ready(context.Context) (state string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.loading:
		return "loading weights", nil
	case s.player == nil:
		return "no weights yet", nil
	}
	return "plays " + s.player.digest[:min(12, len(s.player.digest))], s.player.err()
}

package generate

import (
	"context"
	"errors"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// observe is handle, counted.
func (s *Service) observe(service, ctx context.Context, lease *bus.Lease) error {
	m := s.cfg.Metrics
	m.InHand.Inc()
	defer m.InHand.Dec()
	c := lease.Chunk
	ctx, span := m.Tracer.Start(ctx, "draw", telemetry.Consumer,
		telemetry.Text("spin.run", c.GetRunId()), telemetry.Count("spin.iteration", c.GetIteration()), telemetry.Count("spin.chunk", c.GetChunk()),
		telemetry.Count("spin.prompts", len(c.GetPrompts())), telemetry.Text("service.instance.id", s.instance))
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
	span.Set(telemetry.Text("spin.result", result))
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

package telemetry

import (
	"context"
	"crypto/rand"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// propagator writes and reads traceparent, tracestate and baggage (W3C Trace Context, W3C Baggage).
func propagator() propagation.TextMapPropagator {
	return propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
}

// Inject writes ctx's trace context into a message's headers. Without one it writes nothing.
func Inject(ctx context.Context, headers propagation.TextMapCarrier) {
	propagator().Inject(ctx, headers)
}

// Extract returns ctx with the trace context that a message's headers hold. What is not one is ignored.
func Extract(ctx context.Context, headers propagation.TextMapCarrier) context.Context {
	return propagator().Extract(ctx, headers)
}

// NewTrace returns ctx as the root of a trace, unless it is part of one. Nothing is recorded here: the
// context goes along with the messages, so that the logs of all services and the spans of whoever has an
// exporter can be brought together.
func NewTrace(ctx context.Context) context.Context {
	if trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	var cfg trace.SpanContextConfig
	_, _ = rand.Read(cfg.TraceID[:]) // never fails
	_, _ = rand.Read(cfg.SpanID[:])
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(cfg))
}

// WithTrace adds ctx's trace id to a logger, as trace_id; without one it is the logger.
func WithTrace(ctx context.Context, log zerolog.Logger) zerolog.Logger {
	if id := TraceID(ctx); id != "" {
		return log.With().Str("trace_id", id).Logger()
	}
	return log
}

// TraceID of ctx in 32 hexadecimal digits; empty: it has none.
func TraceID(ctx context.Context) string {
	if s := trace.SpanContextFromContext(ctx); s.HasTraceID() {
		return s.TraceID().String()
	}
	return ""
}

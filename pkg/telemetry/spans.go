package telemetry

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Export sends the process's spans by OTLP over HTTP to a collector, http://host:4318 or https://; without a path they go to /v1/traces. It is called
// before the instruments are made. A collector that is away costs spans and nothing else: they are sent in the background, and dropped when too many
// wait. What else OTLP can be told (headers, certificates) comes from OpenTelemetry's own environment variables.
//
// There are few spans, one for a task and a step and a batch, so all of them are sent:
//
//	queue   trainer: a task of prompts goes into the queue; the root of a trace
//	draw    generator: its games are played; a child of queue, or of nothing where the trainer exports none
//	step    trainer: an optimizer step, linked to the draws whose games it learns from
//	batch   recorder: rows for ClickHouse, linked to the spans in which their messages were published
func (m *Monitor) Export(ctx context.Context, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return fmt.Errorf("%q, want http://host:4318 or https://host:4318", endpoint)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()))
	if err != nil {
		return err
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter, sdk.WithBatchTimeout(time.Second)), sdk.WithSampler(sdk.AlwaysSample()),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", m.service), attribute.String("service.namespace", "spin"))))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { m.log.Warn().Err(err).Msg("spans were not sent") }))
	m.Registry.spans = provider
	m.flush = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			m.log.Warn().Err(err).Msg("the last spans were not sent")
		}
	}
	return nil
}

// Tracer starts the spans of a service.
type Tracer struct{ tracer trace.Tracer }

// Role is what a span does with messages.
type Role trace.SpanKind

// Roles: neither, publishing what others work on, working on what others published.
const (
	Internal = Role(trace.SpanKindInternal)
	Producer = Role(trace.SpanKindProducer)
	Consumer = Role(trace.SpanKindConsumer)
)

// Start returns ctx in a new span, a child of ctx's own. It must be ended.
func (t Tracer) Start(ctx context.Context, name string, role Role, attributes ...Attribute) (context.Context, Span) {
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKind(role)), trace.WithAttributes(pairs(attributes)...))
	return ctx, Span{span}
}

// Span is work under way.
type Span struct{ span trace.Span }

// Set adds to what the span says of itself.
func (s Span) Set(attributes ...Attribute) { s.span.SetAttributes(pairs(attributes)...) }

// End ends the span.
func (s Span) End() { s.span.End() }

// Attribute is one thing that a span says of itself.
type Attribute struct{ pair attribute.KeyValue }

// Text is an attribute in words.
func Text(key, value string) Attribute { return Attribute{attribute.String(key, value)} }

// Count is an attribute in numbers.
func Count[T int | uint32 | uint64](key string, n T) Attribute {
	return Attribute{attribute.Int64(key, int64(n))}
}

func pairs(attributes []Attribute) []attribute.KeyValue {
	out := make([]attribute.KeyValue, len(attributes))
	for i, a := range attributes {
		out[i] = a.pair
	}
	return out
}

// Origin names a span, of this process or of another, in which a message was published; the zero one names none.
type Origin struct{ span trace.SpanContext }

// OriginOf is the span of ctx: of one that Extract returns, that in which the message was published.
func OriginOf(ctx context.Context) Origin { return Origin{trace.SpanContextFromContext(ctx)} }

// IsValid reports whether there is such a span.
func (o Origin) IsValid() bool { return o.span.IsValid() }

// Same reports whether both are one span.
func (o Origin) Same(p Origin) bool { return o.span.SpanID() == p.span.SpanID() }

// Within returns ctx in the span, so that what is published with it has this origin.
func (o Origin) Within(ctx context.Context) context.Context {
	return trace.ContextWithSpanContext(ctx, o.span)
}

// LinkTo links ctx's span to the ones in which something was published that it works on; to the same one once.
func LinkTo(ctx context.Context, origins ...Origin) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	seen := map[trace.SpanID]bool{}
	for _, o := range origins {
		if id := o.span.SpanID(); o.IsValid() && !seen[id] {
			seen[id] = true
			span.AddLink(trace.Link{SpanContext: o.span})
		}
	}
}

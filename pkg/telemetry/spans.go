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

// LinkTo links ctx's span to the one in which something was published that it works on; to the same one once.
func LinkTo(ctx context.Context, origins ...trace.SpanContext) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	seen := map[trace.SpanID]bool{}
	for _, o := range origins {
		if o.IsValid() && !seen[o.SpanID()] {
			seen[o.SpanID()] = true
			span.AddLink(trace.Link{SpanContext: o})
		}
	}
}

// Origin is the span in which a message was published, of the context that Extract returns.
func Origin(ctx context.Context) trace.SpanContext { return trace.SpanContextFromContext(ctx) }

package e2e

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// spanReceiver is an OpenTelemetry collector: OTLP over HTTP.
type spanReceiver struct {
	t     *testing.T
	mu    sync.Mutex
	spans []*otlp.Span
}

func (r *spanReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var m collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &m)
	}
	if err != nil || req.URL.Path != "/v1/traces" {
		r.t.Errorf("%s: %v", req.URL, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range m.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			r.spans = append(r.spans, ss.GetSpans()...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func attributeOf(s *otlp.Span, key string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// One trace leads from a prompt to its pairs: the trainer queues it, a generator draws in the same trace, the step that learns from the draw is linked
// to it, and the recorder's batches are linked to the draw and to the step, whose rows they write.
func TestSpans(t *testing.T) {
	receiver := &spanReceiver{t: t}
	server := httptest.NewServer(receiver)
	defer server.Close()
	monitor := telemetry.NewMonitor("plane", zerolog.Nop())
	if err := monitor.Export(t.Context(), server.URL); err != nil {
		t.Fatal(err)
	}
	p := newPlane(t, storetest.Open(t))
	p.metrics = monitor.Registry
	s := p.start(oneGenerator(1))
	spec := newSpec(t, dataset(t))
	id := s.submit(spec)
	if err := s.trainer.Lead(s.ctx, id); err != nil {
		t.Fatal(err)
	}
	s.finish(id)
	s.stop()
	monitor.Close()

	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	queued, drawn := map[string]*otlp.Span{}, map[string]*otlp.Span{} // by span id
	recorded := map[string]map[string]bool{bus.Games: {}, bus.Steps: {}}
	var steps []*otlp.Span
	for _, s := range receiver.spans {
		switch span := hex.EncodeToString(s.GetSpanId()); s.GetName() {
		case "queue":
			queued[span] = s
		case "draw":
			drawn[span] = s
		case "step":
			if attributeOf(s, "spin.phase") == "spin" {
				steps = append(steps, s)
			}
		case "batch":
			for _, l := range s.GetLinks() {
				if of := recorded[attributeOf(s, "spin.stream")]; of != nil {
					of[hex.EncodeToString(l.GetSpanId())] = true
				}
			}
		}
	}
	if want := spec.Steps(0) + spec.Steps(1); len(steps) != want {
		t.Fatalf("%d spans of steps, want %d", len(steps), want)
	}
	for _, step := range steps {
		if len(step.GetLinks()) == 0 {
			t.Error("a step is linked to no draw")
		}
		for _, l := range step.GetLinks() {
			origin := hex.EncodeToString(l.GetSpanId())
			draw := drawn[origin]
			if draw == nil {
				t.Errorf("a step is linked to %s, which is no draw", origin)
				continue
			}
			queue := queued[hex.EncodeToString(draw.GetParentSpanId())]
			if queue == nil || string(queue.GetTraceId()) != string(draw.GetTraceId()) || string(draw.GetTraceId()) != string(l.GetTraceId()) {
				t.Errorf("draw %s is not in the trace in which its prompts were queued", origin)
			}
			if !recorded[bus.Games][origin] {
				t.Errorf("no batch is linked to draw %s", origin)
			}
		}
		if !recorded[bus.Steps][hex.EncodeToString(step.GetSpanId())] {
			t.Errorf("no batch is linked to step %x", step.GetSpanId())
		}
	}
}

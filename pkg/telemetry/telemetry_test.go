package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/propagation"

	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// all are the instruments of every service in one registry, each vector with a series.
func all() *telemetry.Monitor {
	m := telemetry.NewMonitor("test", zerolog.Nop())
	m.Serving("test-1", "cpu")
	b := telemetry.NewBus(m.Registry)
	b.Published.WithLabelValues("SPIN_GAMES").Inc()
	b.Errors.WithLabelValues("SPIN_STEPS", "full").Inc()
	telemetry.NewGenerator(m.Registry).Tasks.WithLabelValues("done").Inc()
	t := telemetry.NewTrainer(m.Registry)
	t.Runs.WithLabelValues("blocked").Set(1)
	t.Steps.WithLabelValues("spin").Inc()
	t.Tokens.WithLabelValues("spin").Inc()
	t.StepSeconds.WithLabelValues("spin").Observe(1)
	t.Generators.WithLabelValues("r1").Set(1)
	t.Queue.WithLabelValues("r1", "waiting").Set(1)
	e := telemetry.NewEvaluator(m.Registry)
	e.Scores.WithLabelValues("heldout").Inc()
	e.Seconds.WithLabelValues("heldout").Observe(1)
	r := telemetry.NewRecorder(m.Registry)
	r.Rows.WithLabelValues("games").Inc()
	r.Lag.WithLabelValues("SPIN_GAMES").Set(1)
	r.LagSeconds.WithLabelValues("SPIN_GAMES").Set(1)
	r.Missing.WithLabelValues("SPIN_GAMES").Set(0)
	return m
}

func TestNamesFollowConventions(t *testing.T) {
	problems, err := testutil.GatherAndLint(all().Registry.Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestReady(t *testing.T) {
	m := telemetry.NewMonitor("recorder", zerolog.Nop())
	h := m.Handler()
	if code, _ := get(t, h, "/healthz"); code != http.StatusOK {
		t.Errorf("a service that starts is not alive: %d", code)
	}
	if code, body := get(t, h, "/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("a service that starts is ready: %s", body)
	}
	away := errors.New("connection refused")
	m.Serving("recorder-1", "", telemetry.Check{Name: "broker", Ask: func(context.Context) (string, error) { return "connected", nil }},
		telemetry.Check{Name: "clickhouse", Ask: func(context.Context) (string, error) { return "answers", away }})
	code, body := get(t, h, "/readyz")
	var said struct {
		Service string
		Ready   bool
		Checks  []struct {
			Name, State string
			OK          bool
		}
	}
	if err := json.Unmarshal([]byte(body), &said); err != nil {
		t.Fatal(err)
	}
	if code != http.StatusServiceUnavailable || said.Ready || len(said.Checks) != 2 || !said.Checks[0].OK || said.Checks[1].OK || said.Checks[1].State != away.Error() {
		t.Errorf("without ClickHouse: %d %s", code, body)
	}
	away = nil
	if code, body := get(t, h, "/readyz"); code != http.StatusOK {
		t.Errorf("with ClickHouse: %d %s", code, body)
	}
	if code, _ := get(t, h, "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("more is served than is said: %d", code)
	}
}

func TestListen(t *testing.T) {
	for listen, want := range map[string]string{":9464": "127.0.0.1:9464", "0.0.0.0:1": "0.0.0.0:1", "[::1]:2": "[::1]:2", "9464": "", "": "", "localhost:": ""} {
		if got, err := telemetry.Address(listen); got != want || (err == nil) != (want != "") {
			t.Errorf("Address(%q) is %q, %v; want %q", listen, got, err, want)
		}
	}
	m := all()
	if err := m.Listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	resp, err := http.Get("http://" + m.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), `spin_service_info{engine="cpu",instance="test-1",service="test"} 1`) {
		t.Errorf("%v; served:\n%s", err, body)
	}
	taken := telemetry.NewMonitor("other", zerolog.Nop())
	if err := taken.Listen(m.Addr().String()); err == nil {
		taken.Close()
		t.Error("two listen on one address")
	}
}

func TestTraceContext(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" // the example of W3C Trace Context, section 3.2
	ctx := telemetry.Extract(t.Context(), propagation.MapCarrier{"traceparent": parent, "tracestate": "a=b"})
	if id := telemetry.TraceID(telemetry.NewTrace(ctx)); id != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("trace id %q", id)
	}
	headers := propagation.MapCarrier{}
	telemetry.Inject(ctx, headers)
	if headers["traceparent"] != parent || headers["tracestate"] != "a=b" {
		t.Errorf("passed on as %v", headers)
	}
	bad := telemetry.Extract(t.Context(), propagation.MapCarrier{"traceparent": "00-zz-1-1"})
	headers = propagation.MapCarrier{}
	if telemetry.Inject(bad, headers); len(headers) > 0 || telemetry.TraceID(bad) != "" {
		t.Errorf("made of a header that is none: %v", headers)
	}
	if a, b := telemetry.TraceID(telemetry.NewTrace(bad)), telemetry.TraceID(telemetry.NewTrace(bad)); len(a) != 32 || a == b {
		t.Errorf("new traces are %q and %q", a, b)
	}
}

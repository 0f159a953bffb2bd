// Package telemetry is what a service tells those who operate it: metrics for Prometheus, whether it is
// alive and ready, and the W3C trace context that its messages carry.
//
// Start with Monitor: a process has one. Its Registry is what the instruments of instruments.go are made
// in, one struct for each service, which is handed to the service's constructor; Listen serves /metrics,
// /healthz and /readyz (server.go). Instruments that are made without a registry count for nobody: a
// service always has some, and asks nothing. trace.go is about messages, spans.go about OpenTelemetry's
// spans: the same structs have a Tracer, which makes them where Export has said who wants them.
//
// Logs are zerolog's, set up in pkg/cli. What a run learned is in ClickHouse; what is here is how the
// machinery is. Labels are of a small and fixed set, except the run's id where a figure is a run's own:
// those series end with the run.
package telemetry

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Registry holds a process's instruments. A nil one takes none: they count for nobody.
type Registry struct {
	prometheus *prometheus.Registry
	spans      trace.TracerProvider // nil: nobody wants spans
}

// NewRegistry has the figures of Go's runtime and of the process in it.
func NewRegistry() *Registry {
	r := &Registry{prometheus: prometheus.NewRegistry()}
	r.prometheus.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	return r
}

// Gatherer reads the registry.
func (r *Registry) Gatherer() prometheus.Gatherer { return r.prometheus }

// factory makes instruments in the registry.
func (r *Registry) factory() promauto.Factory {
	if r == nil {
		return promauto.With(nil)
	}
	return promauto.With(r.prometheus)
}

// tracer makes spans for whoever Export sends them to; else they are nothing, and trace context only passes through.
func (r *Registry) tracer() Tracer {
	if r == nil || r.spans == nil {
		return Tracer{noop.NewTracerProvider().Tracer(scope)}
	}
	return Tracer{r.spans.Tracer(scope)}
}

// scope is the name under which our spans are made.
const scope = "github.com/seed-8780d58e/spin"

// Check is one thing that a service needs in order to be of use.
type Check struct {
	Name string // broker, clickhouse, device, leases
	// Ask returns how it is, in a few words, and an error where the service is of no use without it. It
	// ends with ctx.
	Ask func(ctx context.Context) (state string, err error)
}

// Monitor is a process's registry and its state.
type Monitor struct {
	Registry *Registry

	service string
	log     zerolog.Logger
	info    *prometheus.GaugeVec

	mu     sync.Mutex
	checks []Check // nil: the service is starting

	listener net.Listener // nil: nothing listens
	served   sync.WaitGroup
	stop     context.CancelFunc
	flush    func() // sends the spans that are left
}

// NewMonitor of a service that is starting. Close it.
func NewMonitor(service string, log zerolog.Logger) *Monitor {
	r := NewRegistry()
	return &Monitor{Registry: r, service: service, log: log, stop: func() {}, flush: func() {}, info: r.factory().NewGaugeVec(prometheus.GaugeOpts{
		Name: "spin_service_info", Help: "1 for a service that has started. engine is the fingerprint of what it computes on.",
	}, []string{"service", "instance", "engine"})}
}

// Serving says that the service has started, under which name and on which engine (empty: none), and
// what it needs from now on.
func (m *Monitor) Serving(instance, engine string, checks ...Check) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.info.WithLabelValues(m.service, instance, engine).Set(1)
	m.checks = append([]Check{}, checks...)
}

// state asks every check, within checkTimeout.
func (m *Monitor) state(ctx context.Context) (states []checked, ready bool) {
	m.mu.Lock()
	checks := m.checks
	m.mu.Unlock()
	if checks == nil {
		return []checked{{Name: "start", State: "under way"}}, false
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	ready = true
	for _, c := range checks {
		state, err := c.Ask(ctx)
		if err != nil {
			state, ready = err.Error(), false
		}
		states = append(states, checked{c.Name, state, err == nil})
	}
	return states, ready
}

// checkTimeout is for all checks together, less than the patience of most probes.
const checkTimeout = 2 * time.Second

// checked is what a check said.
type checked struct {
	Name  string `json:"name"`
	State string `json:"state"`
	OK    bool   `json:"ok"`
}

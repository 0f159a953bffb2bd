package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Address completes what --metrics-listen says: host:port. Without a host it is this machine's loopback:
// whoever wants the network to see it names an address, 0.0.0.0 for all.
func Address(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "" {
		return "", fmt.Errorf("%q, want host:port, e.g. 127.0.0.1:9464; 0.0.0.0:9464 is for the whole network", listen)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// Listen serves Handler on an address as Address makes it, until Close.
func (m *Monitor) Listen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen for metrics: %w", err)
	}
	m.listener = l
	if ip, ok := l.Addr().(*net.TCPAddr); ok && !ip.IP.IsLoopback() {
		m.log.Warn().Stringer("address", l.Addr()).Msg("metrics are for the whole network to read: they are neither encrypted nor protected")
	}
	server := &http.Server{Handler: m.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	m.stop = func() { _ = server.Close() } // scrapes under way are of no consequence
	m.served.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			m.log.Error().Err(err).Msg("metrics are served no more")
		}
	})
	return nil
}

// Addr is where Listen listens; nil where nothing does.
func (m *Monitor) Addr() net.Addr {
	if m.listener == nil {
		return nil
	}
	return m.listener.Addr()
}

// Close ends Listen, and sends the spans that are left.
func (m *Monitor) Close() {
	m.flush()
	m.stop()
	m.served.Wait()
}

// Handler serves
//
//	/metrics   the registry, in Prometheus' text format or OpenMetrics
//	/healthz   200 as long as the process answers
//	/readyz    200 where every check says yes, 503 else; what each says as JSON
func (m *Monitor) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.Registry.prometheus, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { m.ready(r.Context(), w) })
	return mux
}

func (m *Monitor) ready(ctx context.Context, w http.ResponseWriter) {
	states, ready := m.state(ctx)
	w.Header().Set("Content-Type", "application/json")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(struct {
		Service string    `json:"service"`
		Ready   bool      `json:"ready"`
		Checks  []checked `json:"checks"`
	}{m.service, ready, states})
}

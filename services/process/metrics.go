package process

import (
	"context"
	"errors"
	"fmt"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/cli"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// Metrics says where operators can ask a service how it is.
type Metrics struct{ listen, otlp string }

// Flags registers --metrics-listen and --otlp-endpoint.
func (m *Metrics) Flags(f *pflag.FlagSet) {
	f.StringVar(&m.listen, "metrics-listen", "", "host:port of /metrics, /healthz and /readyz; :port is this machine's loopback, 0.0.0.0:port the network (default: none)")
	f.StringVar(&m.otlp, "otlp-endpoint", "", "OpenTelemetry collector that gets spans by OTLP over HTTP, http://host:4318 (default: none)")
}

// Open makes the process's monitor, listens and sends spans where the flags say so. The caller closes it.
func (m *Metrics) Open(service string, log zerolog.Logger) (*telemetry.Monitor, error) {
	monitor := telemetry.NewMonitor(service, log)
	if m.otlp != "" {
		if err := monitor.Export(context.Background(), m.otlp); err != nil {
			return nil, cli.BadInput(fmt.Errorf("--otlp-endpoint: %w", err))
		}
	}
	if m.listen == "" {
		return monitor, nil
	}
	address, err := telemetry.Address(m.listen)
	if err != nil {
		return nil, cli.BadInput(fmt.Errorf("--metrics-listen: %w", err))
	}
	if err := monitor.Listen(address); err != nil {
		return nil, cli.BadInput(err)
	}
	log.Info().Stringer("address", monitor.Addr()).Msg("metrics")
	return monitor, nil
}

// BrokerCheck asks whether the broker is connected.
func BrokerCheck(conn *bus.Conn) telemetry.Check {
	return telemetry.Check{Name: "broker", Ask: func(context.Context) (string, error) {
		if !conn.Connected() {
			return "", errors.New("not connected")
		}
		return "connected", nil
	}}
}

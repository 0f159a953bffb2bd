// Command recorder writes every stream of a broker into ClickHouse, each message exactly once. One
// of them is enough; a second one fails, fenced off by the first.
package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/cli"
	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
	"github.com/seed-8780d58e/spin/services/process"
	"github.com/seed-8780d58e/spin/services/recorder/record"
)

func main() {
	os.Exit(cli.Main("recorder", "every stream into ClickHouse", &recorder{cfg: record.DefaultConfig()}))
}

// garbage is GOGC where the environment says nothing: two batches live at a time, everything else of a message dies at once, and with Go's 100 looking
// for it takes a tenth of the recorder's time.
const garbage = 300

type recorder struct {
	broker  process.Broker
	store   store.Options
	metrics process.Metrics
	cfg     record.Config
}

func (r *recorder) Flags(f *pflag.FlagSet) {
	r.broker.Flags(f)
	r.metrics.Flags(f)
	r.store.Flags(f)
	f.Lookup("clickhouse-url").Usage = "http://host:8123/database, https:// or clickhouse://host:9000/database"
	r.cfg.RegisterFlags(f)
}

func (r *recorder) Run(ctx context.Context, log zerolog.Logger) error {
	if r.store.URL == "" {
		return cli.BadInput(errors.New("--clickhouse-url is missing: http://host:8123/database, https:// or clickhouse://host:9000/database"))
	}
	if err := r.store.Check(); err != nil {
		return cli.BadInput(err)
	}
	if err := r.cfg.Validate(); err != nil {
		return cli.BadInput(err)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	monitor, err := r.metrics.Open("recorder", log)
	if err != nil {
		return err
	}
	defer monitor.Close()
	r.cfg.Metrics = telemetry.NewRecorder(monitor.Registry)
	conn, instance, err := r.broker.Connect(ctx, "recorder", monitor, log)
	if err != nil {
		return err
	}
	defer conn.Close()
	s, err := r.open(ctx, log)
	if err != nil {
		return err
	}
	defer s.Close()
	monitor.Serving(instance, "", process.BrokerCheck(conn), telemetry.Check{Name: "clickhouse", Ask: func(ctx context.Context) (string, error) {
		return "answers", s.Ping(ctx)
	}})
	log.Info().Str("instance", instance).Msg("recording")
	return record.New(r.cfg, conn, s, log).Run(ctx)
}

// open waits for a ClickHouse that is away. One that answers and refuses is somebody's to mend.
func (r *recorder) open(ctx context.Context, log zerolog.Logger) (*store.Store, error) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		s, err := store.Open(ctx, r.store)
		if err == nil {
			if err = s.Migrate(ctx); err == nil {
				return s, nil
			}
			s.Close()
		}
		if away := net.Error(nil); ctx.Err() != nil || !errors.As(err, &away) && !errors.Is(err, io.EOF) {
			return nil, err
		}
		log.Warn().Err(err).Msg("ClickHouse is away: waiting for it, the streams keep everything meanwhile")
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Command generator plays the opponent for any number of runs: it takes tasks from the broker and
// publishes games. Start as many as there are machines, at any time; stop them at any time.
package main

import (
	"context"
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/cli"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
	"github.com/seed-8780d58e/spin/pkg/weights"
	"github.com/seed-8780d58e/spin/services/generator/generate"
	"github.com/seed-8780d58e/spin/services/process"
)

func main() {
	os.Exit(cli.Main("generator", "plays the opponent: tasks in, games out", &generator{}))
}

type generator struct {
	broker  process.Broker
	folders process.Folders
	engine  process.Engine
	metrics process.Metrics
	cfg     generate.Config
}

func (g *generator) Flags(f *pflag.FlagSet) {
	g.broker.Flags(f)
	g.metrics.Flags(f)
	g.folders.Flags(f)
	g.engine.Flags(f)
	g.cfg.RegisterFlags(f)
}

func (g *generator) Run(ctx context.Context, log zerolog.Logger) error {
	if err := g.cfg.Validate(); err != nil {
		return cli.BadInput(err)
	}
	if err := g.folders.Check(); err != nil {
		return err
	}
	monitor, err := g.metrics.Open("generator", log)
	if err != nil {
		return err
	}
	defer monitor.Close()
	g.cfg.Metrics = telemetry.NewGenerator(monitor.Registry)
	g.engine.Notes = log
	dev, dtype, err := g.engine.Start()
	if err != nil {
		return err
	}
	defer dev.Close()
	conn, instance, err := g.broker.Connect(ctx, "generator", monitor, log)
	if err != nil {
		return err
	}
	defer conn.Close()
	blobs, scratch, err := g.folders.Open(ctx, conn, false)
	if err != nil {
		return err
	}
	// No sequence is longer than the cache: a model of a hundred thousand positions needs no room for them.
	cache := weights.NewCache(conn, blobs, scratch, dev, dtype, g.cfg.CacheTokens)
	s, err := generate.New(g.cfg, instance, conn, cache, log)
	if err != nil {
		return cli.BadInput(err)
	}
	monitor.Serving(instance, cache.Fingerprint(), process.BrokerCheck(conn), telemetry.Check{Name: "device", Ask: s.Ready})
	log.Info().Str("instance", instance).Str("engine", cache.Fingerprint()).Msg("ready for tasks")
	return s.Run(ctx)
}

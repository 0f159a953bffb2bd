// Command trainer leads submitted runs, --runs of them at once: it publishes their prompts, learns from
// the games that generators play, and publishes checkpoints. It reads the model and the data that a
// run's spec names. Trainers on one broker share its runs, and take over from each other.
package main

import (
	"context"
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/cli"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
	"github.com/seed-8780d58e/spin/services/process"
	"github.com/seed-8780d58e/spin/services/trainer/train"
)

func main() {
	os.Exit(cli.Main("trainer", "leads runs: games in, steps and checkpoints out", &trainer{}))
}

type trainer struct {
	broker  process.Broker
	folders process.Folders
	engine  process.Engine
	metrics process.Metrics
	cfg     train.Config
}

func (t *trainer) Flags(f *pflag.FlagSet) {
	t.broker.Flags(f)
	t.broker.InitFlags(f)
	t.metrics.Flags(f)
	t.folders.Flags(f)
	t.engine.DeviceFlags(f)
	t.cfg.RegisterFlags(f)
}

func (t *trainer) Run(ctx context.Context, log zerolog.Logger) error {
	if err := t.cfg.Validate(); err != nil {
		return cli.BadInput(err)
	}
	if err := t.folders.Check(); err != nil {
		return err
	}
	monitor, err := t.metrics.Open("trainer", log)
	if err != nil {
		return err
	}
	defer monitor.Close()
	t.cfg.Metrics = telemetry.NewTrainer(monitor.Registry)
	t.engine.Notes = log
	dev, err := t.engine.Open()
	if err != nil {
		return err
	}
	defer dev.Close()
	conn, instance, err := t.broker.Init(ctx, "trainer", monitor, log)
	if err != nil {
		return err
	}
	defer conn.Close()
	blobs, scratch, err := t.folders.Open(ctx, conn, true)
	if err != nil {
		return err
	}
	t.cfg.Scratch = scratch
	log.Info().Str("instance", instance).Str("engine", dev.Fingerprint()).Msg("ready for runs")
	s := train.New(t.cfg, instance, conn, blobs, dev, log)
	monitor.Serving(instance, dev.Fingerprint(), process.BrokerCheck(conn), telemetry.Check{Name: "leases", Ask: s.Ready})
	return s.Run(ctx)
}

// Command evaluator measures every checkpoint that trainers publish, on held-out games.
package main

import (
	"context"
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/cli"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
	"github.com/seed-8780d58e/spin/pkg/weights"
	"github.com/seed-8780d58e/spin/services/evaluator/evaluate"
	"github.com/seed-8780d58e/spin/services/process"
)

func main() {
	os.Exit(cli.Main("evaluator", "measures checkpoints: checkpoints in, scores out", &evaluator{}))
}

type evaluator struct {
	broker  process.Broker
	folders process.Folders
	engine  process.Engine
	metrics process.Metrics
	cfg     evaluate.Config
}

func (e *evaluator) Flags(f *pflag.FlagSet) {
	e.broker.Flags(f)
	e.metrics.Flags(f)
	e.folders.Flags(f)
	e.engine.DeviceFlags(f)
	e.cfg.RegisterFlags(f)
}

func (e *evaluator) Run(ctx context.Context, log zerolog.Logger) error {
	if err := e.cfg.Validate(); err != nil {
		return cli.BadInput(err)
	}
	if err := e.folders.Check(); err != nil {
		return err
	}
	monitor, err := e.metrics.Open("evaluator", log)
	if err != nil {
		return err
	}
	defer monitor.Close()
	e.cfg.Metrics = telemetry.NewEvaluator(monitor.Registry)
	e.engine.Notes = log
	dev, err := e.engine.Open()
	if err != nil {
		return err
	}
	defer dev.Close()
	conn, instance, err := e.broker.Connect(ctx, "evaluator", monitor, log)
	if err != nil {
		return err
	}
	defer conn.Close()
	blobs, scratch, err := e.folders.Open(ctx, conn, false)
	if err != nil {
		return err
	}
	caches := weights.ByDType( // each run is measured in the type that it computes in
		weights.NewCache(conn, blobs, scratch, dev, compute.F32, 0),
		weights.NewCache(conn, blobs, scratch, dev, compute.BF16, 0),
	)
	log.Info().Str("instance", instance).Str("engine", dev.Fingerprint()).Msg("ready for checkpoints")
	service, err := evaluate.New(e.cfg, instance, conn, caches, log)
	if err != nil {
		return cli.BadInput(err)
	}
	monitor.Serving(instance, dev.Fingerprint(), process.BrokerCheck(conn))
	return service.Run(ctx)
}

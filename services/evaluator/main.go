// Command evaluator measures every checkpoint that trainers publish, on held-out games.
package main

import (
	"context"
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/cli"
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
	cfg     evaluate.Config
}

func (e *evaluator) Flags(f *pflag.FlagSet) {
	e.broker.Flags(f)
	e.folders.Flags(f)
	e.engine.Flags(f)
	e.cfg.RegisterFlags(f)
}

func (e *evaluator) Run(ctx context.Context, log zerolog.Logger) error {
	if err := e.cfg.Validate(); err != nil {
		return cli.BadInput(err)
	}
	if err := e.folders.Check(); err != nil {
		return err
	}
	dev, dtype, err := e.engine.Start()
	if err != nil {
		return err
	}
	defer dev.Close()
	conn, instance, err := e.broker.Connect(ctx, "evaluator", log)
	if err != nil {
		return err
	}
	defer conn.Close()
	blobs, scratch, err := e.folders.Open(ctx, conn, false)
	if err != nil {
		return err
	}
	cache := weights.NewCache(conn, blobs, scratch, dev, dtype, 0)
	log.Info().Str("instance", instance).Str("engine", cache.Fingerprint()).Msg("ready for checkpoints")
	return evaluate.New(e.cfg, instance, conn, cache, log).Run(ctx)
}

// Command spinbench is this project's side of bench/compare: it prepares what its one argument, a
// unit.Config in JSON, asks for, and performs one unit of it for each line on stdin.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"

	"github.com/seed-8780d58e/spin/bench/unit"
	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/pkg/checkpoint"
	"github.com/seed-8780d58e/spin/pkg/model"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "spinbench:", err)
		os.Exit(2)
	}
}

func run(args []string) error {
	if len(args) == 4 && args[0] == "games" {
		return makeGames(args[1], args[2], args[3])
	}
	var c unit.Config
	if len(args) != 1 {
		return fmt.Errorf("want one argument, a unit.Config in JSON, or: games MODEL ANSWERS OUT")
	}
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	dev, err := cpu.New(cpu.Config{})
	if err != nil {
		return err
	}
	defer dev.Close()
	b := &bench{Config: c, dev: dev}
	if b.act, err = dtype(c.DType); err != nil {
		return err
	}
	work, err := b.prepare()
	if err != nil {
		return err
	}
	if work == nil {
		return fmt.Errorf("kind %q: unknown", c.Kind)
	}
	return unit.Serve(os.Stdin, os.Stdout, map[string]string{"go": runtime.Version(), "engine": dev.Fingerprint()}, work)
}

// bench is a device and what to do on it.
type bench struct {
	unit.Config
	dev *cpu.Device
	act compute.DType
}

func (b *bench) prepare() (func() (unit.Result, error), error) {
	switch b.Kind {
	case unit.GEMM:
		return b.gemm(), nil
	case unit.Train:
		return b.train()
	case unit.Curve:
		return b.curve()
	case unit.Score:
		return b.score()
	case unit.Decode:
		return b.decode()
	case unit.Iteration:
		return b.iteration()
	}
	return nil, nil
}

func dtype(name string) (compute.DType, error) {
	switch name {
	case "f32":
		return compute.F32, nil
	case "bf16":
		return compute.BF16, nil
	}
	return 0, fmt.Errorf("dtype %q, want f32 or bf16", name)
}

// load reads the model, to be trained or not.
func (b *bench) load(full bool) (*model.Model, error) {
	c, err := checkpoint.Open(b.Model)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	cfg, err := model.ParseConfig(c.Config())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.Model, err)
	}
	return model.New(b.dev, b.dev.NewBackend(), cfg, c, model.Options{DType: b.act, Full: full, MaxContext: 1024})
}

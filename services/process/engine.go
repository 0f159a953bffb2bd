package process

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/pkg/cli"
)

// Engine says what to compute on, and in which type.
type Engine struct {
	Device  string
	Threads int
	DType   string    // before Flags: the default, auto where empty
	Notes   io.Writer // gets a line where auto finds no GPU; nil: standard error
}

// Flags registers --dtype, --threads and --device.
func (e *Engine) Flags(f *pflag.FlagSet) {
	if e.DType == "" {
		e.DType = "auto"
	}
	f.StringVar(&e.DType, "dtype", e.DType, "f32, bf16, or auto: bf16 on a GPU and where its kernels are assembly")
	e.DeviceFlags(f)
}

// DeviceFlags are Flags for a service whose runs say the type.
func (e *Engine) DeviceFlags(f *pflag.FlagSet) {
	f.IntVar(&e.Threads, "threads", 0, "threads to compute on; 0: all cores. Changes no result")
	f.StringVar(&e.Device, "device", "cpu", "cpu, cuda:N for the N-th NVIDIA GPU, or auto: the first GPU, and the CPU where there is none")
}

// Open starts the device, which is the caller's to close. A GPU that was asked for and cannot be had
// is bad input; auto takes the CPU then, and writes to Notes why.
func (e *Engine) Open() (compute.Device, error) {
	gpu, auto := 0, e.Device == "auto"
	if e.Device != "cpu" && !auto {
		n, err := strconv.ParseUint(strings.TrimPrefix(e.Device, "cuda:"), 10, 16)
		if err != nil || !strings.HasPrefix(e.Device, "cuda:") {
			return nil, cli.BadInput(fmt.Errorf("--device %q, want cpu, cuda:N (cuda:0 is the first GPU) or auto", e.Device))
		}
		gpu = int(n)
	}
	if e.Device != "cpu" {
		dev, err := openGPU(gpu)
		if err == nil {
			return dev, nil
		}
		if !auto {
			return nil, cli.BadInput(fmt.Errorf("--device %s: %w", e.Device, err))
		}
		notes := e.Notes
		if notes == nil {
			notes = os.Stderr
		}
		fmt.Fprintf(notes, "--device auto: computing on the CPU: %v\n", err)
	}
	dev, err := cpu.New(cpu.Config{Threads: e.Threads})
	if err != nil {
		return nil, cli.BadInput(err)
	}
	return dev, nil
}

// Start opens the device and settles the type.
func (e *Engine) Start() (compute.Device, compute.DType, error) {
	dev, err := e.Open()
	if err != nil {
		return nil, 0, err
	}
	dtype, err := e.resolve(dev)
	if err != nil {
		dev.Close()
		return nil, 0, cli.BadInput(err)
	}
	return dev, dtype, nil
}

// resolve reads --dtype. BF16 halves the memory that weights and activations move, and so is faster
// even where its products are F32's; in portable Go it is not.
func (e *Engine) resolve(dev compute.Device) (compute.DType, error) {
	switch e.DType {
	case "f32":
		return compute.F32, nil
	case "bf16":
		return compute.BF16, nil
	case "auto":
		if f := dev.Fingerprint(); strings.HasPrefix(f, "cuda ") || strings.Contains(f, "/avx") || strings.Contains(f, "/neon/") {
			return compute.BF16, nil
		}
		return compute.F32, nil
	}
	return 0, fmt.Errorf("--dtype %q, want f32, bf16 or auto", e.DType)
}

package cpu

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/seed-8780d58e/spin/compute"
)

// kernelVersion is part of the fingerprint: it grows with every change that changes bits.
const kernelVersion = 2

// ISA names the kernels that a Device runs.
const (
	ISAPortable   = "portable"   // Go
	ISANEON       = "neon"       // arm64, every one
	ISAAVX2       = "avx2"       // AVX2, FMA, F16C
	ISAAVX512     = "avx512"     // AVX-512 F, BW, DQ, VL
	ISAAVX512BF16 = "avx512bf16" // and AVX512_BF16
)

// Config is what New needs to know.
type Config struct {
	Threads int    // 0: as many as GOMAXPROCS
	ISA     string // "": $SPIN_CPU, and where that is not set, the best that this CPU has
}

// Device is the processor. It implements compute.Device.
type Device struct {
	isa     string
	kernels kernels
	pool    *pool
	slabs   slabs
}

// New starts a device's threads. It refuses an instruction set that this CPU lacks.
func New(c Config) (*Device, error) {
	have := detect()
	isa, from := c.ISA, "ISA"
	if isa == "" {
		isa, from = os.Getenv("SPIN_CPU"), "SPIN_CPU"
	}
	if isa == "" {
		isa = have[0]
	}
	if !contains(have, isa) {
		return nil, fmt.Errorf("compute/cpu: %s=%s: this CPU and build have %s", from, isa, strings.Join(have, ", "))
	}
	if c.Threads < 0 {
		return nil, fmt.Errorf("compute/cpu: %d threads: want 1 or more, or 0 for all", c.Threads)
	}
	if c.Threads == 0 {
		c.Threads = runtime.GOMAXPROCS(0)
	}
	return newDevice(isa, newKernels(isa), c.Threads), nil
}

func newDevice(isa string, k kernels, threads int) *Device {
	return &Device{isa: isa, kernels: k, pool: newPool(threads)}
}

// Instructions lists the instruction sets that this CPU and build have, the best one first.
func Instructions() []string { return detect() }

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// Fingerprint is "cpu/<instruction set>/<kernel version>". Portable kernels name the architecture as
// well: Go's math functions differ between them in their last bits.
func (d *Device) Fingerprint() string {
	isa := d.isa
	if isa == ISAPortable {
		isa += "-" + runtime.GOARCH
	}
	return fmt.Sprintf("cpu/%s/%d", isa, kernelVersion)
}

// Threads is the number of threads that operations run on.
func (d *Device) Threads() int { return d.pool.threads }

// NewBackend makes a queue whose operations are done when the call returns.
func (d *Device) NewBackend() compute.Backend { return newBackend(d) }

// NewArena reserves memory; see compute.Device.
func (d *Device) NewArena(bytes int64) compute.Arena { return newArena(d, bytes) }

// Close stops the threads.
func (d *Device) Close() error {
	d.pool.close()
	return nil
}

//go:build cuda

package cuda_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/computetest"
	"github.com/seed-8780d58e/spin/compute/cuda"
	"github.com/seed-8780d58e/spin/compute/cuda/driver"
	"github.com/seed-8780d58e/spin/compute/cuda/nvrtc"
)

// built are the suite's subtests that the early proof passes.
func built() []string {
	return []string{"Device", "Arena", "Reserve", "Transfer", "Linear", "Copy", "Gather", "Zero", "Embed",
		"AddRMSNorm", "RoPE", "SwiGLU", "WriteKV", "AttentionPaged", "Sample"}
}

func TestRunAll(t *testing.T) {
	device(t).Close() // skips where there is no emulator
	computetest.RunAll(t, func(int) compute.Device { return device(t) }, computetest.Options{Only: built()})
}

// The order of blocks, and of threads between barriers, changes nothing.
func TestThreadOrder(t *testing.T) {
	for _, seed := range []string{"1", "2", "3"} {
		t.Run("seed "+seed, func(t *testing.T) {
			t.Setenv("SIMT_SEED", seed)
			device(t).Close()
			computetest.RunAll(t, func(int) compute.Device { return device(t) }, computetest.Options{
				Only: []string{"AddRMSNorm", "AttentionPaged"}, DTypes: []compute.DType{compute.BF16}})
		})
	}
}

func TestNoDriver(t *testing.T) {
	if _, err := cuda.New(cuda.Options{Driver: "no/such/libcuda.so.1"}); err == nil {
		t.Error("a driver that does not exist is opened")
	} else {
		t.Log(err)
	}
	device(t).Close()
	if _, err := driver.Open("libcuda.so.1", 0); err == nil && os.Getenv(driverVariable) == "" {
		t.Error("a second driver is opened beside the first")
	}
	library, _ := emulator()
	if _, err := cuda.New(cuda.Options{Driver: library, Ordinal: 99}); err == nil {
		t.Error("GPU 99 is opened")
	}
}

// The committed PTX is what the pinned compiler makes of the sources.
func TestPTXIsCurrent(t *testing.T) {
	library := os.Getenv("NVRTC_LIBRARY")
	if library == "" {
		t.Skip("NVRTC_LIBRARY is not set: 'sh deploy/cuda.sh nvrtc' fetches the compiler")
	}
	c, err := nvrtc.Open(library)
	if err != nil {
		t.Fatal(err)
	}
	if c.Major != 12 || c.Minor != 4 {
		t.Skipf("NVRTC is %d.%d, the PTX is of 12.4", c.Major, c.Minor)
	}
	made, err := c.Folder("kernels")
	if err != nil {
		t.Fatal(err)
	}
	for name, ptx := range made {
		committed, err := os.ReadFile(filepath.Join("kernels", name))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(committed, ptx) {
			t.Errorf("%s is not what NVRTC makes: go generate -tags cuda ./compute/cuda", name)
		}
	}
	if committed, _ := filepath.Glob("kernels/*.ptx"); len(committed) != len(made) {
		t.Errorf("%d PTX files are committed, %d are made", len(committed), len(made))
	}
}

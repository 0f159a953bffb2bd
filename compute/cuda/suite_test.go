//go:build cuda

package cuda_test

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/computetest"
	"github.com/seed-8780d58e/spin/compute/cuda"
	"github.com/seed-8780d58e/spin/compute/cuda/nvrtc"
)

// emulatedWork leaves out the cases that take the emulator more than a second or so.
const emulatedWork = 2 << 20

func TestRunAll(t *testing.T) {
	device(t).Close() // skips where there is no emulator
	computetest.RunAll(t, func(int) compute.Device { return device(t) }, computetest.Options{MaxWork: emulatedWork})
}

// The order of blocks, and of threads between barriers, changes nothing.
func TestThreadOrder(t *testing.T) {
	for _, seed := range []string{"0", "1"} { // the other tests have one at random
		t.Run("seed "+seed, func(t *testing.T) {
			t.Setenv("SIMT_SEED", seed)
			device(t).Close()
			computetest.RunAll(t, func(int) compute.Device { return device(t) }, computetest.Options{
				Only: []string{"Linear", "AddRMSNorm", "WriteKV"}, DTypes: []compute.DType{compute.BF16}})
			t.Run("step", TestDecodeStep)
		})
	}
}

// A machine without a driver, or without the GPU asked for, gets one clear line; a process has one
// driver.
func TestNoDriver(t *testing.T) {
	child := exec.Command(os.Args[0], "-test.run=^TestReplayAllocates$")
	child.Env = append(os.Environ(), driverVariable+"=no/such/libcuda.so.1")
	out, err := child.CombinedOutput()
	if want := "CUDA driver no/such/libcuda.so.1: no/such/libcuda.so.1: cannot open shared object file"; err == nil || !strings.Contains(string(out), want) {
		t.Errorf("without a driver: %v, want %q in\n%s", err, want, out)
	}
	device(t).Close()
	library, _ := emulator()
	for _, tt := range []struct {
		o    cuda.Options
		want string
	}{
		{cuda.Options{Driver: "other.so"}, "CUDA driver other.so: this process has opened " + library + " already"},
		{cuda.Options{Driver: library, Ordinal: 99}, "no GPU 99: this machine has 1"},
	} {
		if _, err := cuda.New(tt.o); err == nil || err.Error() != tt.want {
			t.Errorf("%+v: error %v, want %s", tt.o, err, tt.want)
		}
	}
}

// A binary with this package links neither the driver nor any other library of NVIDIA's.
func TestLinksLibcOnly(t *testing.T) {
	f, err := elf.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range libraries {
		if l != "libc.so.6" && !strings.HasPrefix(l, "ld-linux") {
			t.Errorf("needs %s", l)
		}
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

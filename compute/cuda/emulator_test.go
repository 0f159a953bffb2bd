//go:build cuda

package cuda_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/seed-8780d58e/spin/compute/cuda"
)

// driverVariable names the driver library that the tests shall use instead of an emulator of their
// own: another emulator, or libcuda.so.1 for the real GPU.
const driverVariable = "SPIN_TEST_CUDA_DRIVER"

var errNoCompiler = errors.New("g++ is not installed: 'apt-get install g++'; it compiles the emulated CUDA driver")

// build compiles the emulator and the kernels of source, a folder like this one, into one library.
func build(source, library string) error {
	if _, err := exec.LookPath("g++"); err != nil {
		return errNoCompiler
	}
	files, err := filepath.Glob(filepath.Join(source, "emulator", "*.cc"))
	if err != nil {
		return err
	}
	// No contraction: the kernels say fmaf where they mean it.
	args := append([]string{"-DSIMT", "-O2", "-march=native", "-ffp-contract=off", "-std=c++17", "-Wall", "-Werror", "-Wno-unknown-pragmas",
		"-ftls-model=initial-exec", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread", "-o", library}, files...)
	if out, err := exec.Command("g++", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("g++: %w\n%s", err, out)
	}
	return nil
}

// emulator is the library of this folder's kernels, compiled once a process.
var emulator = sync.OnceValues(func() (string, error) {
	if p := os.Getenv(driverVariable); p != "" {
		return p, nil
	}
	dir, err := os.MkdirTemp("", "cuda-emulator")
	if err != nil {
		return "", err
	}
	cleanup = func() { os.RemoveAll(dir) }
	library := filepath.Join(dir, "libcuda.so.1")
	return library, build(".", library)
})

var cleanup = func() {}

func TestMain(m *testing.M) {
	code := m.Run()
	cleanup()
	os.Exit(code)
}

// device is a new device on the emulator.
func device(t testing.TB) *cuda.Device {
	t.Helper()
	library, err := emulator()
	if errors.Is(err, errNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := cuda.New(cuda.Options{Driver: library})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestPlantedBugs removes or bends a line of a kernel and wants the suite to fail, and to say why.
func TestPlantedBugs(t *testing.T) {
	if os.Getenv(driverVariable) != "" {
		t.Skip("not on another driver")
	}
	for _, tt := range []struct{ name, file, old, new, run, want string }{
		{"missing barrier before reading", "linear.cu", "__syncthreads(); // tiles are whole", "", "Linear/f32", "oracle says"},
		{"missing barrier before writing", "attention_paged.cu", "__syncthreads(); // the last block of keys is used up", "", "AttentionPaged/f32", "oracle says"},
		{"missing warp barrier", "attention_paged.cu", "__syncwarp(); // p is whole", "", "AttentionPaged/f32", "oracle says"},
		{"a row past the end", "linear.cu", "row + r < rows &&", "row + r <= rows &&", "Linear/f32", "touches byte"},
		{"a column past the end", "move.cu", "c < cols; c += blockDim.x) t[c] = 0", "c <= cols; c += blockDim.x) t[c] = 0", "Zero/f32", "outside"},
		{"shared memory past the end", "sample.cu", "s.counts[threadIdx.x] = 0;", "(&s.counts[threadIdx.x])[1000] = 0;", "Sample/f32", "touches address"},
		{"barrier not for all", "norm.cu", "__syncthreads();", "if (threadIdx.x) __syncthreads();", "AddRMSNorm/f32", "oracle says"},
		{"shared memory not cleared", "sample.cu", "if (threadIdx.x == 0) s.total = 0;", "", "Sample/f32", "want"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, folder := range []string{"emulator", "kernels"} {
				if err := os.CopyFS(filepath.Join(dir, folder), os.DirFS(folder)); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, "kernels", tt.file)
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(source), tt.old) != 1 {
				t.Fatalf("%s does not hold %q once", tt.file, tt.old)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(source), tt.old, tt.new, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
			library := filepath.Join(dir, "libcuda.so.1")
			if err := build(dir, library); errors.Is(err, errNoCompiler) {
				t.Skip(err)
			} else if err != nil {
				t.Fatal(err)
			}
			suite := exec.Command(os.Args[0], "-test.run=^TestRunAll$/^"+strings.ReplaceAll(tt.run, "/", "$/^")+"$")
			suite.Env = append(os.Environ(), driverVariable+"="+library, "SIMT_SEED=2")
			out, err := suite.CombinedOutput()
			if err == nil {
				t.Errorf("the suite passes")
			} else if !strings.Contains(string(out), tt.want) {
				t.Errorf("the suite fails without %q:\n%s", tt.want, out)
			}
		})
	}
}

//go:build cuda

package cuda_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/seed-8780d58e/spin/compute/cuda"
)

// driverVariable names the driver library that the tests shall use instead of an emulator of their
// own: another emulator, or libcuda.so.1 for the real GPU.
const driverVariable = "SPIN_TEST_CUDA_DRIVER"

var errNoCompiler = errors.New("g++ is not installed: 'apt-get install g++'; it compiles the emulated CUDA driver")

// compiler turns C++ into objects and objects into a library.
func compiler(output string, args ...string) error {
	if _, err := exec.LookPath("g++"); err != nil {
		return errNoCompiler
	}
	// No contraction: the kernels say fmaf where they mean it.
	args = append([]string{"-DSIMT", "-O2", "-march=native", "-ffp-contract=off", "-std=c++17", "-Wall", "-Werror", "-Wno-unknown-pragmas",
		"-ftls-model=initial-exec", "-fPIC", "-fvisibility=hidden", "-pthread", "-o", output}, args...)
	if out, err := exec.Command("g++", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("g++: %w\n%s", err, out)
	}
	return nil
}

// objects are the emulator without kernels, compiled once a process.
var objects = sync.OnceValues(func() (files []string, err error) {
	dir, err := os.MkdirTemp("", "cuda-emulator")
	if err != nil {
		return nil, err
	}
	cleanup = func() { os.RemoveAll(dir) }
	for _, name := range []string{"simt", "driver"} {
		files = append(files, filepath.Join(dir, name+".o"))
		if err := compiler(files[len(files)-1], "-c", "emulator/"+name+".cc"); err != nil {
			return nil, err
		}
	}
	return files, nil
})

// build makes an emulator of the kernels in source, a folder like this one.
func build(source, library string) error {
	files, err := objects()
	if err != nil {
		return err
	}
	return compiler(library, append([]string{"-shared", filepath.Join(source, "emulator", "kernels.cc")}, files...)...)
}

// emulator is the library of this folder's kernels, built once a process.
var emulator = sync.OnceValues(func() (string, error) {
	if p := os.Getenv(driverVariable); p != "" {
		return p, nil
	}
	files, err := objects()
	if err != nil {
		return "", err
	}
	library := filepath.Join(filepath.Dir(files[0]), "libcuda.so.1")
	return library, build(".", library)
})

var cleanup = func() {}

// TestMain gives the blocks and threads of every launch a new order, and says which.
func TestMain(m *testing.M) {
	if os.Getenv("SIMT_SEED") == "" {
		seed := strconv.Itoa(2 + rand.IntN(1<<30))
		fmt.Fprintln(os.Stderr, "SIMT_SEED="+seed)
		os.Setenv("SIMT_SEED", seed)
	}
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
		{"barrier missing before a read", "linear.cu", "__syncthreads(); // tiles are whole", "", "Linear/f32", "oracle says"},
		{"barrier missing before a write", "attention_paged.cu", "__syncthreads(); // the last block of keys is used up", "", "AttentionPaged/f32", "oracle says"},
		{"two barriers for one", "norm.cu", "__syncthreads();", "if (threadIdx.x < 100) __syncthreads();\nelse __syncthreads();", "AddRMSNorm/f32", "threads wait at different barriers"},
		{"row past the end", "linear.cu", "row + r < rows &&", "row + r <= rows &&", "Linear/f32", "touches byte"},
		{"column past the end", "move.cu", "c < cols; c += blockDim.x) t[c] = 0", "c <= cols; c += blockDim.x) t[c] = 0", "Zero/f32", "outside"},
		{"shared memory past the end", "norm.cu", "s.sums[threadIdx.x / 32] = sum;", "s.sums[threadIdx.x / 8] = sum;", "AddRMSNorm/f32", "touches address"},
		{"shared memory not written", "norm.cu", "threadIdx.x % 32 == 0", "threadIdx.x % 64 == 0", "AddRMSNorm/f32", "oracle says"},
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

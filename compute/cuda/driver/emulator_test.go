//go:build cuda

package driver_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute/cuda/driver"
)

// libraryVariable names the emulated driver that TestMain built, for the tests' child processes.
const libraryVariable = "SPIN_TEST_PLANTED_DRIVER"

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run builds the emulator with testdata/planted.cu as its kernels, and gives it a new order of blocks
// and threads unless SIMT_SEED asks for one.
func run(m *testing.M) int {
	if _, err := exec.LookPath("g++"); err == nil && os.Getenv(libraryVariable) == "" {
		dir, err := os.MkdirTemp("", "planted")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		library := filepath.Join(dir, "libcuda.so.1")
		out, err := exec.Command("g++", "-DSIMT", "-O1", "-std=c++17", "-Wall", "-Werror", "-ftls-model=initial-exec", "-fPIC", "-fvisibility=hidden", "-pthread",
			"-shared", "-o", library, "../emulator/simt.cc", "../emulator/driver.cc", "-x", "c++", "testdata/planted.cu").CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "g++: %v\n%s", err, out)
			return 1
		}
		os.Setenv(libraryVariable, library)
	}
	if os.Getenv("SIMT_SEED") == "" {
		seed := strconv.Itoa(2 + rand.IntN(1<<30))
		fmt.Fprintln(os.Stderr, "SIMT_SEED="+seed)
		os.Setenv("SIMT_SEED", seed)
	}
	return m.Run()
}

// open is the emulated GPU.
func open(t *testing.T) *driver.Context {
	t.Helper()
	library := os.Getenv(libraryVariable)
	if library == "" {
		t.Skip("g++ is not installed: 'apt-get install g++'; it compiles the emulated CUDA driver")
	}
	c, err := driver.Open(library, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rig is some integers on the GPU, with a stream.
type rig struct {
	t    *testing.T
	c    *driver.Context
	s    *driver.Stream
	host []byte // pinned
	x    driver.Ptr
	n    int
}

func newRig(t *testing.T, n int) *rig {
	r := &rig{t: t, c: open(t), n: n}
	var err error
	r.s, err = r.c.NewStream()
	r.must(err)
	r.host, err = r.c.Pinned(4 * n)
	r.must(err)
	r.x, err = r.c.Alloc(int64(4 * n))
	r.must(err)
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) ints() []int32 { return unsafe.Slice((*int32)(unsafe.Pointer(&r.host[0])), r.n) }

// set sends 0, 1, 2 …
func (r *rig) set() {
	for i := range r.ints() {
		r.ints()[i] = int32(i)
	}
	r.must(r.s.CopyIn(r.x, r.host))
	r.must(r.s.Synchronize())
}

func (r *rig) get() []int32 {
	r.must(r.s.CopyOut(r.host, r.x))
	r.must(r.s.Synchronize())
	return r.ints()
}

// kernel is one of testdata/planted.cu, whose PTX, as far as the emulator reads it, is its head.
func (r *rig) kernel(name string) driver.Kernel {
	second := ""
	if strings.HasPrefix(name, "increment") {
		second = ", .param .u32 n"
	}
	m, err := r.c.Load([]byte(".visible .entry " + name + "(.param .u64 x" + second + ")"))
	r.must(err)
	k, err := m.Kernel(name, 0)
	r.must(err)
	return k
}

func (r *rig) launch(name string, blocks, threads int) {
	r.must(r.s.Launch(r.kernel(name), driver.Grid{X: blocks, Y: 1, Z: 1, Threads: threads}, []uint64{uint64(r.x), uint64(r.n)}))
}

func (r *rig) close() {
	r.must(r.c.Free(r.x))
	r.must(r.c.FreePinned(r.host))
	r.must(r.s.Destroy())
	r.must(r.c.Close())
}

// kernels are what is launched of testdata/planted.cu, on how much, and what the integers become.
func kernels() map[string]struct {
	n, blocks, threads int
	want               func(i int) int32
} {
	type launch = struct {
		n, blocks, threads int
		want               func(i int) int32
	}
	reversed := launch{256, 4, 64, func(i int) int32 { return int32(i/64*64 + 63 - i%64) }}
	return map[string]launch{
		"reverse_right":     reversed,
		"reverse_missing":   reversed,
		"barrier_divergent": {64, 1, 64, nil},
		"shuffle_divergent": {64, 1, 64, nil},
		"increment_right":   {101, 2, 64, func(i int) int32 { return int32(i + 1) }},
		"increment_past":    {101, 2, 64, nil}, // inside the last 16 bytes
		"increment_before":  {1024, 16, 64, nil},
		"shared_past":       {64, 1, 64, nil},
		"shared_fresh":      {64, 1, 64, func(i int) int32 { return 0 }},
		"blocks_in_order":   {64, 64, 64, func(i int) int32 { return int32(i + 1) }},
	}
}

// TestKernel runs the kernel that an environment variable names: in a child process, which a bug ends.
func TestKernel(t *testing.T) {
	name := os.Getenv("SPIN_TEST_PLANTED_KERNEL")
	if name == "" {
		t.Skip("for TestPlanted's children")
	}
	k := kernels()[name]
	r := newRig(t, k.n)
	r.set()
	r.launch(name, k.blocks, k.threads)
	for i, got := range r.get() {
		if k.want != nil && got != k.want(i) {
			t.Fatalf("%s: element %d is %d, want %d", name, i, got, k.want(i))
		}
	}
	r.close()
}

// Each bug is caught, under any order of blocks and threads, and what is right passes.
func TestPlanted(t *testing.T) {
	open(t).Close()
	for _, tt := range []struct{ kernel, want string }{
		{"reverse_right", ""},
		{"increment_right", ""},
		{"reverse_missing", "reverse_missing: element "},
		{"barrier_divergent", "emulator: barrier_divergent: block (0, 0, 0): threads wait at different barriers"},
		{"shuffle_divergent", "emulator: shuffle_divergent: block (0, 0, 0): not all threads reach the barrier"},
		{"increment_past", "emulator: increment_past: writes just outside a block of 404 bytes"},
		{"increment_before", "emulator: increment_before: block (0, 0, 0): thread 0: touches byte -4 of a block of 4096 bytes"},
		{"shared_past", "emulator: shared_past: block (0, 0, 0): writes outside its shared memory"},
		{"shared_fresh", "shared_fresh: element 0 is -1"},
		{"blocks_in_order", "blocks_in_order: element "},
	} {
		t.Run(tt.kernel, func(t *testing.T) {
			for _, seed := range []string{"1", "2", "3", os.Getenv("SIMT_SEED")} {
				child := exec.Command(os.Args[0], "-test.run=^TestKernel$")
				child.Env = append(os.Environ(), "SPIN_TEST_PLANTED_KERNEL="+tt.kernel, "SIMT_SEED="+seed)
				out, err := child.CombinedOutput()
				switch {
				case tt.want == "" && err != nil:
					t.Errorf("SIMT_SEED=%s: %v\n%s", seed, err, out)
				case tt.want != "" && err == nil:
					t.Errorf("SIMT_SEED=%s: the emulator is silent", seed)
				case !strings.Contains(string(out), tt.want):
					t.Errorf("SIMT_SEED=%s: want %q in\n%s", seed, tt.want, out)
				}
			}
		})
	}
}

// What is left when the last context goes is found, whatever it is.
func TestLeak(t *testing.T) {
	left := map[string]func(r *rig){
		"1 blocks of device memory":              func(r *rig) { _, err := r.c.Alloc(3); r.must(err) },
		"0 blocks of device memory, 1 of pinned": func(r *rig) { _, err := r.c.Pinned(3); r.must(err) },
		"1 streams":                              func(r *rig) { _, err := r.c.NewStream(); r.must(err) },
		"1 events":                               func(r *rig) { _, err := r.c.NewEvent(); r.must(err) },
		"1 graphs":                               func(r *rig) { _, err := r.s.Capture(func() {}); r.must(err) },
		"":                                       nil, // nothing
	}
	if what, child := os.LookupEnv("SPIN_TEST_LEAK"); child {
		r := newRig(t, 4)
		if f := left[what]; f != nil {
			f(r)
		}
		r.close()
		return
	}
	open(t).Close()
	for what, f := range left {
		child := exec.Command(os.Args[0], "-test.run=^TestLeak$")
		child.Env = append(os.Environ(), "SPIN_TEST_LEAK="+what)
		out, err := child.CombinedOutput()
		if (err != nil) != (f != nil) || f != nil && !strings.Contains(string(out), what) {
			t.Errorf("left %s: %v\n%s", what, err, out)
		}
	}
}

// A stream waits for another's event, and for nothing that comes later there.
func TestStreams(t *testing.T) {
	r := newRig(t, 256)
	r.set()
	other, err := r.c.NewStream()
	r.must(err)
	e, err := r.c.NewEvent()
	r.must(err)
	r.launch("reverse_right", 4, 64)
	r.must(r.s.Record(e))
	r.must(other.After(e))
	copied, err := r.c.Alloc(int64(4 * r.n))
	r.must(err)
	r.must(other.CopyOn(copied, r.x, int64(4*r.n)))
	r.must(other.CopyOut(r.host, copied))
	r.must(other.Synchronize())
	got := slices.Clone(r.ints())
	for i, v := range got {
		if want := kernels()["reverse_right"].want(i); v != want {
			t.Fatalf("element %d is %d, want %d", i, v, want)
		}
	}
	r.must(r.c.Free(copied))
	r.must(e.Destroy())
	r.must(other.Destroy())
	r.close()
}

// A recording runs when it is launched, as often as it is, and not while it is made.
func TestGraph(t *testing.T) {
	r := newRig(t, 128)
	r.set()
	k := r.kernel("increment_right")
	args := []uint64{uint64(r.x), uint64(r.n)}
	g, err := r.s.Capture(func() {
		r.must(r.s.Launch(k, driver.Grid{X: 2, Y: 1, Z: 1, Threads: 64}, args))
	})
	r.must(err)
	args[0] = 0 // the recording has its own
	if got := r.get(); got[5] != 5 {
		t.Errorf("element 5 is %d after the capture", got[5])
	}
	for range 3 {
		r.must(g.Launch())
	}
	if got := r.get(); got[0] != 3 || got[127] != 130 {
		t.Errorf("elements 0 and 127 are %d and %d after three replays, want 3 and 130", got[0], got[127])
	}
	if _, err := r.s.Capture(func() { _ = r.s.Synchronize() }); err == nil {
		t.Error("a wait inside a capture is no error")
	}
	r.must(g.Destroy())
	r.close()
}

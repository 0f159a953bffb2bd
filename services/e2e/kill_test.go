package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/store/storetest"
	"github.com/seed-8780d58e/spin/services/spin/command"
)

var long = flag.Bool("long", false, "kill more often")

// spinArgs, in the environment of this test's binary, makes it a `spin` with those arguments.
const spinArgs = "SPIN_TEST_ARGS"

func TestMain(m *testing.M) {
	if line := os.Getenv(spinArgs); line != "" {
		os.Exit(spin(line))
	}
	if config := os.Getenv(engine); config != "" {
		if err := serveClickHouse(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	if sideBySide := flag.Lookup("test.parallel"); sideBySide.Value.String() == sideBySide.DefValue {
		_ = sideBySide.Value.Set("4") // what runs in parallel here waits most of the time
	}
	began := time.Now()
	code := m.Run()
	sum.print(os.Stdout, time.Since(began))
	os.Exit(code)
}

func spin(line string) int {
	var args []string
	if err := json.Unmarshal([]byte(line), &args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return command.Main(ctx, args, command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

// summary is what the tests read of --summary.
type summary struct {
	RunID      string `json:"run_id"`
	Iterations []struct {
		Samples       int     `json:"samples"`
		Pairs         int     `json:"pairs"`
		LossFirst     float64 `json:"loss_first"`
		WeightsSHA256 string  `json:"weights_sha256"`
		CheckpointDir string  `json:"checkpoint_dir"`
	} `json:"iterations"`
	RowsDigest string `json:"rows_digest"`
}

// spinRun is `spin run` of the tests' spec in a folder.
func spinRun(t *testing.T, data, dir, library string) (*exec.Cmd, *bytes.Buffer) {
	return spinRunAt(t, data, dir, library, "1e-4")
}

// spinRunAt is spinRun at a learning rate.
func spinRunAt(t *testing.T, data, dir, library, rate string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	line, err := json.Marshal(spinRunArgs(data, dir, library, rate))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(withoutSpin(os.Environ()), spinArgs+"="+string(line))
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	return c, &out
}

// withoutSpin is the environment without what would configure a service.
func withoutSpin(env []string) []string {
	return slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "SPIN_") && !strings.HasPrefix(kv, "SPIN_CPU=") })
}

func spinRunArgs(data, dir, library, rate string) []string {
	return []string{
		"run", "--dir", dir, "--model", tinyModel, "--data", data, "--prompts", fmt.Sprint(trained), "--heldout", fmt.Sprint(heldout),
		"--draws", fmt.Sprint(draws), "--iterations", fmt.Sprint(iterations), "--max-new-tokens", "12", "--sft-epochs", "1", "--batch", "8",
		"--lr", rate, "--dtype", "f32", "--micro-tokens", "2048", "--control", "sft", "--threads", "2", "--chdb-lib", library,
		"--summary", filepath.Join(dir, "summary.json"), "--stop-when", "no_gain",
	}
}

func readSummary(t *testing.T, dir string) summary {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s summary
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// killer ends a process with SIGKILL a moment after it has said a number of lines, so that the place
// is random and the machine's speed does not decide it.
type killer struct {
	c     *exec.Cmd
	out   *bytes.Buffer
	after int
	wait  time.Duration
}

func (k *killer) Write(p []byte) (int, error) {
	before := k.after
	k.after -= bytes.Count(p, []byte("\n"))
	if before > 0 && k.after <= 0 {
		time.AfterFunc(k.wait, func() { _ = k.c.Process.Kill() })
	}
	return k.out.Write(p)
}

// kill -9 of a whole `spin run` (broker, ClickHouse and services at once) at random moments: started
// again until it ends, it comes to what an undisturbed run comes to.
func TestKill(t *testing.T) {
	library := storetest.Library(t)
	data := dataset(t)
	calm := t.TempDir()
	c, out := spinRun(t, data, calm, library)
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := readSummary(t, calm)
	said, _, _ := strings.Cut(out.String(), "loss first") // what it says on the way, before its table
	lines := strings.Count(said, "\n")

	kills := 5
	if *long {
		kills = 12
	}
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("moments by seed %d, of %d lines", seed, lines)
	killed := 0
	for killed < kills {
		c, out := spinRun(t, data, dir, library)
		k := &killer{after: 1 + random.IntN(lines/3), wait: time.Duration(random.IntN(100)) * time.Millisecond, c: c, out: out}
		c.Stdout, c.Stderr = k, k
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		err := c.Wait()
		var exit *exec.ExitError
		if err == nil {
			break // it was done first: what was finished before is not said again
		}
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%v\n%s", err, out)
		}
		killed++
	}
	if killed == 0 {
		t.Error("the run was done before the first kill")
	}
	c, out = spinRun(t, data, dir, library)
	if err := c.Run(); err != nil {
		t.Fatalf("after %d kills: %v\n%s", killed, err, out)
	}
	t.Logf("killed %d times", killed)
	got := readSummary(t, dir)
	if got.RowsDigest != want.RowsDigest {
		t.Errorf("after %d kills: rows_digest %.12s, want %.12s", killed, got.RowsDigest, want.RowsDigest)
	}
	for i := range want.Iterations {
		if got.Iterations[i].WeightsSHA256 != want.Iterations[i].WeightsSHA256 {
			t.Errorf("after %d kills: iteration %d ends with weights %.12s, want %.12s", killed, i, got.Iterations[i].WeightsSHA256, want.Iterations[i].WeightsSHA256)
		}
		if n := got.Iterations[i].Samples; n != (trained+heldout)*draws {
			t.Errorf("after %d kills: iteration %d has %d samples, want %d", killed, i, n, (trained+heldout)*draws)
		}
	}
}

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/store"
)

// playApart plays a run with the services' own binaries, two generators among them, over TCP.
func playApart(t *testing.T, archive *store.Store, clickhouse string, spec run.Spec, want result) result {
	bin, dir := t.TempDir(), t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "../generator", "../trainer", "../evaluator", "../recorder")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: filepath.Join(dir, "broker"), Listen: "127.0.0.1:0"}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	admin, err := bus.Init(t.Context(), server.Config("admin"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		admin.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	broker := []string{"--nats-url", server.URL(), "--nats-token-file", filepath.Join(dir, "broker", "token"), "--log-format", "json"}
	worker := append([]string{"--blob-dir", filepath.Join(dir, "blobs"), "--threads", "1"}, broker...)
	typed := append([]string{"--dtype", "f32"}, worker...)
	for _, p := range []struct {
		name string
		args []string
	}{
		{"recorder", append(append([]string{"--max-wait", "50ms"}, clickhouseFlags(t, clickhouse)...), broker...)},
		{"generator", append([]string{"--slots", "2"}, typed...)},
		{"generator", typed},
		{"evaluator", append([]string{"--score-tokens", "256", "--tasks", benchmarks().Tasks[0], "--task-data", benchmarks().TaskData, "--task-limit", fmt.Sprint(benchmarks().TaskLimit)}, worker...)},
		{"trainer", worker},
	} {
		var out bytes.Buffer
		c := exec.Command(filepath.Join(bin, p.name), p.args...)
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { // asked to stop, a service ends well
			if err := c.Process.Signal(syscall.SIGTERM); err != nil {
				t.Errorf("%s: %v\n%s", p.name, err, &out)
			}
			if err := c.Wait(); err != nil {
				t.Errorf("%s: %v\n%s", p.name, err, &out)
			}
		}()
	}
	s := &services{plane: &plane{t: t, store: archive}, ctx: t.Context(), admin: admin}
	id := s.submit(spec)
	for deadline := time.Now().Add(60 * time.Second); ; {
		r, _, err := bus.State[run.Run]{Bucket: admin.Control()}.Load(t.Context(), run.Key(id))
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != run.Submitted && r.Status != run.Running && r.Status != run.Finished {
			t.Fatalf("the run is %s: %s", r.Status, r.Reason)
		}
		if r.Status == run.Finished {
			// evaluator and recorder are a moment behind
			if s.result(id).rows == want.rows || time.Now().After(deadline) {
				return s.result(id)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the run is %s after a minute", r.Status)
		}
		time.Sleep(50 * time.Millisecond) // between two looks
	}
}

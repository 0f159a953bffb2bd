package e2e

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// The generator of deploy/examples plays a run alone. It shares no code with ours and has never seen
// the weights; the trainer scores the opponent itself, so that the first losses are ln 2 all the same.
// SPIN_EXAMPLES_PYTHON names a python that has its requirements; .ci/run makes one.
func TestPythonGenerator(t *testing.T) {
	python := os.Getenv("SPIN_EXAMPLES_PYTHON")
	if python == "" {
		t.Skip("SPIN_EXAMPLES_PYTHON names no python with deploy/examples/python-generator/requirements.txt")
	}
	const fingerprint = "example/python"
	archive := storetest.Open(t)
	spec := newSpec(t, dataset(t))
	spec.SPIN.OpponentLogps, spec.Engine.Engines, spec.Control = "trainer", []string{fingerprint}, "none"
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	p := newPlane(t, archive)
	p.listen = "127.0.0.1:0"
	s := p.start(fleet{threads: 1})
	defer s.stop()

	var said bytes.Buffer
	generator := exec.Command(python, "generator.py", "--nats-url", s.server.URL(), "--fingerprint", fingerprint,
		"--nats-token-file", filepath.Join(p.dir, "broker", "token"), "--blob-dir", filepath.Join(p.dir, "blobs"))
	generator.Dir, generator.Stdout, generator.Stderr = "../../deploy/examples/python-generator", &said, &said
	generator.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	generator.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := generator.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		err := generator.Wait()
		s.cancel(fmt.Errorf("the generator ended: %v", err)) // nobody is left who could play
		ended <- err
	}()
	stopped := false
	defer func() {
		if !stopped {
			_ = generator.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("the generator said:\n%s", said.Bytes())
		}
	}()

	id := s.submit(spec)
	if err := s.trainer.Lead(s.ctx, id); err != nil {
		t.Fatal(err)
	}
	s.finish(id)
	of := " FINAL WHERE run_id = '" + id + "'"
	for iteration := range iterations {
		loss := number(t, archive, fmt.Sprintf("SELECT loss FROM steps%s AND phase = 'spin' AND step = 1 AND iteration = %d", of, iteration))
		if loss != math.Ln2 {
			t.Errorf("the first loss of iteration %d is %v, ln 2 is %v", iteration, loss, math.Ln2)
		}
	}
	if n := number(t, archive, "SELECT count() FROM games"+of); n != iterations*(trained+heldout) {
		t.Errorf("%v games, want %d", n, iterations*(trained+heldout))
	}
	if n := number(t, archive, "SELECT countIf(fingerprint != '"+fingerprint+"' OR text = '' OR n_tokens > 12) FROM samples"+of); n != 0 {
		t.Errorf("%v samples that the example can't have made", n)
	}
	if n := number(t, archive, "SELECT uniqExact(finish_reason) FROM samples"+of); n != 2 {
		t.Errorf("answers end in %v ways, want both: stopped and cut", n)
	}
	if n := number(t, archive, "SELECT count() FROM events"+of+" AND level = 'alarm' AND kind != 'entropy'"); n != 0 { // it rambles, by its own word
		t.Errorf("%v alarms", n)
	}

	s.cancel(errStopped) // the first cause holds: what follows is no failure
	if err := generator.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	stopped = true
	if err := <-ended; err != nil {
		t.Errorf("the generator, told to stop: %v", err)
	}
}

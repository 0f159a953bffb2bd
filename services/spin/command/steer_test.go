package command_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/store/storetest"
	"github.com/seed-8780d58e/spin/services/spin/command"
)

// answers writes a data set of n prompts.
func answers(t *testing.T, n int) string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"prompt": "What colour is thing number %d?", "response": "Thing %d is green, I think."}`+"\n", i, i)
	}
	return write(t, t.TempDir(), "answers.jsonl", b.String())
}

// A run that goes on is watched, tapped and paused from outside, as by other processes; then all of
// it is removed.
func TestSteer(t *testing.T) {
	storetest.Library(t)
	dir := t.TempDir()
	type ended struct {
		code int
		err  string
	}
	running := make(chan ended, 1)
	go func() {
		code, _, err := spin(t.Context(), "", "run", "--dir", dir, "--model", tiny, "--data", answers(t, 20), "--prompts", "16", "--heldout", "4",
			"--sft-epochs", "1", "--max-new-tokens", "8", "--iterations", "1000", "--dtype", "f32")
		running <- ended{code, err}
	}()
	out, in := io.Pipe()
	go func() {
		for t.Context().Err() == nil { // until there is a broker, and a run
			var err bytes.Buffer
			if command.Main(t.Context(), []string{"tap", "--dir", dir, "--kind", "steps", "--follow"}, command.Streams{Out: in, Err: &err}) == 0 {
				return
			}
		}
	}()
	var line struct {
		Subject string
		Message struct {
			RunID string `json:"run_id"`
			Loss  float64
		}
	}
	text, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	must(t, json.Unmarshal([]byte(text), &line))
	id := line.Message.RunID
	if line.Subject != "spin."+id+".steps.0.sft.1" || !(line.Message.Loss > 0) {
		t.Errorf("the first step is %s", text)
	}
	go io.Copy(io.Discard, out)

	if code, _, err := spin(t.Context(), "", "rm", "--dir", dir, id); code != 2 || !strings.Contains(err, "abort it first") {
		t.Errorf("rm of a run that goes on: exit %d: %s", code, err)
	}
	if got := mustSpin(t, "pause", "--dir", dir, id[:30], "--reason", "lunch"); got != "run "+id+" is paused\n" {
		t.Errorf("pause: %s", got)
	}
	e := <-running
	if e.code != 1 || !strings.Contains(e.err, "run "+id+" is paused: lunch") {
		t.Errorf("the paused run: exit %d: %s", e.code, e.err)
	}
	if code, _, err := spin(t.Context(), "", "watch", "--dir", dir); code != 2 || !strings.Contains(err, "no run goes on in "+dir) {
		t.Errorf("watch of a folder at rest: exit %d: %s", code, err)
	}
	if got := mustSpin(t, "report", "--dir", dir, "--output", filepath.Join(dir, "report.html")); !strings.HasPrefix(got, "run "+id) {
		t.Errorf("report: %s", got)
	}
	if code, _, err := spin(t.Context(), "", "pause", "--dir", dir, id); code != 2 || !strings.Contains(err, "pause a run that is paused") {
		t.Errorf("pause again: exit %d: %s", code, err)
	}

	mustSpin(t, "rm", "--dir", dir, id)
	if got := mustSpin(t, "sql", "--dir", dir, "--format", "TSV", "SELECT (SELECT count() FROM steps) + (SELECT count() FROM samples) + (SELECT count() FROM runs)"); got != "0\n" {
		t.Errorf("rows are left: %s", got)
	}
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "??", "*"))
	if err != nil || len(blobs) > 0 {
		t.Errorf("blobs are left: %v %v", blobs, err)
	}
	if code, _, err := spin(t.Context(), "", "tap", "--dir", dir); code != 2 || !strings.Contains(err, "no run is there yet") {
		t.Errorf("tap of an empty broker: exit %d: %s", code, err)
	}
}

package command_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// A run file goes to a fleet's broker by address and token, and is steered there.
func TestSubmit(t *testing.T) {
	dir := t.TempDir()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, Listen: "127.0.0.1:0"}, zerolog.Nop())
	must(t, err)
	defer server.Close()
	fleet := []string{"--nats-url", server.URL(), "--nats-token-file", filepath.Join(dir, "token")}
	model, err := filepath.Abs(tiny)
	must(t, err)
	file := write(t, dir, "run.yaml", "model: {path: "+model+"}\ndata: {path: "+answers(t, 8)+", prompts: 4, heldout: 2}\niterations: 3\n")
	submit := append([]string{"submit", file, "--dtype", "f32", "--beta", "0.5"}, fleet...)

	if code, _, stderr := spin(t.Context(), "", submit...); code != 2 || !strings.Contains(stderr, "start a trainer") {
		t.Errorf("to a broker without streams: exit %d: %s", code, stderr)
	}
	conn, err := bus.Init(t.Context(), server.Config("test"), zerolog.Nop())
	must(t, err)
	defer conn.Close()
	id := strings.TrimSpace(mustSpin(t, submit...))
	r, _, err := bus.State[run.Run]{Bucket: conn.Control()}.Load(t.Context(), run.Key(id))
	must(t, err)
	if r.Status != run.Submitted || r.Spec.Iterations != 3 || r.Spec.SPIN.Beta.At(0) != 0.5 || r.Spec.Data.SHA256 == "" || r.Spec.Model.SHA256 == "" {
		t.Errorf("submitted: %+v", r)
	}
	if again := strings.TrimSpace(mustSpin(t, submit...)); again != id {
		t.Errorf("submitted twice: runs %s and %s", id, again)
	}
	for _, c := range []struct{ command, want string }{{"pause", "paused"}, {"resume", "running"}, {"abort", "aborted"}} {
		got := mustSpin(t, append([]string{c.command, id}, fleet...)...)
		if want := "run " + id + " is " + c.want + "\n"; got != want {
			t.Errorf("%s: %s, want %s", c.command, got, want)
		}
	}
	if code, _, stderr := spin(t.Context(), "", append([]string{"resume", id}, fleet...)...); code != 2 || !strings.Contains(stderr, "resume a run that is aborted") {
		t.Errorf("resume an aborted run: exit %d: %s", code, stderr)
	}
	if code, _, stderr := spin(t.Context(), "", append([]string{"abort", "0000"}, fleet...)...); code != 2 || !strings.Contains(stderr, "no run 0000; there are "+id) {
		t.Errorf("abort an unknown run: exit %d: %s", code, stderr)
	}
}

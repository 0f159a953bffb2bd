package command_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// deadRun leaves a blocked run in a folder, with letters of every kind:
//
//	1, 2 open   3 played after all   4 a hole   5 a game that was refused   6 a task of an unknown schema
func deadRun(t *testing.T, dir string) (id string) {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: filepath.Join(dir, "broker")}, zerolog.Nop())
	must(t, err)
	conn, err := bus.Init(t.Context(), server.Config("test"), zerolog.Nop())
	must(t, err)
	defer func() { conn.Close(); must(t, server.Close()) }()
	spec, err := run.Preset("default")
	must(t, err)
	spec.Engine.DType = "f32"
	id, err = run.NewID()
	must(t, err)
	r, err := run.NewRun(id, spec, time.Now())
	must(t, err)
	r.Status, r.Reason = run.Blocked, "prompt p1 could not be played"
	_, err = bus.State[run.Run]{Bucket: conn.Control()}.Create(t.Context(), run.Key(id), r)
	must(t, err)
	chunk := &event.Chunk{
		RunId: id, Single: true, WeightsSha256: strings.Repeat("ab", 32), Draws: 1, Sampling: &event.Sampling{TopP: 1, MaxNewTokens: 4},
		Prompts: []*event.Prompt{{PromptId: "p1", Split: event.Split_SPLIT_TRAIN, Messages: []*event.ChatMessage{{Role: "user", Content: "Hi."}}, Real: &event.Response{TokenIds: []uint32{1}}}},
	}
	payload, err := event.Marshal(chunk)
	must(t, err)
	for n := range 6 {
		l := &event.DeadLetter{
			RunId: id, Stream: event.Prompts, Schema: event.Schema(chunk), Payload: payload, PromptId: fmt.Sprintf("p%d", n+1), Reason: "3 attempts by 3 instances failed or died",
			Attempts: []*event.Attempt{{Instance: "generator-a", Error: "out of memory"}, {Instance: "generator-b"}},
		}
		switch n {
		case 4:
			l.Stream, l.Reason = event.Games, "played by other weights"
		case 5:
			l.Schema, l.Payload, l.PromptId, l.Reason = "spin.v9.Chunk", []byte("junk"), "", "not a chunk"
		}
		must(t, conn.Append(t.Context(), l, fmt.Sprint(n)))
	}
	for _, prompt := range []string{"p3", "p4"} {
		m := &event.Game{RunId: id, PromptId: prompt, Split: event.Split_SPLIT_TRAIN, Hole: &event.Hole{Reason: "x"}}
		if prompt == "p3" {
			answer := &event.Response{TokenIds: []uint32{1}, TokenLogps: []float32{-1}}
			m.Hole, m.WeightsSha256, m.Fingerprint, m.Sampling, m.Messages, m.PromptIds, m.Real = nil, chunk.GetWeightsSha256(), "cpu", chunk.GetSampling(), chunk.GetPrompts()[0].GetMessages(), []uint32{1}, answer
			m.Draws = []*event.Draw{{SampleId: event.SampleID(id, 0, prompt, 0), Response: answer}}
		}
		_, err := conn.PublishOnce(t.Context(), m)
		must(t, err)
	}
	return id
}

// control reads a folder's control bucket when no command has it open.
func control[T any](t *testing.T, dir, key string) (value T, found bool) {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: filepath.Join(dir, "broker")}, zerolog.Nop())
	must(t, err)
	conn, err := bus.Connect(t.Context(), server.Config("test"), zerolog.Nop())
	must(t, err)
	defer func() { conn.Close(); must(t, server.Close()) }()
	value, _, err = bus.State[T]{Bucket: conn.Control()}.Load(t.Context(), key)
	if errors.Is(err, bus.ErrNotFound) {
		return value, false
	}
	must(t, err)
	return value, true
}

func TestDead(t *testing.T) {
	dir := t.TempDir()
	id := deadRun(t, dir)

	out := mustSpin(t, "dead", "ls", "--dir", dir)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 7 {
		t.Fatalf("ls prints\n%s", out)
	}
	for i, state := range []string{"open", "open", "played", "hole", "refused", "refused"} {
		if f := strings.Fields(lines[i+1]); f[0] != fmt.Sprint(i+1) || f[3] != state {
			t.Errorf("letter %d: %s, want %s", i+1, lines[i+1], state)
		}
	}
	if !strings.Contains(lines[1], "out of memory") || !strings.Contains(lines[1], "p1") {
		t.Errorf("letter 1: %s", lines[1])
	}
	if bare := mustSpin(t, "dead", "--dir", dir); bare != out {
		t.Errorf("without a verb:\n%s", bare)
	}

	var shown struct {
		Seq     int
		State   string
		Letter  struct{ Reason string }
		Message struct{ Prompts []any }
		Error   string
	}
	must(t, json.Unmarshal([]byte(mustSpin(t, "dead", "show", "1", "--dir", dir)), &shown))
	if shown.Seq != 1 || shown.State != "open" || len(shown.Message.Prompts) != 1 || shown.Error != "" {
		t.Errorf("show 1: %+v", shown)
	}
	shown.Message.Prompts = nil
	must(t, json.Unmarshal([]byte(mustSpin(t, "dead", "show", "6", "--dir", dir)), &shown))
	if shown.Message.Prompts != nil || !strings.Contains(shown.Error, "spin.v9.Chunk") {
		t.Errorf("show 6: %+v", shown)
	}

	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"bury", "1"}, "want spin dead ls"},
		{[]string{"requeue"}, "want spin dead ls"},
		{[]string{"requeue", "1", "--all"}, "want spin dead ls"},
		{[]string{"ls", "1"}, "want spin dead ls"},
		{[]string{"skip", "x"}, "not the number of a letter"},
		{[]string{"show", "9"}, "has no dead letter 9"},
		{[]string{"requeue", "1", "3"}, "its state is played"},
		{[]string{"skip", "5"}, "its state is refused"},
		{[]string{"requeue", "1", "--reason", "x"}, "--reason goes with skip"},
	} {
		code, _, stderr := spin(t.Context(), "", append(append([]string{"dead"}, c.args...), "--dir", dir)...)
		if code != 2 || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("dead %v: exit %d, %s; want %q", c.args, code, stderr, c.want)
		}
	}
	if _, found := control[run.Answer](t, dir, run.AnswerKey(id, 1)); found {
		t.Error("a refused command answered a letter")
	}

	if out := mustSpin(t, "dead", "skip", "1", "--reason", "no such file", "--dir", dir); out != "1 letters: skip; run "+id+" is running\n" {
		t.Errorf("skip prints %s", out)
	}
	if a, _ := control[run.Answer](t, dir, run.AnswerKey(id, 1)); a.Action != run.Skip || a.Reason != "no such file" || a.At.IsZero() {
		t.Errorf("answer %+v", a)
	}
	if r, _ := control[run.Run](t, dir, run.Key(id)); r.Status != run.Running || r.Reason != "" {
		t.Errorf("the run is %s: %s", r.Status, r.Reason)
	}
	if code, _, stderr := spin(t.Context(), "", "dead", "requeue", "1", "--dir", dir); code != 2 || !strings.Contains(stderr, "its state is skip") {
		t.Errorf("a second answer: exit %d, %s", code, stderr)
	}
	mustSpin(t, "dead", "requeue", "--all", "--dir", dir)
	if a, _ := control[run.Answer](t, dir, run.AnswerKey(id, 2)); a.Action != run.Requeue {
		t.Errorf("answer %+v", a)
	}
}

package event

import (
	"errors"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	runID  = "01932f6e8b7c7abc8def0123456789ab"
	digest = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
)

func sampling() *Sampling { return &Sampling{Seed: 7, Temperature: 1, TopP: 1, MaxNewTokens: 64} }

func scored(text string, ids ...uint32) *Response {
	return &Response{Text: text, TokenIds: ids, TokenLogps: make([]float32, len(ids)), FinishReason: FinishReason_FINISH_REASON_STOP}
}

func chunk() *Chunk {
	prompt := func(id string) *Prompt {
		return &Prompt{
			PromptId: id, Split: Split_SPLIT_TRAIN, Messages: []*ChatMessage{{Role: "user", Content: "hi"}},
			Real: &Response{Text: "yo", TokenIds: []uint32{5}},
		}
	}
	return &Chunk{RunId: runID, WeightsSha256: digest, Sampling: sampling(), Draws: 1, Prompts: []*Prompt{prompt("p1"), prompt("p2")}}
}

func game() *Game {
	return &Game{
		RunId: runID, Iteration: 1, PromptId: "p1", Split: Split_SPLIT_TRAIN, WeightsSha256: digest, TemplateId: "t", Fingerprint: "cpu/avx2/f32",
		Sampling: sampling(), Messages: []*ChatMessage{{Role: "user", Content: "hi"}}, PromptIds: []uint32{1, 2},
		Real:         scored("yo", 5, 2),
		Draws:        []*Draw{{SampleId: SampleID(runID, 1, "p1", 0), Iteration: 1, Response: scored("hey", 6, 7)}},
		Kept:         []*Draw{{SampleId: SampleID(runID, 0, "p1", 0), Response: scored("hm", 8)}},
		Circumstance: &Circumstance{Instance: "generator-1", CreatedAt: timestamppb.Now()},
	}
}

func score() *Score {
	return &Score{
		RunId: runID, Phase: Phase_PHASE_SPIN, Task: "heldout", Metric: "nll", Split: Split_SPLIT_HELDOUT, Value: 3.7, N: 64, WeightsSha256: digest,
	}
}

func examples() []Message {
	return []Message{
		chunk(), game(), score(),
		&Game{RunId: runID, PromptId: "p1", Split: Split_SPLIT_TRAIN, Hole: &Hole{Reason: "skipped by a person"}},
		&Step{RunId: runID, Phase: Phase_PHASE_SPIN, Step: 1, Loss: math.Ln2},
		&PairTraces{RunId: runID, Iteration: 1, Step: 1, Pairs: []*PairTrace{{PromptId: "p1", Loss: math.Ln2, PolicyRealLogp: -20}}},
		&Checkpoint{RunId: runID, Phase: Phase_PHASE_SFT, WeightsSha256: digest, Files: []*File{{Name: "model.safetensors", Size: 9, Sha256: digest}}},
		&Event{Id: "e1", RunId: runID, Service: "trainer", Kind: "run_state", Message: "running"},
		&DeadLetter{RunId: runID, Stream: "prompts", Reason: "three instances died on it"},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, want := range examples() {
		b, err := Marshal(want)
		if err != nil {
			t.Fatalf("%s: %v", Schema(want), err)
		}
		got, err := Unmarshal(Schema(want), b)
		if err != nil {
			t.Fatalf("%s: %v", Schema(want), err)
		}
		if !proto.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", Schema(want), got, want)
		}
		for _, token := range strings.Split(got.Subject(), ".") {
			if !IsToken(token) {
				t.Errorf("%s: subject %s has the token %q", Schema(want), got.Subject(), token)
			}
		}
		line, err := JSON(got)
		if err != nil || strings.Contains(string(line), "\n") || !strings.Contains(string(line), `"run_id":"`+runID+`"`) {
			t.Errorf("%s: JSON %s, %v", Schema(want), line, err)
		}
	}
}

func TestSubjects(t *testing.T) {
	single := chunk().Split()[1]
	for _, c := range []struct{ got, want string }{
		{chunk().Subject(), "spin." + runID + ".prompts.0"},
		{single.Subject(), "spin." + runID + ".prompts.0.p2"},
		{single.Task(), "0.c0.h0.p2"},
		{game().Subject(), "spin." + runID + ".games.1.p1"},
		{StepSubject("r", 2, Phase_PHASE_CONTROL, 9), "spin.r.steps.2.control.9"},
		{PairsSubject("r", 2, 9), "spin.r.pairs.2.9"},
		{CheckpointSubject("r", 2, Phase_PHASE_SPIN), "spin.r.checkpoints.2.spin"},
		{score().Subject(), "spin." + runID + ".scores.0.spin.heldout.nll.heldout"},
		{Filter("", Games), "spin.*.games.>"},
		{IterationFilter("r", Games, 3), "spin.r.games.3.>"},
		{SampleID("r", 1, "p", 0), "r/1/p/0"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	if err := single.Validate(); err != nil {
		t.Error(err)
	}
}

func TestInvalid(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Game)
		want   string
	}{
		{"run widens the subject", func(g *Game) { g.RunId = "a.>" }, "run_id"},
		{"prompt is empty", func(g *Game) { g.PromptId = "" }, "prompt_id"},
		{"no digest", func(g *Game) { g.WeightsSha256 = "b17" }, "weights_sha256"},
		{"logp missing", func(g *Game) { g.Real.TokenLogps = g.Real.TokenLogps[:1] }, "real.token_logps has 1 values for 2 tokens"},
		{"logp NaN", func(g *Game) { g.Draws[0].Response.TokenLogps[1] = float32(math.NaN()) }, "token_logps[1] is NaN"},
		{"another's sample", func(g *Game) { g.Draws[0].SampleId = "x" }, "sample_id"},
		{"kept from too far back", func(g *Game) { g.Iteration = 2 }, "sampled in iteration"},
		{"draw twice", func(g *Game) { g.Draws = append(g.Draws, g.Draws[0]) }, "draw 0 after 0"},
		{"empty answer", func(g *Game) { g.Real.TokenIds = nil }, "real has 0 tokens"},
		{"hole with answers", func(g *Game) { g.Hole = &Hole{} }, "a hole with answers"},
		{"no split", func(g *Game) { g.Split = 0 }, "split is unspecified"},
		{"role", func(g *Game) { g.Messages[0].Role = "tool" }, "want system, user or assistant"},
		{"time", func(g *Game) { g.Circumstance.CreatedAt.Nanos = -1 }, "created_at"},
	} {
		g := game()
		c.change(g)
		err := g.Validate()
		if err == nil || !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if _, err := Marshal(g); err == nil {
			t.Errorf("%s: encoded", c.name)
		}
		b, err := proto.Marshal(g)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Unmarshal(Schema(g), b); err == nil {
			t.Errorf("%s: decoded", c.name)
		}
	}
	file := &Checkpoint{RunId: runID, Phase: Phase_PHASE_SPIN, WeightsSha256: digest, Files: []*File{{Name: "../x", Sha256: digest}}}
	if file.Validate() == nil {
		t.Error("a file name left its directory")
	}
	if _, err := Unmarshal("spin.v2.Game", nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("unknown schema: %v", err)
	}
}

// Two bytes on the wire must not become hundreds in memory, a million times.
func TestUnmarshalBoundsParts(t *testing.T) {
	empty := protowire.AppendBytes(protowire.AppendTag(nil, 13, protowire.BytesType), nil) // Game.draws
	bomb := []byte(strings.Repeat(string(empty), maxNested+1))
	if _, err := Unmarshal("spin.v1.Game", bomb); err == nil || !strings.Contains(err.Error(), "parts") {
		t.Errorf("got %v", err)
	}
	if _, err := Unmarshal("spin.v1.Game", make([]byte, MaxBytes+1)); err == nil {
		t.Error("an oversized message was decoded")
	}
}

func TestSameContent(t *testing.T) {
	a, b := game(), game()
	b.Circumstance = &Circumstance{Instance: "generator-2", Attempt: 2}
	if !SameContent(a, b) {
		t.Error("circumstance counted as content")
	}
	b.Real.TokenLogps[0] = -1
	if SameContent(a, b) {
		t.Error("another log-probability is the same content")
	}
	if a.Circumstance == nil {
		t.Error("SameContent changed its argument")
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, m := range examples() {
		b, err := Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(Schema(m), b)
	}
	f.Fuzz(func(t *testing.T, schema string, data []byte) {
		m, err := Unmarshal(schema, data)
		if err != nil {
			return
		}
		if _, err := JSON(m); err != nil {
			t.Fatalf("valid, but no JSON: %v", err)
		}
		again, err := Marshal(m)
		if err != nil {
			t.Fatalf("valid, but not encoded again: %v", err)
		}
		if _, err := Unmarshal(schema, again); err != nil {
			t.Fatalf("encoded, but not decoded again: %v", err)
		}
	})
}

func BenchmarkGame(b *testing.B) {
	g := game()
	g.Draws[0].Response = scored(strings.Repeat("word ", 256), make([]uint32, 256)...)
	for b.Loop() {
		data, err := Marshal(g)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Unmarshal("spin.v1.Game", data); err != nil {
			b.Fatal(err)
		}
	}
}

package run

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func parse(t *testing.T, text string) Spec {
	t.Helper()
	s, err := Parse("run.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPresetsAreValidAndRoundTrip(t *testing.T) {
	for _, name := range presetNames {
		s, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		if s.Preset != name {
			t.Errorf("preset %s calls itself %s", name, s.Preset)
		}
		if err := s.Validate(); err != nil {
			t.Errorf("preset %s: %v", name, err)
		}
		text, err := Format(s)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse("printed.yaml", text)
		if err != nil {
			t.Fatalf("preset %s printed and read: %v\n%s", name, err, text)
		}
		if !reflect.DeepEqual(s, back) {
			t.Errorf("preset %s printed and read:\n got %+v\nwant %+v", name, back, s)
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var fromJSON Spec
		if err := json.Unmarshal(b, &fromJSON); err != nil || !reflect.DeepEqual(s, fromJSON) {
			t.Errorf("preset %s through JSON: %v\n got %+v\nwant %+v", name, err, fromJSON, s)
		}
		if asYAML, err := Parse("run.json", b); err != nil || asYAML.Digest() != s.Digest() {
			t.Errorf("preset %s: JSON is not read as a run file: %v", name, err)
		}
	}
}

func TestParse(t *testing.T) {
	s := parse(t, `
preset: quick
seed: 18446744073709551615
spin:
  lr: [1e-6, 5e-7]
  beta: 0.2
  mix_previous: [true, false]
engine: {memory: 4GiB}
`)
	if s.Data.Prompts != 40 || s.Seed != 1<<64-1 || s.Engine.Memory != 4<<30 || s.SPIN.Batch != 8 {
		t.Errorf("got %+v", s)
	}
	if s.SPIN.LR.At(0) != 1e-6 || s.SPIN.LR.At(7) != 5e-7 || s.SPIN.Beta.At(3) != 0.2 || s.SPIN.MixPrevious.At(1) {
		t.Errorf("per-iteration lists: %+v", s.SPIN)
	}
	if d := parse(t, ""); !reflect.DeepEqual(d, parse(t, "preset: default")) {
		t.Error("an empty file is not the default")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "seed: 1\nsedd: 2\n", `run.yaml:2:1: unknown field "sedd"`},
		{"unknown key inside", "spin:\n  betta: 1\n", `run.yaml:2:3: unknown field "betta"`},
		{"unknown key in the inlined part", "data:\n  pathh: x\n", `run.yaml:2:3: unknown field "pathh"`},
		{"twice", "seed: 1\nseed: 2\n", "run.yaml:2:1:"},
		{"wrong type", "draws: many\n", "run.yaml:1:8:"},
		{"not YAML", "a: [1\n", "run.yaml:"},
		{"list of wrong type", "spin: {lr: [fast]}\n", "run.yaml"},
		{"preset", "preset: papier\n", `preset "papier": want one of [default quick paper]`},
		{"loss", "spin: {loss: [logistic, hing]}\n", `spin.loss[1]: loss "hing"`},
		{"empty list", "spin: {beta: []}\n", "spin.beta is an empty list"},
		{"beta", "spin: {beta: 0}\n", "spin.beta is 0: want a number above 0"},
		{"NaN", "spin: {lr: .nan}\n", "spin.lr is NaN"},
		{"batch", "draws: 3\nengine: {micro_tokens: 4096}\n", "spin.batch is 8 pairs, but a game of iteration 0 has 3"},
		{"batch when mixed", "draws: 8\nengine: {micro_tokens: 4096}\n", "a game of iteration 1 has 16"},
		{"greedy draws", "draws: 2\nsampling: {temperature: 0}\n", "greedy draws are all the same"},
		{"micro-batch", "engine: {micro_tokens: 100}\n", "engine.micro_tokens is 100: want 448 or more"},
		{"horizon", "spin: {epochs: 3, horizon: 2}\n", "spin.horizon is 2 epochs"},
		{"nothing", "iterations: 0\nsft: {epochs: 0}\n", "nothing to do"},
		{"size", "engine: {memory: 4GB}\n", "4GB"},
		{"stop without figures", "data: {heldout: 0}\nstop_when: {no_gain: true}\n", "needs held-out prompts"},
		{"digest", "model: {sha256: abc}\n", "model.sha256"},
		{"a share", "stop_when: {accuracy_below: 55}\n", "stop_when.accuracy_below is 55: want 0 to 1"},
	} {
		_, err := Parse("run.yaml", []byte(c.text))
		if err == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %q, want one line with %q", c.name, err, c.want)
		}
	}
}

func TestDigest(t *testing.T) {
	base := parse(t, "")
	for _, same := range []string{"name: other", "engine: {memory: 1GiB}", "retention: {last: 9}"} {
		if parse(t, same).Digest() != base.Digest() {
			t.Errorf("%s changes the digest", same)
		}
	}
	sha := strings.Repeat("a", 64)
	if parse(t, "model: {path: x, sha256: "+sha+"}").Digest() != parse(t, "model: {path: y, sha256: "+sha+"}").Digest() {
		t.Error("where the model lies changes the digest")
	}
	for _, other := range []string{"seed: 2", "spin: {beta: [0.1, 0.1]}", "sft: {epochs: 7}", "engine: {micro_tokens: 4096}", "model: {path: x}"} {
		if parse(t, other).Digest() == base.Digest() {
			t.Errorf("%s does not change the digest", other)
		}
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"0": 0, "17": 17, "2KiB": 2048, "3 MiB": 3 << 20, "4GiB": 4 << 30} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v", text, got, err)
		}
		if back, err := ParseBytes(want.String()); err != nil || back != want {
			t.Errorf("%s: printed as %s", text, want)
		}
	}
	for _, text := range []string{"", "-1", "4GB", "9999999999999GiB", "1.5GiB"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("%q: read as %d", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("preset: paper\nspin: {lr: [1e-6], beta: 0.1}\n"))
	f.Add([]byte(`{"seed": 3, "engine": {"memory": "4GiB"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("f", data)
		if err != nil {
			return
		}
		text, err := Format(s)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse("f", text)
		if err != nil || back.Digest() != s.Digest() {
			t.Fatalf("printed and read again: %v\n%s", err, text)
		}
	})
}

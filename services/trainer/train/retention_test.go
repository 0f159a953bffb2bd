package train

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/run"
)

func TestKept(t *testing.T) {
	var made []*event.Checkpoint
	for i, phase := range []event.Phase{event.Phase_PHASE_BASE, event.Phase_PHASE_SFT, event.Phase_PHASE_SPIN, event.Phase_PHASE_SPIN, event.Phase_PHASE_SPIN, event.Phase_PHASE_CONTROL} {
		made = append(made, &event.Checkpoint{Phase: phase, WeightsSha256: [...]string{"base", "0", "1", "2", "3", "control"}[i]})
	}
	all := map[string]float64{"base": 5, "0": 4, "1": 3, "2": 3.5, "3": 3.6, "control": 2}
	without := func(digests ...string) map[string]float64 {
		m := maps.Clone(all)
		for _, d := range digests {
			delete(m, d)
		}
		return m
	}
	for _, c := range []struct {
		name      string
		retention run.Retention
		control   string
		made      int
		nll       map[string]float64
		want      string
	}{
		{"the last two and the best", run.Retention{Last: 2, Best: true}, "sft", 6, all, "1 2 3 base control"},
		{"the last two", run.Retention{Last: 2}, "sft", 6, all, "2 3 base control"},
		{"the control has still to start from θ_0", run.Retention{Last: 2}, "sft", 5, all, "0 2 3 base"},
		{"no control is wanted", run.Retention{Last: 1}, "none", 5, all, "3 base"},
		{"what is not measured may be the best", run.Retention{Last: 1, Best: true}, "none", 5, without("0", "3"), "0 1 3 base"},
		{"fewer than are kept", run.Retention{Last: 2, Best: true}, "none", 2, all, "0 base"},
	} {
		spec := run.Spec{Retention: c.retention, Control: c.control, Data: run.Data{Heldout: 1}}
		got := slices.Sorted(maps.Keys(kept(spec, made[:c.made], c.nll)))
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: kept %s, want %s", c.name, s, c.want)
		}
	}
}

func TestCheckDisk(t *testing.T) {
	spec, err := run.Preset("default")
	if err != nil {
		t.Fatal(err)
	}
	small := model.Config{Vocab: 10, Hidden: 4, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 4, Intermediate: 8}
	dir := t.TempDir()
	if err := CheckDisk(spec, small, dir+"/not/there/yet"); err != nil {
		t.Errorf("a tiny model: %v", err)
	}
	huge := small
	huge.Vocab, huge.Hidden = 1<<30, 1<<20
	err = CheckDisk(spec, huge, dir)
	if err == nil || !strings.Contains(err.Error(), "the run will write") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a model of a thousand terabytes: %v", err)
	}
}

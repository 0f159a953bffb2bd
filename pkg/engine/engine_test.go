package engine_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/compute/ref"
	"github.com/seed-8780d58e/spin/pkg/engine"
	"github.com/seed-8780d58e/spin/pkg/model"
)

// random is a Source of random weights.
type random struct{ shapes map[string][]int }

func (r random) Shape(name string) ([]int, bool) { s, ok := r.shapes[name]; return s, ok }

func (r random) ReadF32(name string, dst []float32) error {
	rng := rand.New(rand.NewPCG(uint64(len(name)), uint64(name[len(name)/2])))
	for i := range dst {
		dst[i] = float32(rng.NormFloat64() * 0.5)
	}
	return nil
}

func toy(t testing.TB, dev compute.Device, dtype compute.DType) *model.Model {
	t.Helper()
	c, err := model.ParseConfig([]byte(`{"model_type":"llama","hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,
		"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":40,"rms_norm_eps":1e-5,"max_position_embeddings":96,"tie_word_embeddings":true}`))
	if err != nil {
		t.Fatal(err)
	}
	shapes := map[string][]int{"model.embed_tokens.weight": {40, 16}, "model.norm.weight": {16}}
	for l := range 2 {
		for name, s := range map[string][]int{"input_layernorm": {16}, "post_attention_layernorm": {16}, "self_attn.q_proj": {16, 16}, "self_attn.k_proj": {8, 16},
			"self_attn.v_proj": {8, 16}, "self_attn.o_proj": {16, 16}, "mlp.gate_proj": {24, 16}, "mlp.up_proj": {24, 16}, "mlp.down_proj": {16, 24}} {
			shapes[fmt.Sprintf("model.layers.%d.%s.weight", l, name)] = s
		}
	}
	m, err := model.New(dev, dev.NewBackend(), c, random{shapes}, model.Options{DType: dtype})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Free)
	return m
}

// requests are of many shapes; several begin alike.
func requests() []*engine.Request {
	rng := rand.New(rand.NewPCG(3, 4))
	system := make([]int32, 19)
	for i := range system {
		system[i] = rng.Int32N(40)
	}
	var rs []*engine.Request
	for i := range 14 {
		prompt := slices.Clone(system[:[]int{19, 8, 0}[i%3]])
		for range 1 + rng.IntN(20) {
			prompt = append(prompt, rng.Int32N(40))
		}
		rs = append(rs, &engine.Request{
			ID: fmt.Sprint(i), Prompt: prompt, Draws: 1 + i%3, MaxNew: 1 + rng.IntN(30), Stop: []int32{5, 9},
			Temperature: []float32{1, 0, 0.7}[i%3], TopP: []float32{1, 0.9}[i%2], TopK: int32(i % 4 * 5),
			Seed: 77, Iteration: 2, Index: uint32(i),
		})
	}
	return rs
}

func run(t testing.TB, e *engine.Engine, rs []*engine.Request) map[string][]engine.Answer {
	t.Helper()
	for _, r := range rs {
		if err := e.Submit(r); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string][]engine.Answer{}
	for !e.Idle() {
		done, err := e.Step()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range done {
			got[d.Request.ID] = d.Answers
		}
	}
	if len(got) != len(rs) || e.Pending() != 0 {
		t.Fatalf("%d of %d requests finished, %d pending", len(got), len(rs), e.Pending())
	}
	return got
}

// TestAnswersDependOnTheRequestAlone: the same ids whatever the batch-mates, the order of arrival,
// the page size, the rows of a step, and what the cache remembers.
func TestAnswersDependOnTheRequestAlone(t *testing.T) {
	t.Run("ref", func(t *testing.T) {
		checkAnswers(t, toy(t, ref.New(), compute.F64), toy(t, ref.New(), compute.F64), 1e-12)
	})
	for _, isa := range instructions() {
		for _, dtype := range []compute.DType{compute.F32, compute.BF16} {
			t.Run(isa+"/"+dtype.String(), func(t *testing.T) { // to the bit, logps too, on one thread and on two
				checkAnswers(t, toy(t, newCPU(t, isa, 1), dtype), toy(t, newCPU(t, isa, 2), dtype), 0)
			})
		}
	}
}

// instructions are the instruction sets of this machine, or the one that $SPIN_CPU forces.
func instructions() []string {
	if isa := os.Getenv("SPIN_CPU"); isa != "" {
		return []string{isa}
	}
	return cpu.Instructions()
}

func newCPU(t *testing.T, isa string, threads int) compute.Device {
	t.Helper()
	dev, err := cpu.New(cpu.Config{ISA: isa, Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return dev
}

// checkAnswers runs the requests one by one on alone, then together on m, whose answers must be the
// same; tol is for their logps.
func checkAnswers(t *testing.T, alone, m *model.Model, tol float64) {
	rs := requests()
	want := map[string][]engine.Answer{}
	for _, r := range rs { // one by one, each on a fresh engine
		d := alone.NewDecoder(model.DecoderConfig{Rows: 64, Sequences: 3, Pages: 12, PageTokens: 64})
		want[r.ID] = run(t, engine.New(d), []*engine.Request{r})[r.ID]
		d.Free()
	}
	for _, cfg := range []model.DecoderConfig{
		{Rows: 64, Sequences: 16, Pages: 200, PageTokens: 16},
		{Rows: 7, Sequences: 5, Pages: 40, PageTokens: 8},
		{Rows: 16, Sequences: 3, Pages: 130, PageTokens: 1},
		{Rows: 9, Sequences: 4, Pages: 60, PageTokens: 5},
	} {
		t.Run(fmt.Sprintf("%+v", cfg), func(t *testing.T) {
			d := m.NewDecoder(cfg)
			defer d.Free()
			e := engine.New(d)
			for round := range 3 { // later rounds find prompts in the cache
				shuffled := slices.Clone(rs)
				rand.New(rand.NewPCG(uint64(round), 9)).Shuffle(len(rs), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
				compare(t, run(t, e, shuffled), want, tol)
			}
			if s := e.Stats(); s.CachedTokens == 0 {
				t.Errorf("no prompt was found in the cache: %+v", s)
			}
		})
	}
}

func compare(t *testing.T, got, want map[string][]engine.Answer, tol float64) {
	t.Helper()
	for id, w := range want {
		for d := range w {
			g := got[id][d]
			if !reflect.DeepEqual(g.IDs, w[d].IDs) || g.Finish != w[d].Finish {
				t.Errorf("request %s draw %d: %v %s, want %v %s", id, d, g.IDs, g.Finish, w[d].IDs, w[d].Finish)
			}
			for i := range g.Logps {
				if diff := math.Abs(g.Logps[i] - w[d].Logps[i]); !(diff <= tol) {
					t.Errorf("request %s draw %d token %d: logp %v, want %v", id, d, i, g.Logps[i], w[d].Logps[i])
				}
			}
		}
	}
}

// TestFinish: an answer ends with a stop token where one was drawn, where OnToken says so, else at its length; draws and
// iterations differ.
func TestFinish(t *testing.T) {
	m := toy(t, ref.New(), compute.F64)
	d := m.NewDecoder(model.DecoderConfig{Rows: 32, Sequences: 8, Pages: 64, PageTokens: 8})
	defer d.Free()
	e := engine.New(d)
	base := engine.Request{ID: "a", Prompt: []int32{1, 2, 3}, Draws: 8, MaxNew: 40, Stop: []int32{5}, Temperature: 1, TopP: 1, Seed: 1}
	later := base
	later.ID, later.Iteration = "b", 1
	streamed := make([][]int32, base.Draws)
	base.OnToken = func(draw int, id int32) bool { // ends the first draw early
		streamed[draw] = append(streamed[draw], id)
		return draw > 0 || len(streamed[draw]) < 3
	}
	got := run(t, e, []*engine.Request{&base, &later})
	stops := 0
	for i, a := range got["a"] {
		stop := slices.Index(a.IDs, 5)
		switch a.Finish {
		case engine.FinishStop:
			stops++
			if stop != len(a.IDs)-1 && (i > 0 || len(a.IDs) != 3) {
				t.Errorf("draw %d stopped at %d of %d", i, stop, len(a.IDs))
			}
		case engine.FinishLength:
			if stop >= 0 || len(a.IDs) != base.MaxNew {
				t.Errorf("draw %d: %d tokens, stop at %d", i, len(a.IDs), stop)
			}
		default:
			t.Errorf("draw %d: finish %q", i, a.Finish)
		}
		if !reflect.DeepEqual(streamed[i], a.IDs) {
			t.Errorf("draw %d: streamed %v, answered %v", i, streamed[i], a.IDs)
		}
		if reflect.DeepEqual(a.IDs, got["b"][i].IDs) {
			t.Errorf("draw %d is the same in both iterations", i)
		}
	}
	if stops == 0 {
		t.Error("no answer ended with the stop token")
	}
}

func TestRefused(t *testing.T) {
	m := toy(t, ref.New(), compute.F64)
	d := m.NewDecoder(model.DecoderConfig{Rows: 32, Sequences: 4, Pages: 8, PageTokens: 8})
	defer d.Free()
	e := engine.New(d)
	ok := engine.Request{Prompt: []int32{1}, Draws: 1, MaxNew: 4, Temperature: 1, TopP: 1}
	for name, change := range map[string]func(*engine.Request){
		"empty prompt":         func(r *engine.Request) { r.Prompt = nil },
		"no draws":             func(r *engine.Request) { r.Draws = 0 },
		"too many draws":       func(r *engine.Request) { r.Draws = 5 },
		"no tokens":            func(r *engine.Request) { r.MaxNew = 0 },
		"beyond the context":   func(r *engine.Request) { r.MaxNew = 96 },
		"beyond the cache":     func(r *engine.Request) { r.Draws, r.MaxNew = 4, 30 },
		"id out of vocabulary": func(r *engine.Request) { r.Prompt = []int32{40} },
		"NaN temperature":      func(r *engine.Request) { r.Temperature = float32(math.NaN()) },
		"top_p 0":              func(r *engine.Request) { r.TopP = 0 },
		"negative top_k":       func(r *engine.Request) { r.TopK = -1 },
	} {
		r := ok
		change(&r)
		if err := e.Submit(&r); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if !e.Idle() {
		t.Error("a refused request waits")
	}
	run(t, e, []*engine.Request{&ok})
}

// TestSteadyDecodingAllocatesNothing: a step that only advances draws takes no memory.
func TestSteadyDecodingAllocatesNothing(t *testing.T) {
	for _, dtype := range []compute.DType{compute.F32, compute.BF16} {
		t.Run(dtype.String(), func(t *testing.T) {
			m := toy(t, newCPU(t, "", 2), dtype)
			d := m.NewDecoder(model.DecoderConfig{Rows: 32, Sequences: 8, Pages: 64, PageTokens: 8})
			defer d.Free()
			e := engine.New(d)
			for i := range 2 {
				r := &engine.Request{ID: fmt.Sprint(i), Prompt: []int32{1, 2, 3, 4, 5, 6, 7, 8, 9}, Draws: 4, MaxNew: 80, Temperature: 1, TopP: 0.9, TopK: 30, Seed: 1, Index: uint32(i)}
				if err := e.Submit(r); err != nil {
					t.Fatal(err)
				}
			}
			step := func() {
				if _, err := e.Step(); err != nil {
					t.Fatal(err)
				}
			}
			step()
			step()
			if n := testing.AllocsPerRun(60, step); n != 0 {
				t.Errorf("%v allocations a step", n)
			}
			if e.Pending() != 2 {
				t.Error("the requests ended before the measurement did")
			}
		})
	}
}

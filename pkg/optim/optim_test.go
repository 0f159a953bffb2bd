package optim_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/ref"
	"github.com/seed-8780d58e/spin/pkg/optim"
)

// updates is testdata/updates.json, see make_updates.py.
type updates struct {
	NoDecay    []string `json:"no_decay"`
	Rates      []float64
	Parameters map[string]struct {
		Rows, Cols int
		Start      []float64
		Grads      [][]float64
	}
	Cases []struct {
		Rule        string
		Alpha, Eps  float64
		Betas       [2]float64
		WeightDecay float64 `json:"weight_decay"`
		MaxNorm     float64 `json:"max_norm"`
		Norms       []float64
		End         map[string][]float64
		State       map[string]map[string][]float64
	}
}

func readUpdates(t *testing.T) updates {
	t.Helper()
	text, err := os.ReadFile("testdata/updates.json")
	if err != nil {
		t.Fatal(err)
	}
	var u updates
	if err := json.Unmarshal(text, &u); err != nil {
		t.Fatal(err)
	}
	return u
}

func (u updates) rule(t *testing.T, i int) compute.Optimizer {
	t.Helper()
	c := u.Cases[i]
	rule, err := optim.ParseRule(c.Rule)
	if err != nil {
		t.Fatal(err)
	}
	rule.Alpha, rule.Eps, rule.WeightDecay = c.Alpha, c.Eps, c.WeightDecay
	rule.Beta1, rule.Beta2 = c.Betas[0], c.Betas[1]
	return rule
}

// bench is the golden's parameters on a device.
type bench struct {
	backend    compute.Backend
	arena      compute.Arena
	parameters []optim.Parameter
}

func newBench(t *testing.T, u updates) *bench {
	t.Helper()
	device := ref.New()
	t.Cleanup(func() { device.Close() })
	b := &bench{backend: device.NewBackend(), arena: device.NewArena(1 << 20)}
	for _, name := range slices.Sorted(maps.Keys(u.Parameters)) {
		p := u.Parameters[name]
		master := b.arena.Alloc(compute.F64, p.Rows, p.Cols)
		grad := b.arena.Alloc(compute.F64, p.Rows, p.Cols)
		compute.Write(b.backend, master, p.Start)
		b.backend.Zero(grad)
		b.parameters = append(b.parameters, optim.Parameter{
			Name: name, Master: master, Grad: grad, NoDecay: slices.Contains(u.NoDecay, name)})
	}
	return b
}

func (b *bench) read(t *testing.T, tensor compute.Tensor) []float64 {
	t.Helper()
	v := make([]float64, tensor.Len())
	if err := compute.Read(b.backend, v, tensor); err != nil {
		t.Fatal(err)
	}
	return v
}

func (b *bench) setGrads(u updates, step int) {
	for _, p := range b.parameters {
		compute.Write(b.backend, p.Grad, u.Parameters[p.Name].Grads[step])
	}
}

func compare(t *testing.T, what string, got, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		// max_norm is an F32 on the device and 1e-6 within it rounds: not 1e-15
		if !(math.Abs(got[i]-want[i]) <= 1e-9*max(1, math.Abs(want[i]))) {
			t.Errorf("%s[%d] = %v, want %v", what, i, got[i], want[i])
		}
	}
}

// Whole steps against torch: clip_grad_norm_, then AdamW or RMSprop, in float64. Each
// case runs through and again with a checkpoint after step 2 on a fresh optimizer.
func TestAgainstTorch(t *testing.T) {
	u := readUpdates(t)
	for i, c := range u.Cases {
		for _, resumeAt := range []int{-1, 2} {
			t.Run(fmt.Sprintf("%s %d resumed at %d", c.Rule, i, resumeAt), func(t *testing.T) {
				b := newBench(t, u)
				o, err := optim.New(b.backend, b.arena, b.parameters, u.rule(t, i), c.MaxNorm)
				if err != nil {
					t.Fatal(err)
				}
				for step, rate := range u.Rates {
					if step == resumeAt {
						saved := maps.Collect(o.Moments())
						if o, err = optim.New(b.backend, b.arena, b.parameters, u.rule(t, i), c.MaxNorm); err != nil {
							t.Fatal(err)
						}
						for name, m := range o.Moments() {
							b.backend.Copy(m, saved[name])
						}
						o.Resume(step)
					}
					b.setGrads(u, step)
					norm, err := o.Step(rate)
					if err != nil {
						t.Fatal(err)
					}
					compare(t, fmt.Sprintf("norm of step %d", step+1), []float64{norm}, c.Norms[step:step+1])
				}
				if o.Steps() != len(u.Rates) {
					t.Errorf("%d steps, want %d", o.Steps(), len(u.Rates))
				}
				state := maps.Collect(o.Moments())
				for _, p := range b.parameters {
					compare(t, p.Name, b.read(t, p.Master), c.End[p.Name])
					compare(t, "gradient of "+p.Name, b.read(t, p.Grad), make([]float64, p.Grad.Len()))
					for moment, want := range c.State[p.Name] {
						name := p.Name + "." + moment
						if state[name].Absent() {
							t.Fatalf("no moment %s", name)
						}
						compare(t, name, b.read(t, state[name]), want)
					}
				}
			})
		}
	}
}

// A step whose gradient is not finite changes nothing but the gradients.
func TestNotFinite(t *testing.T) {
	u := readUpdates(t)
	for _, bad := range []float64{math.NaN(), math.Inf(1)} {
		b := newBench(t, u)
		o, err := optim.New(b.backend, b.arena, b.parameters, optim.RMSProp(), 1)
		if err != nil {
			t.Fatal(err)
		}
		b.setGrads(u, 0)
		spoilt := slices.Clone(u.Parameters[b.parameters[0].Name].Grads[0])
		spoilt[2] = bad
		compute.Write(b.backend, b.parameters[0].Grad, spoilt)
		if _, err := o.Step(1e-2); !errors.Is(err, optim.ErrNotFinite) {
			t.Errorf("gradient %v: %v", bad, err)
		}
		if o.Steps() != 0 {
			t.Errorf("%d steps counted", o.Steps())
		}
		for name, m := range o.Moments() {
			compare(t, name, b.read(t, m), make([]float64, m.Len()))
		}
		for _, p := range b.parameters {
			compare(t, p.Name, b.read(t, p.Master), u.Parameters[p.Name].Start)
			compare(t, "gradient of "+p.Name, b.read(t, p.Grad), make([]float64, p.Grad.Len()))
		}
	}
}

func TestNewRefuses(t *testing.T) {
	u := readUpdates(t)
	b := newBench(t, u)
	for name, try := range map[string]func() error{
		"negative norm": func() error {
			_, err := optim.New(b.backend, b.arena, b.parameters, optim.AdamW(), -1)
			return err
		},
		"no parameters": func() error {
			_, err := optim.New(b.backend, b.arena, nil, optim.AdamW(), 1)
			return err
		},
		"no constants": func() error {
			_, err := optim.New(b.backend, b.arena, b.parameters, compute.Optimizer{}, 1)
			return err
		},
	} {
		if try() == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestStepDoesNotAllocate(t *testing.T) {
	u := readUpdates(t)
	b := newBench(t, u)
	o, err := optim.New(b.backend, b.arena, b.parameters, optim.RMSProp(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(20, func() {
		if _, err := o.Step(1e-3); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a step", n)
	}
}

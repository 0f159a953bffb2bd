package ref_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

// golden is PyTorch's word on one operation: testdata/make_goldens.py.
type golden struct {
	*lab
	values map[string][]float64
}

func openGolden(t *testing.T, name string) golden {
	t.Helper()
	b, err := os.ReadFile("testdata/goldens.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string][]float64
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	return golden{newLab(t), all[name]}
}

func (g golden) in(name string, rows int) compute.Tensor {
	x := g.zeros(rows, len(g.values[name])/rows)
	g.set(x, g.values[name])
	return x
}

func (g golden) want(name string, got compute.Tensor, from int) {
	g.t.Helper()
	for i, v := range g.get(got) {
		if w := g.values[name][from+i]; !(math.Abs(v-w) <= 1e-11*max(1, math.Abs(w))) {
			g.t.Errorf("%s[%d] = %v, PyTorch says %v", name, from+i, v, w)
		}
	}
}

func TestAddRMSNormGolden(t *testing.T) {
	g := openGolden(t, "rmsnorm")
	y, rstd := g.zeros(3, 6), g.zeros(3, 1)
	const eps = 1e-5 // F32 in the contract: 1e-5·(1 ± 6e-8)
	g.AddRMSNorm(y, rstd, g.in("x", 3), g.in("delta", 3), g.in("w", 1), eps)
	g.want("y", y, 0)
}

func TestSwiGLUGolden(t *testing.T) {
	g := openGolden(t, "swiglu")
	y := g.zeros(2, 5)
	g.SwiGLU(y, g.in("gate", 2), g.in("up", 2))
	g.want("y", y, 0)
}

func TestRoPEGolden(t *testing.T) {
	g := openGolden(t, "rope")
	cos, sin := make([]float64, 12*4), make([]float64, 12*4)
	for i := range cos {
		sin[i], cos[i] = math.Sincos(float64(i/4) * math.Pow(10000, -float64(i%4)/4))
	}
	c, s, x := g.zeros(12, 4), g.zeros(12, 4), g.in("x", 3)
	g.set(c, cos)
	g.set(s, sin)
	g.RoPE(x, g.ints(0, 3, 11), c, s, 8, false)
	g.want("y", x, 0)
}

func TestAttentionGolden(t *testing.T) {
	g := openGolden(t, "attention")
	h := compute.Heads{Q: 4, KV: 2, Dim: 4, Window: 5, Scale: 0.5}
	p := g.NewPlan(9, 3, 0)
	p.Set(compute.Layout{Start: []int32{0, 4, 7, 9}, Parent: []int32{-1, 0, 0}, Pos: []int32{0, 1, 2, 3, 4, 5, 6, 4, 5}})
	q, k, v, y, lse := g.in("q", 9), g.in("k", 9), g.in("v", 9), g.zeros(9, 16), g.zeros(9, 4)
	g.Attention(y, lse, q, k, v, h, p)
	g.want("y", y, 0)
	dq, dk, dv := g.zeros(9, 16), g.zeros(9, 8), g.zeros(9, 8)
	g.AttentionBackward(dq, dk, dv, g.in("dy", 9), y, lse, q, k, v, h, p)
	g.want("dq", dq, 0)
	g.want("dk", dk, 0)
	g.want("dv", dv, 0)
}

func TestHeadLogProbGolden(t *testing.T) {
	g := openGolden(t, "head")
	w, x, rows, target := g.weight(g.in("w", 5)), g.in("x", 2), g.ints(1, 0, 1), g.ints(4, 2, 0)
	logp, lse, entropy := g.zeros(3, 1), g.zeros(3, 1), g.zeros(3, 1)
	g.HeadLogProb(logp, lse, entropy, compute.Tensor{}, x, rows, target, w)
	g.want("logp", logp, 0)
	g.want("entropy", entropy, 0)
	dx, dw := g.zeros(2, 3), g.zeros(5, 3)
	g.HeadLogProbBackward(dx, dw, g.in("coef", 3), lse, x, rows, target, w)
	g.want("dx", dx, 0)
	g.want("dw", dw, 0)
}

func TestOptimizeGolden(t *testing.T) {
	for name, rule := range map[string]compute.Optimizer{
		"rmsprop": {Kind: compute.RMSProp, LR: 1e-2, Alpha: 0.9, Eps: 1e-8, WeightDecay: 0.1},
		"adamw":   {Kind: compute.AdamW, LR: 1e-2, Beta1: 0.8, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1},
	} {
		g := openGolden(t, name)
		master, grads, sum, clip := g.in("start", 1), g.in("grads", 3), g.zeros(1, 1), g.zeros(1, 1)
		state := []compute.Tensor{g.zeros(1, 6), g.zeros(1, 6)}
		if rule.Kind == compute.RMSProp {
			state = state[:1]
		}
		for step := range 3 {
			rule.Step = step + 1
			grad := grads.Slice(step, step+1)
			g.Zero(sum)
			g.SumSquares(sum, grad)
			g.ClipFactor(clip, sum, 1)
			g.Optimize(nil, master, grad, state, clip, rule)
			g.want("after", master, 6*step)
		}
	}
}

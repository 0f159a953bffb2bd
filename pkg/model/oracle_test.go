package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
)

// TestCPUIsRef holds the CPU's logps and gradients to the float64 oracle's, for every kind of model,
// full and LoRA. F32: the figures that goldens are held to (|Δ logp| ≤ 1e-4 + 1e-4·|want|, gradients
// 1e-3 of the tensor's largest, norms 2e-4). BF16 rounds each activation, some forty one after
// another in two layers there and back, to 2⁻⁸ of itself, and such errors add up like √n: the mean
// |Δ logp| and ‖Δ‖/‖g‖ of the whole gradient stay under √40·2⁻⁸ = 0.025, and no tensor's own is over
// five times that, where its parts cancel (a key's bias has no effect but by its rotation).
func TestCPUIsRef(t *testing.T) {
	families := toys()
	if !testing.Short() { // which is meant for a CPU that is emulated
		families["wide"] = wide()
	}
	for name, c := range families {
		for _, opt := range []Options{{Full: true}, {LoRA: allProjections(3)}} {
			trees := toyTrees()
			if c.Vocab > 1000 {
				trees = randomTrees(rand.New(rand.NewPCG(9, 10)), 5, c.Vocab)
			}
			oracle := refModel(t, c, opt)
			perturbB(t, oracle)
			wantLogps, wantGrads := passOver(t, oracle, trees)
			for _, isa := range instructions() {
				for _, dtype := range []compute.DType{compute.F32, compute.BF16} {
					t.Run(fmt.Sprintf("%s/lora=%v/%s/%v", name, opt.LoRA != nil, isa, dtype), func(t *testing.T) {
						dev, err := cpu.New(cpu.Config{Threads: 2, ISA: isa})
						must(t, err)
						defer dev.Close()
						opt := opt
						opt.DType = dtype
						m, err := New(dev, dev.NewBackend(), c, newRandomSource(c, 7), opt)
						must(t, err)
						defer m.Free()
						perturbB(t, m)
						gotLogps, gotGrads := passOver(t, m, trees)
						if dtype == compute.F32 {
							checkLogps(t, 0, name, gotLogps, wantLogps, 1e-4)
							for weight, want := range wantGrads {
								closeGrad(t, weight, gotGrads[weight], want)
							}
							return
						}
						mean, delta, norm := 0.0, 0.0, 0.0
						for i := range wantLogps {
							mean += math.Abs(gotLogps[i]-wantLogps[i]) / float64(len(wantLogps))
						}
						worst, where := 0.0, ""
						for weight, want := range wantGrads {
							d, n := distance(gotGrads[weight], want), distance(want, make([]float32, len(want)))
							delta, norm = delta+d*d, norm+n*n
							if !(d/n <= worst) {
								worst, where = d/n, weight
							}
						}
						whole := math.Sqrt(delta / norm)
						const tol = 0.025
						if !(mean <= tol) || !(whole <= tol) || !(worst <= 5*tol) {
							t.Errorf("want at most %v, %v and %v", tol, tol, 5*tol)
						}
						t.Logf("mean |Δ logp| %.4f; ‖Δ‖/‖gradient‖ %.4f, at most %.4f (%s)", mean, whole, worst, strings.TrimSuffix(where, ".weight"))
					})
				}
			}
		}
	}
}

func passOver(t *testing.T, m *Model, trees []Tree) ([]float64, map[string][]float32) {
	t.Helper()
	b := pack(t, trees)
	p := m.NewPass(PassConfig{Tokens: b.Tokens(), Targets: len(b.Targets), Backward: true})
	defer p.Free()
	return logps(t, p, b), gradients(t, m, [][]Tree{trees}, 0)
}

func closeGrad(t *testing.T, name string, got, want []float32) {
	t.Helper()
	largest, off := 0.0, 0.0
	for i, w := range want {
		largest = max(largest, math.Abs(float64(w)))
		off = max(off, math.Abs(float64(got[i])-float64(w)))
	}
	zero := make([]float32, len(want))
	if norm := distance(want, zero); !(off <= 1e-3*largest) || !(math.Abs(distance(got, zero)-norm) <= 2e-4*norm) {
		t.Errorf("%s: the gradient is off by %v of at most %v; norm %v, want %v", name, off, largest, distance(got, zero), norm)
	}
}

// distance is the Euclidean norm of a − b.
func distance(a, b []float32) float64 {
	square := 0.0
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		square += d * d
	}
	return math.Sqrt(square)
}

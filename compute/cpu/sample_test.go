package cpu

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// newSampleRow prepares z as do does.
func newSampleRow(k *vectorKernels, z []float32, temperature float32) (s sampleRow, top float32) {
	v := len(z)
	s = sampleRow{k: k, z: z, e: make([]float32, v), tops: make([]float32, parts(v, sampleChunk)), sums: make([]float32, parts(v, sampleChunk)),
		id: make([]int32, v), cz: make([]float32, v), ce: make([]float32, v)}
	top = s.largest()
	s.exponentials(top, temperature)
	return s, top
}

// The thresholds of top-k and top-p against a sort, on rows of few and many ids, peaked, flat, with
// ties and with logits of −Inf.
func TestSampleThresholds(t *testing.T) {
	shapes := map[string]func(r *rand.Rand, i int) float64{
		"normal": func(r *rand.Rand, _ int) float64 { return 3 * r.NormFloat64() },
		"flat":   func(r *rand.Rand, _ int) float64 { return 0.01 * r.NormFloat64() },
		"peaked": func(r *rand.Rand, i int) float64 { return r.NormFloat64() + 15*float64(1&(1/(1+i%97))) },
		"ties":   func(r *rand.Rand, _ int) float64 { return float64(r.IntN(5)) },
		"equal":  func(*rand.Rand, int) float64 { return 1 },
		"masked": func(r *rand.Rand, i int) float64 {
			if i%3 > 0 {
				return math.Inf(-1)
			}
			return r.NormFloat64()
		},
	}
	for _, isa := range Instructions() {
		k := newVectorKernels(isa)
		r := rand.New(rand.NewPCG(15, 16))
		for name, shape := range shapes {
			for _, v := range []int{1, 2, 7, 300, 5000, 20011} {
				z := make([]float32, v)
				for i := range z {
					z[i] = float32(shape(r, i))
				}
				z[r.IntN(v)] = 5
				temperature := float32(0.3 + r.Float64())
				s, top := newSampleRow(&k, z, temperature)
				falling := slices.Clone(z)
				slices.SortFunc(falling, func(a, b float32) int { return cmp.Compare(b, a) })
				for range 6 {
					least := float32(math.Inf(-1))
					if topK := 1 + r.IntN(v); topK < v && r.IntN(2) == 0 {
						if least = s.kthLargest(topK); least != falling[topK-1] {
							t.Fatalf("%s %s: V %d: largest %d is %v, want %v", isa, name, v, topK, least, falling[topK-1])
						}
					}
					topP := []float64{0.001, 0.5, 0.9, 0.95, 0.999}[r.IntN(5)]
					x := s.nucleus(top, temperature, least, topP)
					var above, with, total float64
					for _, z := range z {
						p := math.Exp(float64(z-top) / float64(temperature))
						if z >= least {
							total += p
						}
						if z > x {
							above += p
						}
						if z >= x {
							with += p
						}
					}
					// Enough are kept, and without the last ones it would be too few.
					if eps := 1e-5 * total; !(x >= least && with >= topP*total-eps && above <= topP*total+eps) || !slices.Contains(z, x) {
						t.Fatalf("%s %s: V %d, least %v, top-p %v: nucleus from %v holds %v, above it %v", isa, name, v, least, topP, x, with/total, above/total)
					}
				}
			}
		}
	}
}

// Draws follow the kept probabilities: u sweeps (0, 1), and each id is drawn over an interval of
// its probability.
func TestSampleDraws(t *testing.T) {
	for _, isa := range Instructions() {
		k := newVectorKernels(isa)
		r := rand.New(rand.NewPCG(17, 18))
		const v, sweep = 700, 3000
		z := make([]float32, v)
		for i := range z {
			z[i] = float32(2 * r.NormFloat64())
		}
		for _, c := range []struct {
			topK int
			topP float32
		}{{0, 1}, {40, 1}, {0, 0.8}, {100, 0.9}, {v, 1}, {1, 1}} {
			s, top := newSampleRow(&k, z, 1)
			least := float32(math.Inf(-1))
			if c.topK > 0 && c.topK < v {
				least = s.kthLargest(c.topK)
			}
			if c.topP < 1 {
				least = s.nucleus(top, 1, least, float64(c.topP))
			}
			want, total := make([]float64, v), 0.0
			for i, x := range z {
				if x >= least {
					want[i] = math.Exp(float64(x - top))
					total += want[i]
				}
			}
			got, last := make([]float64, v), 0
			for i := range sweep {
				id := s.draw(top, 1, c.topK, c.topP, (float64(i)+0.5)/sweep)
				if id < last {
					t.Fatalf("%s %+v: id %d after %d", isa, c, id, last)
				}
				last = id
				got[id] += 1.0 / sweep
			}
			for i := range want {
				if !(math.Abs(got[i]-want[i]/total) <= 1.01/sweep) {
					t.Fatalf("%s %+v: id %d drawn %v of the time, want %v", isa, c, i, got[i], want[i]/total)
				}
			}
		}
	}
}

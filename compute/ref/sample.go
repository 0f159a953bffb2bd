package ref

import (
	"cmp"
	"math"
	"slices"

	"github.com/seed-8780d58e/spin/compute"
)

func (b *backend) Sample(ids, logp, logits compute.Tensor, s *compute.Sampling) {
	compute.CheckSample(ids, logp, logits, s)
	within("Sample", "vocabulary", logits.Cols, b.limits.Vocab)
	for i := range logits.Rows {
		z := b.row(logits, i)
		lse, top := logSumExp(z)
		if math.IsNaN(lse) || math.IsInf(z[top], 0) {
			b.ints(ids, i)[0], b.row(logp, i)[0] = -1, math.NaN()
			continue
		}
		id := top
		if t := b.row(s.Temperature, i)[0]; t > 0 {
			c, k := b.ints(s.Counter, i), b.ints(s.Key, i)
			u := compute.Uniform([4]uint32{uint32(c[0]), uint32(c[1]), uint32(c[2]), uint32(c[3])}, [2]uint32{uint32(k[0]), uint32(k[1])})
			id = draw(kept(z, t, int(b.ints(s.TopK, i)[0]), b.row(s.TopP, i)[0]), u)
		}
		b.ints(ids, i)[0], b.row(logp, i)[0] = int32(id), z[id]-lse
	}
}

// kept is exp of z/temperature, up to a factor, and 0 where top-k or top-p cut.
func kept(z []float64, temperature float64, topK int, topP float64) []float64 {
	p := make([]float64, len(z))
	top := slices.Max(z)
	for v := range p {
		p[v] = math.Exp((z[v] - top) / temperature)
	}
	falling := slices.Clone(z)
	slices.SortFunc(falling, func(a, b float64) int { return cmp.Compare(b, a) })
	least := falling[len(z)-1]
	if topK > 0 && topK < len(z) {
		least = falling[topK-1]
	}
	if topP < 1 {
		var total, sum float64
		for v := range z {
			if z[v] >= least {
				total += p[v]
			}
		}
		for _, x := range falling {
			if sum += math.Exp((x - top) / temperature); x < least || sum >= topP*total {
				least = max(x, least)
				break
			}
		}
	}
	for v := range z {
		if z[v] < least {
			p[v] = 0
		}
	}
	return p
}

// draw is the first index at which the cumulative share of p exceeds u < 1.
func draw(p []float64, u float64) int {
	var total, sum float64
	for _, x := range p {
		total += x
	}
	for v, x := range p {
		if sum += x; sum/total > u {
			return v
		}
	}
	panic("unreachable: sum reaches total")
}

package computetest

import (
	"math"
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

// draws are rows to sample.
type draws struct {
	logits                  values
	key, counter            values
	temperature, topP, topK values
}

func (l *lab) draws(n, vocab int) draws {
	word := func(int) float64 { return float64(int32(l.rand.Uint32())) }
	return draws{
		logits:  normal(l.rand, compute.F32, n, vocab, 3),
		key:     fill(compute.I32, n, 2, word),
		counter: fill(compute.I32, n, 4, word),
		temperature: fill(compute.F32, n, 1, func(int) float64 {
			return []float64{0, 0.1, 0.7, 1, 1, 1.5, 5}[l.rand.IntN(7)]
		}),
		topP: fill(compute.F32, n, 1, func(int) float64 {
			return []float64{1, 1, 0.95, 0.9, 0.5, 0.05, 1e-6}[l.rand.IntN(7)]
		}),
		topK: fill(compute.I32, n, 1, func(int) float64 {
			return float64([]int{0, 0, 0, 1, 2, 40, vocab, vocab + 3}[l.rand.IntN(8)])
		}),
	}
}

// op's results are ids and logp.
func (d draws) op(c *call) {
	n := d.logits.rows
	ids, logp := c.outRows("ids", zeros(compute.I32, n, 1), 0), c.outRows("logp", zeros(compute.F32, n, 1), d.logits.cols+16)
	c.b.Sample(ids, logp, c.inRows("logits", d.logits), &compute.Sampling{
		Key: c.inRows("key", d.key), Counter: c.inRows("counter", d.counter),
		Temperature: c.inRows("temperature", d.temperature), TopP: c.inRows("top-p", d.topP), TopK: c.inRows("top-k", d.topK),
	})
}

func testSample(l *lab) {
	for _, s := range [][2]int{{3, 1}, {50, 2}, {100, 17}, {100, 300}, {40, 1000}, {8, 32003}, {1 + l.rand.IntN(60), l.upTo(3000)}} {
		d := l.draws(s[0], s[1])
		if s[1] > 16 { // ties, and tokens that a mask forbids
			for i := range s[0] {
				row := d.logits.row(i)
				if i%3 == 0 {
					for j, v := range row {
						row[j] = math.Round(v)
					}
				}
				for range i % 5 {
					row[l.rand.IntN(len(row))] = math.Inf(-1)
				}
			}
		}
		l.checkDraws(d)
	}
	l.Run("edges", func(t *testing.T) { l.on(t).sampleEdges() })
	l.Run("frequencies", func(t *testing.T) { l.on(t).sampleFrequencies() })
}

// checkDraws is lab.check, with ids held against the definition of Sampling.
func (l *lab) checkDraws(d draws) []int {
	l.Helper()
	all := upto(d.logits.rows)
	base := l.one.run(l, all, d.op)
	ids := base[0].got
	for i := range all {
		id := int(ids.v[i])
		if why := d.refuse(i, id); why != "" {
			l.Errorf("row %d of %v logits, temperature %v, top-p %v, top-k %v: drew %d: %s",
				i, d.logits.cols, d.temperature.v[i], d.topP.v[i], d.topK.v[i], id, why)
			continue
		}
		if id < 0 {
			continue
		}
		lse, _ := logSumExp(d.logits.row(i))
		want := d.logits.row(i)[id] - lse
		if tol := 4 * epsilon(compute.F32) * math.Sqrt(float64(d.logits.cols+16)) * max(1, math.Abs(want)); !(math.Abs(base[1].got.v[i]-want) <= tol) {
			l.Errorf("row %d: logp of %d is %v, want %v ± %.3g", i, id, base[1].got.v[i], want, tol)
		}
	}
	l.same("on several threads", base, l.many.run(l, all, d.op), nil)
	for _, sel := range l.selections(d.logits.rows) {
		l.same("in another batch", base, l.one.run(l, sel, d.op), sel)
	}
	return convert(ids.v, func(v float64) int { return int(v) })
}

func logSumExp(z []float64) (lse, top float64) {
	top = slices.Max(z)
	var sum float64
	for _, v := range z {
		sum += math.Exp(v - top)
	}
	return top + math.Log(sum), top
}

// refuse says why row i cannot have drawn id, or "". Where u or a cut lies within slack of a border,
// both sides are right: cumulative probabilities of an F32 machine are that far off.
func (d draws) refuse(i, id int) string {
	const slack = 2e-5
	z, temperature := d.logits.row(i), d.temperature.v[i]
	lse, top := logSumExp(z)
	if math.IsNaN(lse) || math.IsInf(top, 0) {
		if id != -1 {
			return "row without a distribution must give -1"
		}
		return ""
	}
	if id < 0 || id >= len(z) {
		return "no such token"
	}
	if temperature == 0 {
		if id != slices.Index(z, top) {
			return "not the first of the largest"
		}
		return ""
	}
	p := convert(z, func(v float64) float64 { return math.Exp((v - top) / temperature) })
	falling := slices.Clone(z)
	slices.Sort(falling)
	slices.Reverse(falling)
	least := falling[len(z)-1]
	if k := int(d.topK.v[i]); k > 0 && k < len(z) {
		least = falling[k-1]
	}
	if z[id] < least {
		return "cut by top-k"
	}
	c := compute.Uniform(
		[4]uint32{word(d.counter.row(i)[0]), word(d.counter.row(i)[1]), word(d.counter.row(i)[2]), word(d.counter.row(i)[3])},
		[2]uint32{word(d.key.row(i)[0]), word(d.key.row(i)[1])})
	// Any cut within slack of top-p may be the machine's: id is right if it is for one of them.
	var total float64
	for v := range z {
		if z[v] >= least {
			total += p[v]
		}
	}
	var sum float64
	why := "cut by top-p"
	for j := 0; j < len(falling) && falling[j] >= least; {
		at := falling[j]
		for ; j < len(falling) && falling[j] == at; j++ {
			sum += math.Exp((at - top) / temperature)
		}
		last := j == len(falling) || falling[j] < least
		share := sum / total
		if d.topP.v[i] < 1 && share < d.topP.v[i]-slack && !last || d.topP.v[i] >= 1 && !last {
			continue
		}
		if z[id] >= at {
			var below float64
			for v := range id {
				if z[v] >= at {
					below += p[v]
				}
			}
			if from, to := below/sum-slack, (below+p[id])/sum+slack; from <= c && c <= to {
				return ""
			}
			why = "u lies elsewhere"
		}
		if share > d.topP.v[i]+slack {
			break
		}
	}
	return why
}

func word(v float64) uint32 { return uint32(int32(v)) }

// sampleEdges are rows whose result is known.
func (l *lab) sampleEdges() {
	inf, nan := math.Inf(1), math.NaN()
	for _, tt := range []struct {
		name              string
		logits            []float64
		temperature, topP float64
		topK, want        int
	}{
		{"greedy", []float64{0, 3, 1, 2}, 0, 1, 0, 1},
		{"greedy tie", []float64{0, 3, 3, 3}, 0, 1, 0, 1},
		{"greedy ignores cuts", []float64{0, 3, 1, 2}, 0, 0.1, 2, 1},
		{"top-k 1", []float64{0, 1, 5, 2}, 2, 1, 1, 2},
		{"tiny top-p", []float64{0, 1, 1.5, 1}, 1, 1e-6, 0, 2},
		{"tiny temperature", []float64{0, 1, 1.5, 1}, 1e-4, 1, 0, 2},
		{"one token", []float64{-7}, 1, 1, 0, 0},
		{"all but one masked", []float64{-inf, -inf, -3, -inf}, 1, 1, 0, 2},
		{"top-k after a mask", []float64{-inf, -inf, -3, -inf}, 1, 0.9, 3, 2},
		{"NaN", []float64{0, nan, 1, 2}, 1, 1, 0, -1},
		{"NaN first", []float64{nan, 0, 1, 2}, 1, 0.9, 2, -1},
		{"NaN, greedy", []float64{0, 1, 2, nan}, 0, 1, 0, -1},
		{"all masked", []float64{-inf, -inf, -inf}, 1, 1, 0, -1},
		{"all masked, greedy", []float64{-inf, -inf, -inf}, 0, 1, 0, -1},
		{"infinite", []float64{0, inf, 1}, 1, 1, 0, -1},
		{"infinite, greedy", []float64{0, inf, 1}, 0, 1, 0, -1},
	} {
		const n = 5
		d := l.draws(n, len(tt.logits))
		d.logits = fill(compute.F32, n, len(tt.logits), func(i int) float64 { return tt.logits[i%len(tt.logits)] })
		d.temperature = fill(compute.F32, n, 1, func(int) float64 { return tt.temperature })
		d.topP = fill(compute.F32, n, 1, func(int) float64 { return tt.topP })
		d.topK = fill(compute.I32, n, 1, func(int) float64 { return float64(tt.topK) })
		for _, id := range l.checkDraws(d) {
			if id != tt.want {
				l.Errorf("%s: drew %d, want %d", tt.name, id, tt.want)
			}
		}
	}
}

// sampleFrequencies draws at many counters and compares the counts with the probabilities by
// Pearson's chi-square; the bound is the 1 − 1e-9 quantile's approximation by Wilson and Hilferty.
func (l *lab) sampleFrequencies() {
	const vocab, n, rounds = 12, 400, 20
	for _, tt := range []struct {
		temperature, topP float64
		topK              int
	}{{1, 1, 0}, {0.7, 1, 0}, {2, 0.8, 0}, {1, 1, 5}, {1.3, 0.9, 7}} {
		row := normal(l.rand, compute.F32, 1, vocab, 1)
		counts := make([]float64, vocab)
		for round := range rounds {
			d := l.draws(n, vocab)
			d.logits = fill(compute.F32, n, vocab, func(i int) float64 { return row.v[i%vocab] })
			d.key = fill(compute.I32, n, 2, func(i int) float64 { return float64(i % 2) })
			d.counter = fill(compute.I32, n, 4, func(i int) float64 { return []float64{0, float64(round), 0, float64(i / 4)}[i%4] })
			d.temperature = fill(compute.F32, n, 1, func(int) float64 { return tt.temperature })
			d.topP = fill(compute.F32, n, 1, func(int) float64 { return tt.topP })
			d.topK = fill(compute.I32, n, 1, func(int) float64 { return float64(tt.topK) })
			for _, id := range l.one.run(l, upto(n), d.op)[0].got.v {
				counts[int(id)]++
			}
		}
		p := keptShares(row.v, tt.temperature, tt.topK, tt.topP)
		var chi, free float64
		for v, share := range p {
			want := share * n * rounds
			if want == 0 {
				if counts[v] != 0 {
					l.Errorf("%+v: drew %d, which is cut", tt, v)
				}
				continue
			}
			chi += (counts[v] - want) * (counts[v] - want) / want
			free++
		}
		free--
		bound := free * math.Pow(1-2/(9*free)+6*math.Sqrt(2/(9*free)), 3)
		if !(chi <= bound) {
			l.Errorf("%+v: chi-square %.1f with %v degrees of freedom, bound %.1f: counts %v", tt, chi, free, bound, counts)
		}
	}
}

// keptShares are the probabilities that are left, by removing the least probable token again and
// again. It is for rows without ties.
func keptShares(z []float64, temperature float64, topK int, topP float64) []float64 {
	p := convert(z, func(v float64) float64 { return math.Exp(v / temperature) })
	normalise := func() {
		var total float64
		for _, v := range p {
			total += v
		}
		for i := range p {
			p[i] /= total
		}
	}
	left := len(p)
	least := func() (i int, share float64) {
		i = -1
		for j, v := range p {
			if v > 0 && (i < 0 || v < p[i]) {
				i = j
			}
		}
		return i, p[i]
	}
	for ; topK > 0 && left > topK; left-- {
		i, _ := least()
		p[i] = 0
	}
	normalise()
	for sum := 1.0; left > 1; left-- {
		i, share := least()
		if sum -= share; sum < topP {
			break
		}
		p[i] = 0
	}
	normalise()
	return p
}

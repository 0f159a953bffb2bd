package evaluate

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// figure is one metric over n examples, with its standard error and its 95 % interval. Where an error
// is not estimated it is 0, and the interval is the value.
type figure struct {
	metric    string
	value     float64
	stderr    float64
	n         int
	low, high float64
}

// tally collects a figure Σ values / Σ weights, example by example. Examples of one game stand and fall
// together: the bootstrap draws games.
type tally struct {
	values, weights []float64
	games           []int
}

// add takes an example of a game; a mean has weights of 1, a figure a token those of the tokens.
func (t *tally) add(game int, value, weight float64) {
	t.values, t.weights, t.games = append(t.values, value), append(t.weights, weight), append(t.games, game)
}

// figure is the tally's. The standard error is that of a ratio's linearisation (Cochran, Sampling
// Techniques, 2.30), which for a mean is s/√n; 0 with fewer than two examples. The interval is the
// bootstrap's.
func (t *tally) figure(metric string, b *bootstrap) figure {
	f := figure{metric: metric, n: len(t.values)}
	s, w := 0.0, 0.0
	for i := range t.values {
		s, w = s+t.values[i], w+t.weights[i]
	}
	if w == 0 {
		return f
	}
	f.value = s / w
	if n := float64(len(t.values)); n > 1 {
		square := 0.0
		for i := range t.values {
			d := t.values[i] - f.value*t.weights[i]
			square += d * d
		}
		f.stderr = math.Sqrt(square/(n-1)*n) / w
	}
	f.low, f.high = b.ratio(t, f.value)
	return f
}

// percentiles are those of the values, by nearest rank. They have intervals and no standard error.
func (t *tally) percentiles(metric string, b *bootstrap, shares map[string]float64) []figure {
	order := make([]int, len(t.values))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(t.values[i], t.values[j]) })
	var out []figure
	for _, suffix := range slices.SortedFunc(keys(shares), func(a, b string) int { return cmp.Compare(shares[a], shares[b]) }) {
		f := figure{metric: metric + "_" + suffix, n: len(order)}
		if len(order) > 0 {
			rank := int(math.Ceil(shares[suffix]*float64(len(order)))) - 1
			f.value = t.values[order[max(rank, 0)]]
			f.low, f.high = b.percentile(t, order, shares[suffix], f.value)
		}
		out = append(out, f)
	}
	return out
}

func keys(m map[string]float64) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// resamples and the seed of the bootstrap: fixed, so that the same scores have the same intervals.
const (
	resamples     = 1000
	bootstrapSeed = 1
)

// bootstrap is the percentile bootstrap over games (Efron and Tibshirani, An Introduction to the
// Bootstrap, chapter 13): every figure of a set of games is taken from the same resamples.
type bootstrap struct{ counts [][]uint16 } // of each resample, how often each game is in it

func newBootstrap(games int) *bootstrap {
	b := &bootstrap{}
	if games < 2 {
		return b
	}
	random := rand.New(rand.NewPCG(bootstrapSeed, uint64(games)))
	for range resamples {
		counts := make([]uint16, games)
		for range games {
			counts[random.IntN(games)]++
		}
		b.counts = append(b.counts, counts)
	}
	return b
}

// interval holds the middle 95 % of f over the resamples that it has a value on.
func (b *bootstrap) interval(value float64, f func(counts []uint16) float64) (low, high float64) {
	found := make([]float64, 0, len(b.counts))
	for _, counts := range b.counts {
		if x := f(counts); !math.IsNaN(x) {
			found = append(found, x)
		}
	}
	if len(found) == 0 {
		return value, value
	}
	slices.Sort(found)
	at := func(share float64) float64 { return found[int(math.Round(share*float64(len(found)-1)))] }
	return at(0.025), at(0.975)
}

func (b *bootstrap) ratio(t *tally, value float64) (low, high float64) {
	if len(b.counts) == 0 {
		return value, value
	}
	values, weights := make([]float64, len(b.counts[0])), make([]float64, len(b.counts[0]))
	for i, g := range t.games {
		values[g], weights[g] = values[g]+t.values[i], weights[g]+t.weights[i]
	}
	return b.interval(value, func(counts []uint16) float64 {
		s, w := 0.0, 0.0
		for g, c := range counts {
			s, w = s+float64(c)*values[g], w+float64(c)*weights[g]
		}
		return s / w
	})
}

// percentile is a share's interval; order sorts the tally's values.
func (b *bootstrap) percentile(t *tally, order []int, share, value float64) (low, high float64) {
	return b.interval(value, func(counts []uint16) float64 {
		total := 0
		for _, g := range t.games {
			total += int(counts[g])
		}
		rank, passed := int(math.Ceil(share*float64(total))), 0
		for _, i := range order {
			if passed += int(counts[t.games[i]]); passed > 0 && passed >= rank {
				return t.values[i]
			}
		}
		return math.NaN()
	})
}

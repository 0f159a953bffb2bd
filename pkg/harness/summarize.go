package harness

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// Score is a figure over all questions of a task.
type Score struct {
	Metric string // as lm-eval names it, with the filter: acc_norm,none
	Value  float64
	Stderr float64 // NaN with fewer than two questions
	N      int
}

// Summarize is lm-eval's aggregation: means with the sample's standard error; of perplexities the exponential of the mean
// loss a word or byte, with a bootstrapped standard error.
func Summarize(verdicts []Verdict) []Score {
	var out []Score
	if len(verdicts) == 0 {
		return nil
	}
	for _, metric := range slices.Sorted(maps.Keys(verdicts[0].Values)) {
		values := make([]float64, len(verdicts))
		weights := make([]float64, len(verdicts))
		for i, v := range verdicts {
			values[i], weights[i] = v.Values[metric], v.Weights[metric]
		}
		s := Score{Metric: metric, N: len(values)}
		if verdicts[0].Weights != nil {
			s.Value = perplexity(metric, values, weights)
			s.Stderr = bootstrap(metric, values, weights)
		} else {
			s.Value, s.Stderr = mean(values)
		}
		out = append(out, s)
	}
	return out
}

func mean(xs []float64) (value, stderr float64) {
	for _, x := range xs {
		value += x
	}
	value /= float64(len(xs))
	square := 0.0
	for _, x := range xs {
		square += (x - value) * (x - value)
	}
	return value, math.Sqrt(square/float64(len(xs)-1)) / math.Sqrt(float64(len(xs)))
}

// perplexity is lm_eval/api/metrics.py, weighted_perplexity and bits_per_byte.
func perplexity(metric string, logps, weights []float64) float64 {
	l, w := 0.0, 0.0
	for i := range logps {
		l, w = l+logps[i], w+weights[i]
	}
	if strings.HasPrefix(metric, "bits_per_byte") {
		return -l / w / math.Ln2
	}
	return math.Exp(-l / w)
}

// resamples of a bootstrap; lm-eval takes as many for perplexities.
const resamples = 100

// bootstrap is the standard deviation over samples drawn with replacement, from a fixed seed.
func bootstrap(metric string, logps, weights []float64) float64 {
	if len(logps) < 2 {
		return math.NaN()
	}
	r := rand.New(rand.NewPCG(fewshotSeed, 0))
	figures := make([]float64, resamples)
	l, w := make([]float64, len(logps)), make([]float64, len(logps))
	for i := range figures {
		for k := range l {
			j := r.IntN(len(logps))
			l[k], w[k] = logps[j], weights[j]
		}
		figures[i] = perplexity(metric, l, w)
	}
	_, stderr := mean(figures)
	return stderr * math.Sqrt(resamples)
}

// Pool joins the scores of a group's subjects: means weighed by their questions, and the pooled standard error
// (lm_eval/api/metrics.py, pooled_sample_stderr).
func Pool(subjects [][]Score) []Score {
	sums := map[string]*Score{}
	variance := map[string]float64{}
	tasks := map[string]int{}
	var order []string
	for _, scores := range subjects {
		for _, s := range scores {
			p := sums[s.Metric]
			if p == nil {
				p = &Score{Metric: s.Metric}
				sums[s.Metric] = p
				order = append(order, s.Metric)
			}
			n := float64(s.N)
			p.Value += s.Value * n
			p.N += s.N
			variance[s.Metric] += (n - 1) * s.Stderr * s.Stderr * n
			tasks[s.Metric]++
		}
	}
	var out []Score
	for _, metric := range order {
		p := sums[metric]
		n := float64(p.N)
		p.Value /= n
		p.Stderr = math.Sqrt(variance[metric] / (n - float64(tasks[metric])) / n)
		out = append(out, *p)
	}
	return out
}

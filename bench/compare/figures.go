package main

import (
	"math"
	"slices"

	"github.com/seed-8780d58e/spin/bench/unit"
)

// row reads a figure off pairs of results: medians of both, and the median of the pairs' ratios,
// which what slows down both for a while does not move.
func (f figure) row(a, b []unit.Result) Row {
	var ours, peer, ratios []float64
	for i := range a {
		var x, y, ratio float64
		if f.compare != nil {
			x, y, ratio = f.compare(a[i], b[i])
		} else {
			x, y = f.value(a[i]), f.value(b[i])
			ratio = x / y
		}
		if f.seconds {
			ratio = y / x
		}
		ours, peer, ratios = append(ours, x), append(peer, y), append(ratios, ratio)
	}
	return Row{
		Name: f.name, What: f.what, Against: f.against, Unit: f.unit, Less: f.less, Bar: f.bar, Goal: f.goal, Pairs: len(a),
		Ours: median(ours), Peer: median(peer), Ratio: median(ratios), Ratios: ratios,
	}
}

// row is a share of the machine's peak.
func (s share) row(a []unit.Result, peak float64) Row {
	var rates []float64
	for _, r := range a {
		rates = append(rates, s.work/r.Seconds/1e9)
	}
	unit := "GFLOP/s"
	if s.peak == "read" {
		unit = "GB/s"
	}
	return Row{Name: s.name, What: s.what, Against: "this machine: " + s.peak, Unit: unit, Goal: s.goal, Pairs: len(a), Ours: median(rates), Peer: peak, Ratio: median(rates) / peak}
}

// parts are the medians of the results' parts.
func parts(results []unit.Result) map[string]float64 {
	all := map[string][]float64{}
	for _, r := range results {
		for k, v := range r.Parts {
			all[k] = append(all[k], v)
		}
	}
	out := map[string]float64{}
	for k, v := range all {
		out[k] = median(v)
	}
	return out
}

// median of some numbers; of an even number of them, the mean of the middle two. NaN of none.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if len(v) == 0 {
		return math.NaN()
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// smooth is the means of each window of so many values, one after the other.
func smooth(values []float64, window int) []float64 {
	var out []float64
	for w := range slices.Chunk(values, window) {
		sum := 0.0
		for _, v := range w {
			sum += v
		}
		out = append(out, sum/float64(len(w)))
	}
	return out
}

// apart is the largest difference; NaN where there is one, or where the lengths differ.
func apart(a, b []float64) float64 {
	if len(a) != len(b) || len(a) == 0 {
		return math.NaN()
	}
	most := 0.0
	for i := range a {
		d := math.Abs(a[i] - b[i])
		if math.IsNaN(d) {
			return d
		}
		most = max(most, d)
	}
	return most
}

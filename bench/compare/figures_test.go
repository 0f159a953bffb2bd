package main

import (
	"math"
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/bench/unit"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{1, 1000, 2}, 2}} {
		in := slices.Clone(c.in)
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.in, got, c.want)
		}
		if !slices.Equal(in, c.in) {
			t.Errorf("median sorted its argument: %v", c.in)
		}
	}
	if v := median(nil); !math.IsNaN(v) {
		t.Errorf("median of nothing is %v", v)
	}
}

func seconds(values ...float64) (out []unit.Result) {
	for _, v := range values {
		out = append(out, unit.Result{Seconds: v, PeakBytes: int64(v) << 30})
	}
	return out
}

// A slow phase of the machine hits both of a pair: the ratio must not see it, whichever pair it was.
func TestFigureRow(t *testing.T) {
	rate := figure{name: "rate", value: perSecond(100)}
	time := figure{name: "time", seconds: true, value: func(r unit.Result) float64 { return r.Seconds }}
	memory := figure{name: "memory", less: true, value: func(r unit.Result) float64 { return float64(r.PeakBytes >> 30) }}
	for _, c := range []struct {
		f                 figure
		ours, peer        []float64
		want, first, last float64
	}{
		{rate, []float64{1, 1, 10}, []float64{2, 2, 20}, 2, 100, 50},
		{time, []float64{1, 5, 1}, []float64{3, 15, 3}, 3, 1, 3},
		{memory, []float64{2, 2}, []float64{4, 4}, 0.5, 2, 4},
	} {
		r := c.f.row(seconds(c.ours...), seconds(c.peer...))
		if r.Ratio != c.want || r.Ours != c.first || r.Peer != c.last || r.Pairs != len(c.ours) {
			t.Errorf("%s: ratio %v, ours %v, peer %v of %d pairs; want %v, %v, %v of %d", r.Name, r.Ratio, r.Ours, r.Peer, r.Pairs, c.want, c.first, c.last, len(c.ours))
		}
	}
}

func TestLossFigure(t *testing.T) {
	f := lossFigure("losses", "", "", 2, 0.01)
	a, b := unit.Result{Losses: []float64{1, 3, 5, 7}}, unit.Result{Losses: []float64{3, 1, 5.5, 7}}
	if r := f.row([]unit.Result{a}, []unit.Result{b}); r.Ratio != 0.25 || r.verdict() != "no" {
		t.Errorf("ratio %v, verdict %s; want 0.25 (means of two), no", r.Ratio, r.verdict())
	}
	b.Losses[0] = math.NaN()
	if r := f.row([]unit.Result{a}, []unit.Result{b}); r.check() == nil {
		t.Errorf("a curve with NaN was accepted: %+v", r)
	}
	if v := apart([]float64{1}, []float64{1, 2}); !math.IsNaN(v) {
		t.Errorf("curves of different lengths are %v apart", v)
	}
}

// The figure of a GEMM row weighs each shape as often as the model has it.
func TestGEMMFigure(t *testing.T) {
	m := smollm2()
	f := gemmFigure(m, "f32", 2048, "dw", 1, 1)
	r := unit.Result{Parts: map[string]float64{}}
	for _, s := range m.linears() {
		r.Parts[gemmPart("dw", s)] = 2 * 2048 * float64(s[0]*s[1]) / 100e9 // each at 100 GFLOP/s
	}
	if v := f.value(r); !(math.Abs(v-100) <= 1e-9) {
		t.Errorf("%v GFLOP/s, want 100", v)
	}
	delete(r.Parts, gemmPart("dw", m.linears()[0]))
	if v := f.value(r); !math.IsNaN(v) {
		t.Errorf("%v GFLOP/s with a part missing, want NaN", v)
	}
}

package computetest

import (
	"math"

	"github.com/seed-8780d58e/spin/compute"
)

// check runs op on all rows on the oracle and on the device and compares the results, within the
// tolerance; and then bit by bit on the device with several threads and, row results only, on
// selections of the rows: one, some, all in another order, some twice.
// rows is the number of rows that the case selects from; 0: it has no row results.
func (l *lab) check(rows int, op func(*call)) {
	l.Helper()
	all := upto(rows)
	base := l.one.run(l, all, op)
	l.near(base, l.ref.run(l, all, op))
	l.same("on several threads", base, l.many.run(l, all, op), nil)
	if rows == 0 {
		return
	}
	for i, sel := range l.selections(rows) {
		r := l.one
		if i == 0 {
			r = l.many
		}
		l.same("in another batch", base, r.run(l, sel, op), sel)
	}
}

func upto(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func (l *lab) selections(rows int) [][]int {
	twice := make([]int, 0, rows+2)
	twice = append(twice, l.rand.Perm(rows)...)
	twice = append(twice, l.rand.IntN(rows), l.rand.IntN(rows))
	from := l.rand.IntN(rows)
	return [][]int{
		twice,
		{l.rand.IntN(rows)},
		upto(rows)[from : from+l.upTo(rows-from)],
		l.rand.Perm(rows)[:l.upTo(rows)],
	}
}

// same compares bits: of all results where sel is nil, else got's row results with the rows sel of
// base.
func (l *lab) same(when string, base, got []result, sel []int) {
	l.Helper()
	for i, b := range base {
		want := b.got
		if sel != nil {
			if !b.byRow {
				continue
			}
			want = want.pick(sel)
		}
		for j, v := range got[i].got.v {
			if !sameBits(v, want.v[j]) {
				l.Errorf("%s [%d, %d] %s: element %d has other bits: %v, was %v", b.name, want.rows, want.cols, when, j, v, want.v[j])
				break
			}
		}
	}
}

// near compares with the oracle's results. An element may be off by
//
//	ε·|want| + 4·ε₃₂·√k·max(|want|, rms, least)
//
// where ε is half a unit in the last place of the result's dtype (2⁻²⁴ for F32, 2⁻⁸ for BF16, both
// relative to the binade's start), ε₃₂ that of the arithmetic, k the number of roundings behind an
// element (the terms of its sums), and rms the root of the mean square of the result's elements: the
// errors of k roundings of partial sums of random terms grow as √k of the sum's size. least is the
// terms' size where they may all cancel, as 1 − p does. With
// Options.RoundedOperands composite operations may be off by ε(act)·rms more. k = 0 allows the final
// rounding only; NaN is never near.
func (l *lab) near(got, want []result) {
	l.Helper()
	for i, g := range got {
		w := want[i].got
		if g.got.rows != w.rows || g.got.cols != w.cols {
			l.Fatalf("%s: test compares [%d, %d] with [%d, %d]", g.name, g.got.rows, g.got.cols, w.rows, w.cols)
		}
		var rms float64
		for _, v := range w.v {
			rms += v * v / float64(len(w.v))
		}
		rms = math.Sqrt(rms)
		for j, v := range g.got.v {
			size := math.Abs(w.v[j])
			tol := epsilon(g.got.dt)*size + 4*epsilon(compute.F32)*math.Sqrt(float64(g.roundings))*max(size, rms, g.least)
			if l.o.RoundedOperands && g.composite {
				tol += epsilon(l.dt) * rms
			}
			if !(math.Abs(v-w.v[j]) <= tol) {
				l.Errorf("%s [%d, %d] %v: element (%d, %d) is %v, oracle says %v: off by %.3g, tolerance %.3g",
					g.name, w.rows, w.cols, g.got.dt, j/w.cols, j%w.cols, v, w.v[j], math.Abs(v-w.v[j]), tol)
				break
			}
		}
	}
}

func epsilon(dt compute.DType) float64 {
	switch dt {
	case compute.F32:
		return 0x1p-24
	case compute.BF16:
		return 0x1p-8
	}
	return 0
}

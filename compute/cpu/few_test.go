package cpu

import (
	"fmt"
	"math"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

// testFewRows holds products of few rows against the rows of one of many, to the bit.
func testFewRows(t *testing.T, dev *Device, rows []int, k int, outs ...int) {
	const many = fewRows + 6
	m := newMachine(t, dev, compute.Limits{Tokens: many, Width: max(k, 512), Vocab: 1})
	for _, dt := range []compute.DType{compute.F32, compute.BF16} {
		x, _ := m.random(dt, many, k)
		var ws []compute.Weight
		var want, before []compute.Tensor
		for i, n := range outs {
			w, _ := m.weight(dt, n, k)
			old, _ := m.random([]compute.DType{dt, compute.F32}[i%2], many, n)
			ws, before, want = append(ws, w), append(before, old), append(want, m.arena.Alloc(old.DType, many, n))
		}
		for _, acc := range []bool{false, true} {
			copies := func(n int) (ys []compute.Tensor) {
				for _, t := range before {
					y := m.arena.Alloc(t.DType, n, t.Cols)
					m.b.Copy(y, t.Slice(0, n))
					ys = append(ys, y)
				}
				return ys
			}
			want = copies(many)
			m.b.Linear(want, x, ws, acc)
			for _, n := range rows {
				t.Run(fmt.Sprintf("%v/acc=%v/rows=%d", dt, acc, n), func(t *testing.T) {
					got := copies(n)
					m.b.Linear(got, x.Slice(0, n), ws, acc)
					for i := range got {
						have, all := m.read(got[i]), m.read(want[i].Slice(0, n))
						for at := range have {
							if math.Float32bits(have[at]) != math.Float32bits(all[at]) {
								t.Fatalf("output %d differs from that of %d rows at element %d", i, many, at)
							}
						}
					}
				})
			}
		}
	}
}

func TestFewRows(t *testing.T) {
	devices(t, func(t *testing.T, dev *Device) {
		var rows []int
		for n := 1; n <= fewRows; n += 1 + n/12 {
			rows = append(rows, n)
		}
		testFewRows(t, dev, append(rows, fewRows), 1411, 300, 16, 43)
	})
}

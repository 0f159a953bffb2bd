package harness

import (
	"slices"
	"testing"
)

// TestSample: the numbers that CPython 3.11 gives, drawn one after the other: r = random.Random(1234); r.sample(range(n), k).
func TestSample(t *testing.T) {
	r := newPythonRandom(1234)
	for _, c := range []struct {
		n    int
		want []int
	}{
		{10, []int{7, 1, 0, 9}},
		{1000, []int{932, 965, 961, 826, 596, 35, 687, 709, 85, 100, 784, 363, 242, 17, 31, 807, 16, 354, 663, 638, 495, 630, 474, 152, 93, 187}},
		{90, []int{14, 1, 64, 62, 31, 8, 69, 59, 84, 76, 11, 65, 74, 5, 34, 71, 81, 38, 61, 45, 75, 85, 25, 58, 2, 9}},
		{3, []int{0, 1, 2}},
		{40000, []int{30987, 24729, 10951, 3550, 4996}},
	} {
		if got := r.sample(c.n, len(c.want)); !slices.Equal(got, c.want) {
			t.Errorf("%d of %d: %v, want %v", len(c.want), c.n, got, c.want)
		}
	}
}

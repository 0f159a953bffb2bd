package fleet

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func by(instances ...string) (list []Attempt) {
	for _, i := range instances {
		list = append(list, Attempt{Instance: i})
	}
	return list
}

func TestVerdict(t *testing.T) {
	p := DefaultPatience()
	for _, c := range []struct {
		what    string
		before  []Attempt
		prompts int
		want    Verdict
	}{
		{"a new chunk", nil, 8, Play},
		{"a chunk lost once", by("a"), 8, Play},
		{"a chunk lost twice", by("a", "a"), 8, Split},
		{"a new prompt", nil, 1, Play},
		{"two instances", by("a", "b", "a", "b"), 1, Play},
		{"three distinct ones", by("a", "b", "a", "c"), 1, Bury},
		{"a lone one, patient", by("a", "a", "a", "a", "a", "a", "a", "a", "a"), 1, Play},
		{"a lone one, not for ever", by("a", "a", "a", "a", "a", "a", "a", "a", "a", "a"), 1, Bury},
	} {
		if got := p.Verdict(c.before, c.prompts); got != c.want {
			t.Errorf("%s: verdict %d, want %d", c.what, got, c.want)
		}
	}
}

func TestHedgeIsDue(t *testing.T) {
	h := DefaultHedging()
	var took Durations
	for range h.Known - 1 {
		took.Add(2 * time.Second)
	}
	if h.Due(time.Hour, 0, true, &took) {
		t.Error("hedged by a median of too few")
	}
	took.Add(2 * time.Second)
	for _, c := range []struct {
		what   string
		out    time.Duration
		copies int
		others bool
		want   bool
	}{
		{"under three times the median", 5999 * time.Millisecond, 0, true, false},
		{"three times the median", 6 * time.Second, 0, true, true},
		{"nobody else is there", time.Hour, 0, false, false},
		{"the last copy", time.Hour, h.Most - 1, true, true},
		{"enough copies", time.Hour, h.Most, true, false},
	} {
		if got := h.Due(c.out, c.copies, c.others, &took); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
	var fast Durations
	for range h.Known {
		fast.Add(time.Millisecond)
	}
	if limit, _ := h.Limit(&fast); limit != h.Least {
		t.Errorf("tasks of a millisecond are hedged after %v, want %v", limit, h.Least)
	}
}

func TestMedianIsOfTheNewest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var d Durations
	var all []time.Duration
	for range 5 * remembered {
		x := time.Duration(r.IntN(50)) // with repetitions
		d.Add(x)
		all = append(all, x)
		newest := slices.Clone(all[max(0, len(all)-remembered):])
		slices.Sort(newest)
		if want := newest[(len(newest)-1)/2]; d.Median() != want || d.Len() != len(newest) {
			t.Fatalf("after %d: median %v of %d, want %v of %d", len(all), d.Median(), d.Len(), want, len(newest))
		}
	}
}

package fleet

import (
	"slices"
	"time"
)

// Hedging says when a task that is out too long is published again, under another identity. The first write of a game wins and equal bits make it
// safe; what it costs is the work done twice. The rule is that of "The Tail at Scale" (Dean and Barroso, CACM 2013): wait until the task is slower
// than nearly all others are, then ask somebody else.
type Hedging struct {
	Factor float64       // times the median that a task may be out
	Known  int           // durations that must be known before a median says anything
	Least  time.Duration // no task is hedged sooner: below it, publishing costs more than waiting
	Most   int           // copies of one task beside the first
}

// DefaultHedging publishes again at three times the median.
func DefaultHedging() Hedging {
	return Hedging{Factor: 3, Known: 5, Least: 500 * time.Millisecond, Most: 3}
}

// Limit is how long a task may be out before it is hedged; false where too little is known.
func (h Hedging) Limit(took *Durations) (time.Duration, bool) {
	if took.Len() < h.Known {
		return 0, false
	}
	return max(h.Least, time.Duration(h.Factor*float64(took.Median()))), true
}

// Due reports whether a task, so long out and published again so often, is to be published once more. others is whether anybody but its holder
// could take it: a generator is no help to itself.
func (h Hedging) Due(out time.Duration, copies int, others bool, took *Durations) bool {
	limit, known := h.Limit(took)
	return known && others && copies < h.Most && out >= limit
}

// Durations are the newest few that tasks took, from being taken to their last game.
type Durations struct {
	ring   []time.Duration
	at     int
	sorted []time.Duration
}

// remembered is how many durations make the median: enough to be steady, few enough to follow a fleet that changes.
const remembered = 101

// Add takes the next one.
func (d *Durations) Add(took time.Duration) {
	if len(d.ring) < remembered {
		d.ring = append(d.ring, took)
	} else {
		i, _ := slices.BinarySearch(d.sorted, d.ring[d.at])
		d.sorted = slices.Delete(d.sorted, i, i+1)
		d.ring[d.at] = took
		d.at = (d.at + 1) % remembered
	}
	i, _ := slices.BinarySearch(d.sorted, took)
	d.sorted = slices.Insert(d.sorted, i, took)
}

// Len is how many are known.
func (d *Durations) Len() int { return len(d.ring) }

// Median of those known, the lower one of two; 0 of none.
func (d *Durations) Median() time.Duration {
	if len(d.sorted) == 0 {
		return 0
	}
	return d.sorted[(len(d.sorted)-1)/2]
}

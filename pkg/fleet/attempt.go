// Package fleet decides what becomes of tasks: tried again, split, given up, published once more for a slow generator.
//
// Everything here is a pure function of what is known; pkg/bus and the trainer act on it, over a real broker and a real clock, and the simulation
// of a thousand generators (simulation_test.go) acts on it in virtual time.
package fleet

import "time"

// Attempt is one delivery of a task. It is written down before the work starts, so that a worker that dies on the task has left its name.
type Attempt struct {
	Instance string    `json:"instance"`
	TakenAt  time.Time `json:"taken_at"`
	Error    string    `json:"error,omitempty"` // empty: running, died, or its lease ran out
}

// Verdict is what becomes of a task that was tried before.
type Verdict int

const (
	Play  Verdict = iota // try it once more
	Split                // take its prompts apart, each a task of its own
	Bury                 // give it up: a dead letter
)

// Patience bounds how often a task is tried.
type Patience struct {
	Chunk     int // attempts on a task of several prompts before it is split
	Instances int // distinct instances that may fail or die on one prompt
	Attempts  int // attempts on one prompt whoever makes them, so that a lone worker does not try for ever
}

// DefaultPatience splits after two losses and gives up after three distinct instances.
func DefaultPatience() Patience { return Patience{Chunk: 2, Instances: 3, Attempts: 10} }

// Verdict decides about a task of so many prompts.
func (p Patience) Verdict(before []Attempt, prompts int) Verdict {
	switch {
	case prompts > 1 && len(before) >= p.Chunk:
		return Split
	case prompts == 1 && (Instances(before) >= p.Instances || len(before) >= p.Attempts):
		return Bury
	}
	return Play
}

// Instances counts the distinct ones.
func Instances(attempts []Attempt) int {
	distinct := make(map[string]bool)
	for _, a := range attempts {
		distinct[a.Instance] = true
	}
	return len(distinct)
}

package e2e

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/run"
)

// chaos makes the trials long: `make chaos`. Their short forms are part of `make test`.
var chaos = flag.Bool("chaos", false, "run the long form of the trials")

// trial is one row of deploy/RELIABILITY.md.
type trial struct {
	name  string
	run   func(t *testing.T, bin binaries, spec run.Spec, want result) (figure string)
	alone bool // on the machine, for what it measures; the others mostly wait, and run side by side
}

// TestTrials holds what the design promises of a fleet whose processes die, hang and come and go: the
// same weights and the same rows as in a run that nobody disturbed. Each trial is a broker, a
// ClickHouse and the services' own binaries, as processes over TCP.
func TestTrials(t *testing.T) {
	bin := buildBinaries(t)
	spec := newSpec(t, dataset(t))
	want := undisturbed(t, bin, spec)
	trials := []trial{
		{"kills", trialKills, false},
		{"1, 2 and 8 generators", trialElastic, false},
		{"hung generator", trialHung, false},
		{"two trainers", trialTrainers, false},
		{"broker away", trialBroker, false},
		{"ClickHouse away", trialClickHouse, false},
		{"disk full", trialDisk, false},
		{"cluster", trialCluster, false},
		{"poison prompt", trialPoison, false},
		{"refused games", trialRefused, false},
		{"rolling restart", trialRolling, false},
		{"rate", trialRate, true},
	}
	for place, tr := range trials {
		t.Run(tr.name, func(t *testing.T) {
			if !tr.alone {
				t.Parallel() // begins when those that want to be alone are over
			}
			began, figure := time.Now(), ""
			defer func() { sum.add(line{place, tr.name, figure, time.Since(began), !t.Failed()}) }()
			figure = tr.run(t, bin, spec, want)
			t.Log(figure)
		})
	}
}

// undisturbed is what the run comes to when everybody lives.
func undisturbed(t *testing.T, bin binaries, spec run.Spec) result {
	t.Helper()
	d := deploy(t, bin, setup{})
	d.fleet(1)
	id := d.submit(spec)
	d.finish(id, time.Minute)
	r := d.settled(id, spec)
	d.exact(id, spec)
	r.poison = ask(t, d.store, "SELECT prompt_id FROM prompts WHERE split = 'train' ORDER BY position LIMIT 1")[0]
	d.stop()
	return r
}

// sum is what the trials came to, for the last lines of the test's output.
var sum summaryLines

type summaryLines struct {
	mu    sync.Mutex
	lines []line
}

type line struct {
	place         int // in the table
	trial, figure string
	took          time.Duration
	passed        bool
}

func (s *summaryLines) add(l line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, l)
}

func (s *summaryLines) print(w io.Writer, took time.Duration) {
	if len(s.lines) == 0 {
		return
	}
	slices.SortFunc(s.lines, func(a, b line) int { return a.place - b.place })
	passed := 0
	for _, l := range s.lines {
		verdict := "FAILED"
		if l.passed {
			verdict = "passed"
			passed++
		}
		fmt.Fprintf(w, "%-28s %s %6.1fs  %s\n", l.trial, verdict, l.took.Seconds(), l.figure)
	}
	fmt.Fprintf(w, "trials: %d of %d passed in %v\n", passed, len(s.lines), took.Round(time.Second))
}

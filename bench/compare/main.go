// Command compare holds this project beside PyTorch, TRL, transformers and llama.cpp on the same
// machine, and writes bench/results.json and bench/RESULTS.md. `make bench-peers` prepares what it
// needs and runs it; bench/README.md says what is measured and how.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// settings are the flags.
type settings struct {
	rows      string // names or beginnings of names; empty: all
	pairs     int    // A B; 0: each comparison's own number
	quick     bool
	compile   bool
	python    string
	peers     string // folder of converted models and games
	model     string // GGUF
	worker    string // bench/spinbench, built
	cputest   string // compute/cpu's tests, built
	locks     string
	turn      time.Duration
	out       string // folder of results
	patience  time.Duration
	quietTime time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.rows, "rows", "", "comparisons to run, names or beginnings of names with spaces between; empty: all")
	flag.IntVar(&s.pairs, "pairs", 0, "pairs A B of each comparison; 0: its own number")
	flag.BoolVar(&s.quick, "quick", false, "of a peer's settings run only the one that was fastest according to results.json")
	flag.BoolVar(&s.compile, "compile", false, "try torch.compile as well")
	flag.StringVar(&s.python, "python", "", "python of the environment with the peers")
	flag.StringVar(&s.peers, "peers", "", "folder with the converted models and the games")
	flag.StringVar(&s.model, "model", "", "the model, a GGUF file")
	flag.StringVar(&s.worker, "spinbench", "", "bench/spinbench, built")
	flag.StringVar(&s.cputest, "cpu-test", "", "compute/cpu's test binary, for the machine's peaks")
	flag.StringVar(&s.locks, "lock", "", "files to lock while something is timed, commas between: to take turns with others on the machine")
	flag.DurationVar(&s.turn, "turn", time.Minute, "how long a turn lasts at the least, where others wait for the locks")
	flag.StringVar(&s.out, "out", "bench", "folder of results.json and RESULTS.md")
	flag.DurationVar(&s.patience, "patience", 4*time.Minute, "the longest unit of work")
	flag.DurationVar(&s.quietTime, "quiet", 20*time.Second, "how long to wait for other processes to calm down before a unit is timed")
	flag.Parse()
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	shape, err := readShape(s.model)
	if err != nil {
		return err
	}
	plan, err := selected(comparisons(s, shape), s.rows)
	if err != nil {
		return err
	}
	store := filepath.Join(s.out, "results.json")
	results, err := readResults(store)
	if err != nil {
		return err
	}
	if results.Machine, err = readMachine(); err != nil {
		return err
	}
	if err := makeGames(s.peers, shape.Vocab); err != nil {
		return err
	}
	h := &harness{settings: s, known: results, calm: quiet, turns: turns{most: s.turn}, fastest: map[string]string{}}
	h.turns.files = strings.FieldsFunc(s.locks, func(r rune) bool { return r == ',' })
	defer h.turns.end()
	if h.roofline, err = h.measureRoofline(); err != nil {
		return err
	}
	results.Roofline = h.roofline
	var failed error
	for _, c := range plan {
		rows, err := h.compare(c)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", c.name, err))
			fmt.Fprintf(os.Stderr, "compare: %s: %v\n", c.name, err)
			continue
		}
		for _, r := range rows {
			r.Commit, r.At = commit(), time.Now().UTC().Truncate(time.Second)
			fmt.Printf("%-28s ours %10.4g  peer %10.4g  ratio %6.3f  bar %v\n", r.Name, r.Ours, r.Peer, r.Ratio, r.Bar)
			results.merge(r)
		}
		for k, v := range h.versions {
			results.Versions[k] = v
		}
		if err := results.write(store, filepath.Join(s.out, "RESULTS.md"), comparisons(s, shape)); err != nil {
			return err
		}
	}
	return failed
}

// selected is the comparisons that names ask for.
func selected(plan []comparison, names string) ([]comparison, error) {
	want := strings.Fields(names)
	if len(want) == 0 {
		return plan, nil
	}
	var out []comparison
	used := make([]bool, len(want))
	for _, c := range plan {
		for i, w := range want {
			if strings.HasPrefix(c.name, w) {
				used[i] = true
				if !slices.ContainsFunc(out, func(o comparison) bool { return o.name == c.name }) {
					out = append(out, c)
				}
			}
		}
	}
	for i, ok := range used {
		if !ok {
			var known []string
			for _, c := range plan {
				known = append(known, c.name)
			}
			return nil, fmt.Errorf("-rows %s: want some of %s", want[i], strings.Join(known, ", "))
		}
	}
	return out, nil
}

// commit names the source that was measured, where git knows it.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--exclude=*").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

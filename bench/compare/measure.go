package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/seed-8780d58e/spin/bench/unit"
)

// harness runs comparisons.
type harness struct {
	settings
	turns    turns
	calm     float64  // cores that others may use beside a unit that counts
	known    *Results // of earlier runs
	roofline map[string]float64
	versions map[string]string // of the comparison at hand
	fastest  map[string]string // of each family: the dtype of the peer's best settings
}

// compare finds the peer's best settings, lets both take turns, and reads the figures.
func (h *harness) compare(c comparison) ([]Row, error) {
	h.versions = map[string]string{}
	if h.pairs > 0 {
		c.pairs = h.pairs
	}
	best, trials, err := h.try(c)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "%s: against %s\n", c.name, best.label)
	ours, err := h.warm(c.ours, h.patience)
	if err != nil {
		return nil, fmt.Errorf("ours: %w", err)
	}
	defer ours.stop()
	peer, err := h.warm(best.config, h.patience)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", best.label, err)
	}
	defer peer.stop()
	turns, err := h.takeTurns(ours, peer, c.pairs)
	if err != nil {
		return nil, err
	}
	var a, b []unit.Result
	noise := 0.0
	for _, t := range turns {
		a, b, noise = append(a, t.ours), append(b, t.peer), max(noise, t.others)
	}
	var rows []Row
	for i, f := range c.figures {
		r := f.row(a, b)
		if i == 0 {
			r.OursParts, r.PeerParts = parts(a), parts(b)
		}
		r.Setting, r.Trials, r.Others = best.label, trials, noise
		if err := r.check(); err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	for _, s := range c.shares {
		if peak := h.roofline[s.peak]; peak > 0 {
			rows = append(rows, s.row(a, peak))
		}
	}
	return rows, nil
}

// pair is one turn of each.
type pair struct {
	ours, peer unit.Result
	others     float64 // the most cores that anything else used meanwhile
}

// takeTurns lets both work n times. A pair that something else on the machine disturbed is repeated,
// n times in all; then the quietest n count.
func (h *harness) takeTurns(ours, peer *process, n int) ([]pair, error) {
	var all []pair
	undisturbed := 0
	for len(all) < 2*n && undisturbed < n {
		if err := h.turns.take(); err != nil {
			return nil, err
		}
		h.waitQuiet()
		var p pair
		var err error
		var second float64
		if p.ours, p.others, err = ours.work(h.patience); err != nil {
			return nil, fmt.Errorf("ours: %w", err)
		}
		if p.peer, second, err = peer.work(h.patience); err != nil {
			return nil, fmt.Errorf("peer: %w", err)
		}
		if p.others = max(p.others, second); p.others <= h.calm {
			undisturbed++
		}
		all = append(all, p)
	}
	slices.SortStableFunc(all, func(x, y pair) int { return cmp.Compare(x.others, y.others) })
	return all[:n], nil
}

// waitQuiet waits until the rest of the machine is idle, for a while.
func (h *harness) waitQuiet() {
	const window = 200 * time.Millisecond
	for end := time.Now().Add(h.quietTime); time.Now().Before(end); {
		before := readBusy(os.Getpid())
		time.Sleep(window)
		if readBusy(os.Getpid()).others(before) <= h.calm*window.Seconds()+0.01 {
			return
		}
	}
}

// warm starts a process and lets it do one unit that does not count, unless its units are long.
func (h *harness) warm(c unit.Config, patience time.Duration) (*process, error) {
	if err := h.turns.take(); err != nil {
		return nil, err
	}
	p, ready, err := h.start(c, h.patience)
	if err != nil {
		return nil, err
	}
	for k, v := range ready.Versions {
		h.versions[k] = v
	}
	if c.Kind == unit.Iteration || c.Kind == unit.Curve {
		return p, nil
	}
	if _, _, err := p.work(patience); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// try finds the fastest of the peer's settings by a few units of each, and says what each gave, by the
// first figure.
func (h *harness) try(c comparison) (rival, map[string]string, error) {
	if len(c.peers) == 1 {
		return c.peers[0], nil, nil
	}
	if dtype := h.fastest[c.family]; c.family != "" && dtype != "" {
		i := slices.IndexFunc(c.peers, func(p rival) bool { return p.config.DType == dtype })
		if i >= 0 {
			return c.peers[i], nil, nil
		}
	}
	if h.quick {
		for _, r := range h.known.Rows {
			i := slices.IndexFunc(c.peers, func(p rival) bool { return p.label == r.Setting })
			if r.Name == c.figures[0].name && i >= 0 {
				return c.peers[i], r.Trials, nil
			}
		}
	}
	f, trials := c.figures[0], map[string]string{}
	best, top, patience := -1, 0.0, h.patience
	var failed error
	for i, p := range c.peers {
		v, seconds, err := h.trial(p, f, patience)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", p.label, err))
			trials[p.label] = err.Error()
			fmt.Fprintf(os.Stderr, "%s: %s: %v\n", c.name, p.label, err)
			continue
		}
		trials[p.label] = fmt.Sprintf("%.4g %s", v, f.unit)
		fmt.Fprintf(os.Stderr, "%s: %s: %s\n", c.name, p.label, trials[p.label])
		if best < 0 || v > top {
			best, top = i, v
		}
		patience = min(patience, max(hopeless*seconds, 5*time.Second))
	}
	if best < 0 {
		return rival{}, nil, failed
	}
	if c.family != "" {
		h.fastest[c.family] = c.peers[best].config.DType
	}
	return c.peers[best], trials, nil
}

// A peer's setting is tried so often, but no longer than it must; its best unit counts. One whose
// units take so many times as long as another's is given up.
const (
	trialUnits = 3
	trialTime  = 4 * time.Second
	hopeless   = 4
)

// trial is a setting's figure, and how long a unit of it takes.
func (h *harness) trial(p rival, f figure, patience time.Duration) (best float64, unit time.Duration, err error) {
	w, err := h.warm(p.config, 2*patience)
	if err != nil {
		return 0, 0, err
	}
	defer w.stop()
	h.waitQuiet()
	best = math.Inf(-1)
	began := time.Now()
	for range trialUnits {
		start := time.Now()
		r, _, err := w.work(patience)
		if err != nil {
			return 0, 0, err
		}
		best, unit = max(best, f.value(r)), time.Since(start)
		if time.Since(began) > trialTime {
			break
		}
	}
	return best, unit, nil
}

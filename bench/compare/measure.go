package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/seed-8780d58e/spin/bench/unit"
)

// harness runs comparisons.
type harness struct {
	settings
	locks    []lockFile
	known    *Results // of earlier runs
	roofline map[string]float64
	versions map[string]string // of the comparison at hand
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
	ours, err := h.warm(c.ours)
	if err != nil {
		return nil, fmt.Errorf("ours: %w", err)
	}
	defer ours.stop()
	peer, err := h.warm(best.config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", best.label, err)
	}
	defer peer.stop()
	var a, b []unit.Result
	noise := 0.0
	for range c.pairs {
		x, y, others, err := h.pair(ours, peer)
		if err != nil {
			return nil, err
		}
		a, b, noise = append(a, x), append(b, y), max(noise, others)
	}
	var rows []Row
	for _, f := range c.figures {
		r := f.row(a, b)
		r.Setting, r.Trials, r.Others = best.label, trials, noise
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
func (h *harness) pair(ours, peer *process) (a, b unit.Result, others float64, err error) {
	release, err := hold(h.locks, true)
	if err != nil {
		return a, b, 0, err
	}
	defer release()
	a, first, err := ours.work(h.patience)
	if err != nil {
		return a, b, 0, fmt.Errorf("ours: %w", err)
	}
	b, second, err := peer.work(h.patience)
	if err != nil {
		return a, b, 0, fmt.Errorf("peer: %w", err)
	}
	return a, b, max(first, second), nil
}

// warm starts a process and lets it do one unit that does not count, unless its units are long.
func (h *harness) warm(c unit.Config) (*process, error) {
	release, err := hold(h.locks, false)
	if err != nil {
		return nil, err
	}
	defer release()
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
	if _, _, err := p.work(h.patience); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// try finds the fastest of the peer's settings by one unit of each, and says what each gave, by the
// first figure.
func (h *harness) try(c comparison) (rival, map[string]string, error) {
	if len(c.peers) == 1 {
		return c.peers[0], nil, nil
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
	best, top := -1, 0.0
	var failed error
	for i, p := range c.peers {
		v, err := h.trial(p, f)
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
	}
	if best < 0 {
		return rival{}, nil, failed
	}
	return c.peers[best], trials, nil
}

func (h *harness) trial(p rival, f figure) (float64, error) {
	w, err := h.warm(p.config)
	if err != nil {
		return 0, err
	}
	defer w.stop()
	release, err := hold(h.locks, true)
	if err != nil {
		return 0, err
	}
	defer release()
	r, _, err := w.work(h.patience)
	if err != nil {
		return 0, err
	}
	return f.value(r), nil
}

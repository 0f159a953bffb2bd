package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
)

// measureRoofline runs compute/cpu's benchmarks of the machine itself: how many multiply-adds its
// instructions reach in a loop, and how fast it reads memory, on all cores. In GFLOP/s and GB/s.
func (h *harness) measureRoofline() (map[string]float64, error) {
	if h.cputest == "" {
		return nil, nil
	}
	if err := h.turns.take(); err != nil {
		return nil, err
	}
	h.waitQuiet()
	cmd := exec.Command(h.cputest, "-test.run", "^$", "-test.bench", "^BenchmarkMachine$", "-test.benchtime", "20x")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.cputest, err)
	}
	r := parseRoofline(out)
	if r["peak f32"] == 0 || r["peak bf16"] == 0 || r["read"] == 0 {
		return nil, fmt.Errorf("%s: no peaks in %q", h.cputest, out)
	}
	return r, nil
}

var rooflineLine = regexp.MustCompile(`^BenchmarkMachine/(\w+)(?:/(\w+))?/all\S*\s.*?([0-9.e+]+) (?:GFLOP/s|GB/s)`)

// parseRoofline reads the benchmarks' lines, as in
//
//	BenchmarkMachine/peak/bf16/all-2   5   201.5 GFLOP/s
func parseRoofline(out []byte) map[string]float64 {
	r := map[string]float64{}
	for line := range bytes.Lines(out) {
		if m := rooflineLine.FindSubmatch(line); m != nil {
			name := string(m[1])
			if len(m[2]) > 0 {
				name += " " + string(m[2])
			}
			if v, err := strconv.ParseFloat(string(m[3]), 64); err == nil {
				r[name] = v
			}
		}
	}
	return r
}

package main

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/bench/unit"
)

// TestMain lets this test binary be the worker that the tests start: `fast` works, `slow` hangs,
// `broken` fails at once, `refuses` at each unit.
func TestMain(m *testing.M) {
	var c unit.Config
	if len(os.Args) != 2 || json.Unmarshal([]byte(os.Args[1]), &c) != nil {
		os.Exit(m.Run())
	}
	if c.DType == "broken" {
		os.Stderr.WriteString("some traceback\nno such dtype\n")
		os.Exit(1)
	}
	units := 0
	err := unit.Serve(os.Stdin, os.Stdout, map[string]string{"worker": c.DType}, func() (unit.Result, error) {
		units++
		switch c.DType {
		case "slow":
			time.Sleep(time.Hour)
		case "refuses":
			return unit.Result{}, errors.New("out of tokens")
		}
		return unit.Result{Seconds: float64(units * c.Batch)}, nil
	})
	if err != nil {
		os.Exit(2)
	}
	os.Exit(0)
}

func testHarness(t *testing.T) *harness {
	h := &harness{known: &Results{}, fastest: map[string]string{}, calm: math.Inf(1)}
	h.worker, h.patience, h.versions = os.Args[0], 10*time.Second, map[string]string{}
	dir := t.TempDir()
	h.turns.files = []string{filepath.Join(dir, "gate"), filepath.Join(dir, "cpu")}
	return h
}

func side(dtype string, seconds int) unit.Config { return unit.Config{DType: dtype, Batch: seconds} }

// The fastest of the peer's settings is measured, those that fail or hang are only named.
func TestCompare(t *testing.T) {
	h := testHarness(t)
	h.patience = 2 * time.Second
	rows, err := h.compare(comparison{
		name: "c", ours: side("fast", 1), pairs: 3,
		peers:   []rival{{"x slow", side("slow", 1)}, {"x ten", side("fast", 10)}, {"x two", side("fast", 2)}, {"x broken", side("broken", 1)}},
		figures: []figure{{name: "c", unit: "tokens/s", value: perSecond(60)}},
		shares:  []share{{name: "s", work: 1e9, peak: "absent"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	// After one unit to warm up: 2, 3, 4 seconds, and the peer's twice as many.
	if len(rows) != 1 || rows[0].Ours != 20 || rows[0].Peer != 10 || rows[0].Ratio != 2 || rows[0].Setting != "x two" {
		t.Errorf("%+v", rows)
	}
	if trials := rows[0].Trials; trials["x two"] != "15 tokens/s" || !strings.Contains(trials["x slow"], "too slow") || !strings.Contains(trials["x broken"], "no such dtype") {
		t.Errorf("trials %v", trials)
	}
	if h.versions["worker"] != "fast" {
		t.Errorf("versions %v", h.versions)
	}
}

func TestQuick(t *testing.T) {
	h := testHarness(t)
	h.quick = true
	h.known.merge(Row{Name: "c", Setting: "x ten"})
	rows, err := h.compare(comparison{
		name: "c", ours: side("fast", 1), pairs: 1, peers: []rival{{"x two", side("fast", 2)}, {"x ten", side("fast", 10)}},
		figures: []figure{{name: "c", value: perSecond(60)}},
	})
	if err != nil || len(rows) != 1 || rows[0].Setting != "x ten" || rows[0].Ratio != 10 {
		t.Errorf("%+v, %v", rows, err)
	}
}

func TestWorkerErrors(t *testing.T) {
	for dtype, want := range map[string]string{"broken": "no such dtype", "refuses": "out of tokens"} {
		h := testHarness(t)
		_, err := h.compare(comparison{name: "c", ours: side(dtype, 1), pairs: 1, peers: []rival{{"x", side("fast", 1)}}, figures: []figure{{value: perSecond(1)}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dtype, err, want)
		}
	}
}

// Who times is alone.
func TestTurns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cpu")
	mine, other := &turns{files: []string{file}, most: time.Hour}, &turns{files: []string{file}, most: time.Hour}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(mine.take())
	must(mine.take()) // it still is
	taken := make(chan error)
	go func() { taken <- other.take() }()
	select {
	case err := <-taken:
		t.Fatalf("two have the turn at once: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	mine.end()
	must(<-taken)
	other.end()
	began := mine.since
	mine.most = 0
	must(mine.take())
	must(mine.take()) // a new one
	if len(mine.held) != 1 || !mine.since.After(began) {
		t.Errorf("holds %d files since %v", len(mine.held), mine.since)
	}
	mine.end()
}

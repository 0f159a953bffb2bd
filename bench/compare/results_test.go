package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMerge(t *testing.T) {
	r := &Results{Machine: Machine{CPU: "cpu"}}
	r.merge(Row{Name: "a", Ratio: 1})
	r.merge(Row{Name: "b", Ratio: 2})
	r.merge(Row{Name: "a", Ratio: 3})
	if len(r.Rows) != 2 || r.Rows[0].Ratio != 3 || r.Rows[1].Ratio != 2 || r.Rows[0].Machine != "cpu" {
		t.Errorf("rows %+v", r.Rows)
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		row  Row
		want string
	}{
		{Row{Ratio: 1.8, Bar: 1.8, Goal: 2.5}, "bar"},
		{Row{Ratio: 1.79, Bar: 1.8, Goal: 2.5}, "no"},
		{Row{Ratio: 2.6, Bar: 1.8, Goal: 2.5}, "goal"},
		{Row{Ratio: 0.5, Bar: 0.6, Goal: 0.4, Less: true}, "bar"},
		{Row{Ratio: 0.3, Bar: 0.6, Goal: 0.4, Less: true}, "goal"},
		{Row{Ratio: 0.7, Bar: 0.6, Goal: 0.4, Less: true}, "no"},
		{Row{Ratio: 0.61, Goal: 0.6}, "goal"},
		{Row{Ratio: 0.59, Goal: 0.6}, "no"},
	} {
		if got := c.row.verdict(); got != c.want {
			t.Errorf("ratio %v, bar %v, goal %v, less %v: %s, want %s", c.row.Ratio, c.row.Bar, c.row.Goal, c.row.Less, got, c.want)
		}
	}
}

// What is written is read again, rows in the plan's order, those that no plan has left out.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	store, page := filepath.Join(dir, "results.json"), filepath.Join(dir, "RESULTS.md")
	plan := []comparison{{figures: []figure{{name: "first"}}, shares: []share{{name: "peak"}}}, {figures: []figure{{name: "second"}}}}
	r := &Results{Machine: Machine{CPU: "some cpu", Cores: 2, Flags: []string{"avx2"}}, Versions: map[string]string{"torch": "2"}, Roofline: map[string]float64{"read": 30}}
	for _, row := range []Row{
		{Name: "second", What: "memory", Against: "PyTorch", Setting: "torch bf16", Unit: "GiB", Ours: 2, Peer: 4, Ratio: 0.5, Ratios: []float64{0.5, 0.5}, Bar: 0.6, Goal: 0.4, Less: true, Others: 0.5},
		{Name: "gone"}, {Name: "peak", Ratio: 0.5, Goal: 0.6},
		{Name: "first", What: "step", Ours: 300, Peer: 100, Ratio: 3, Bar: 1.8, Goal: 2.5, Trials: map[string]string{"torch f32": "100"}},
	} {
		r.merge(row)
	}
	if err := r.write(store, page, plan); err != nil {
		t.Fatal(err)
	}
	back, err := readResults(store)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, row := range back.Rows {
		names = append(names, row.Name)
	}
	if got := strings.Join(names, " "); got != "first peak second" {
		t.Errorf("rows %s", got)
	}
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"some cpu, 2 cores", "torch 2", "read 30 GB/s",
		"| step |  | 300 | 100 | 3.00 | 1.8 | 2.5 | goal |",
		"| memory | PyTorch bf16 | 2 GiB | 4 GiB | 0.50 * | the most 0.6 | the most 0.4 | bar |",
		"Settings tried, the best unit of each: torch f32 100.",
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("RESULTS.md lacks %q:\n%s", want, raw)
		}
	}
}

func TestRoofline(t *testing.T) {
	r := parseRoofline([]byte(`goos: linux
BenchmarkMachine/peak/f32/one-2         	       5	       100.6 GFLOP/s
BenchmarkMachine/peak/f32/all-2         	       5	       197.5 GFLOP/s
BenchmarkMachine/peak/bf16/all-16       	       5	      1.9e+03 GFLOP/s
BenchmarkMachine/read/all               	       5	        30.76 GB/s
`))
	if len(r) != 3 || r["peak f32"] != 197.5 || r["peak bf16"] != 1900 || r["read"] != 30.76 {
		t.Errorf("%v", r)
	}
}

func TestSelected(t *testing.T) {
	plan := []comparison{{name: "gemm-32-f32"}, {name: "gemm-2048-f32"}, {name: "train-256"}}
	for names, want := range map[string]int{"": 3, "gemm": 2, "train-256 gemm-32": 2, "gemm gemm-32": 2} {
		if got, err := selected(plan, names); err != nil || len(got) != want {
			t.Errorf("%q: %d comparisons, %v; want %d", names, len(got), err, want)
		}
	}
	if _, err := selected(plan, "train sampling"); err == nil || !strings.Contains(err.Error(), "sampling") {
		t.Errorf("an unknown name: %v", err)
	}
}

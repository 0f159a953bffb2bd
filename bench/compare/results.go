package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"
)

// Results is results.json: the last measurement of each row.
type Results struct {
	Machine  Machine            `json:"machine"`
	Versions map[string]string  `json:"versions"`
	Roofline map[string]float64 `json:"roofline"` // GFLOP/s and GB/s on all cores, of the last run
	Rows     []Row              `json:"rows"`
}

// Row is one figure of ours beside the peer's.
type Row struct {
	Name    string  `json:"name"`
	What    string  `json:"what"`
	Against string  `json:"against"`
	Unit    string  `json:"unit"`
	Ours    float64 `json:"ours"`
	Peer    float64 `json:"peer"`
	Ratio   float64 `json:"ratio"` // in our favour where it is more than 1; with Less, where it is less than Bar
	Bar     float64 `json:"bar,omitempty"`
	Goal    float64 `json:"goal,omitempty"`
	Less    bool    `json:"less,omitempty"`

	Setting   string             `json:"setting,omitempty"` // of the peer: the fastest of Trials
	Trials    map[string]string  `json:"trials,omitempty"`
	Pairs     int                `json:"pairs"`
	Ratios    []float64          `json:"ratios,omitempty"` // of each pair
	OursParts map[string]float64 `json:"ours_parts,omitempty"`
	PeerParts map[string]float64 `json:"peer_parts,omitempty"`
	Others    float64            `json:"others"` // the most cores that other processes used during a unit
	Machine   string             `json:"machine"`
	Commit    string             `json:"commit,omitempty"`
	At        time.Time          `json:"at"`
}

// quiet is how much of a core others may use before a figure is not to be trusted.
const quiet = 0.1

// verdict is what the row says about its bar.
func (r Row) verdict() string {
	met := func(v float64) bool {
		if r.Less {
			return r.Ratio <= v
		}
		return r.Ratio >= v
	}
	switch {
	case r.Goal > 0 && met(r.Goal):
		return "goal"
	case r.Bar > 0 && met(r.Bar):
		return "bar"
	default:
		return "no"
	}
}

func readResults(path string) (*Results, error) {
	r := &Results{Versions: map[string]string{}}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// merge puts a row where an older one of its name is, or at the end.
func (r *Results) merge(row Row) {
	row.Machine = r.Machine.CPU
	if i := slices.IndexFunc(r.Rows, func(o Row) bool { return o.Name == row.Name }); i >= 0 {
		r.Rows[i] = row
		return
	}
	r.Rows = append(r.Rows, row)
}

// check refuses a row that says nothing.
func (r Row) check() error {
	for _, v := range []float64{r.Ours, r.Peer, r.Ratio} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%s: ours %v, peer %v, ratio %v", r.Name, r.Ours, r.Peer, r.Ratio)
		}
	}
	return nil
}

// write saves both files. Rows come in the order of the plan.
func (r *Results) write(jsonPath, markdownPath string, plan []comparison) error {
	order := map[string]int{}
	for _, c := range plan {
		for _, f := range c.figures {
			order[f.name] = len(order)
		}
		for _, s := range c.shares {
			order[s.name] = len(order)
		}
	}
	r.Rows = slices.DeleteFunc(r.Rows, func(row Row) bool { _, known := order[row.Name]; return !known })
	slices.SortStableFunc(r.Rows, func(a, b Row) int { return order[a.Name] - order[b.Name] })
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := replace(jsonPath, append(raw, '\n')); err != nil {
		return err
	}
	return replace(markdownPath, []byte(r.markdown()))
}

// replace writes a file whole or not at all.
func replace(path string, data []byte) error {
	if err := os.WriteFile(path+".part", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

package model

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/seed-8780d58e/spin/compute"
)

// LoRA adds to a projection scale·B·A of low rank, and trains only those (arXiv 2106.09685). The
// factors are named as PEFT names them, without its prefix base_model.model.
type LoRA struct {
	Rank    int
	Alpha   float64  // scale = Alpha / Rank
	Targets []string // q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj
	Seed    uint64   // of A's start
}

const (
	loraA = "lora_A.weight" // [rank, in]
	loraB = "lora_B.weight" // [out, rank]
)

func (l *LoRA) scale() float32 { return float32(l.Alpha / float64(l.Rank)) }

// params are the factors for a model of shape c.
func (l *LoRA) params(c Config) ([]*Param, error) {
	if l.Rank < 1 || !(l.Alpha > 0) {
		return nil, fmt.Errorf("model: LoRA of rank %d and alpha %v", l.Rank, l.Alpha)
	}
	targets := map[int]bool{}
	for p, name := range projections {
		if _, short, _ := strings.Cut(name, "."); slices.Contains(l.Targets, short) {
			targets[p] = true
		}
	}
	if len(targets) != len(l.Targets) || len(targets) == 0 {
		return nil, fmt.Errorf("model: LoRA targets %v, want some of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, each once", l.Targets)
	}
	var ps []*Param
	for i := range c.Layers {
		for p := range linears {
			if !targets[p] {
				continue
			}
			out, in := c.dims(p)
			ps = append(ps,
				&Param{Name: layerName(i, projections[p], loraA), Rows: l.Rank, Cols: in, shape: []int{l.Rank, in}},
				&Param{Name: layerName(i, projections[p], loraB), Rows: out, Cols: l.Rank, shape: []int{out, l.Rank}})
		}
	}
	return ps, nil
}

// initial fills a factor before the first step: B is 0, A uniform in ±1/√in (PEFT's
// Kaiming-uniform with a = √5), drawn by Philox so that it depends on the seed and the name alone.
func (l *LoRA) initial(p *Param, dst []float32) {
	clear(dst)
	if !strings.HasSuffix(p.Name, loraA) {
		return
	}
	h := uint64(14695981039346656037) // FNV-1a of the name
	for _, b := range []byte(p.Name) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	bound := 1 / math.Sqrt(float64(p.Cols))
	key := [2]uint32{uint32(l.Seed), uint32(l.Seed >> 32)}
	for i := range dst {
		u := compute.Uniform([4]uint32{uint32(i), uint32(i >> 32), uint32(h), uint32(h >> 32)}, key)
		dst[i] = float32((2*u - 1) * bound)
	}
}

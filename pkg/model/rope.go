package model

import (
	"fmt"
	"math"
)

func (r RoPE) check() error {
	switch r.Type {
	case "default":
	case "linear":
		if !(r.Factor >= 1) {
			return fmt.Errorf("config.json: rope_scaling factor is %v, want 1 or more", r.Factor)
		}
	case "llama3":
		if !(r.Factor >= 1 && r.LowFreq > 0 && r.HighFreq > r.LowFreq) || r.OrigContext < 1 {
			return fmt.Errorf("config.json: rope_scaling llama3 wants factor ≥ 1, 0 < low_freq_factor < high_freq_factor and original_max_position_embeddings, has %v, %v, %v, %d",
				r.Factor, r.LowFreq, r.HighFreq, r.OrigContext)
		}
	default:
		return fmt.Errorf("config.json: rope_scaling type %q, want default, linear or llama3", r.Type)
	}
	return nil
}

// frequencies are the angles a position turns by, per pair of dimensions (arXiv 2104.09864, eq. 15),
// scaled as transformers' modeling_rope_utils does. transformers keeps them in F32, and so angles of
// far positions carry that rounding: here they do too, to agree with it.
func (r RoPE) frequencies(headDim int) []float64 {
	f := make([]float64, headDim/2)
	for j := range f {
		inv := 1 / math.Pow(r.Theta, float64(2*j)/float64(headDim))
		switch r.Type {
		case "linear":
			inv /= r.Factor
		case "llama3":
			wavelen := 2 * math.Pi / inv
			low, high := float64(r.OrigContext)/r.LowFreq, float64(r.OrigContext)/r.HighFreq
			switch {
			case wavelen > low:
				inv /= r.Factor
			case wavelen >= high:
				smooth := (float64(r.OrigContext)/wavelen - r.LowFreq) / (r.HighFreq - r.LowFreq)
				inv = (1-smooth)*inv/r.Factor + smooth*inv
			}
		}
		f[j] = float64(float32(inv))
	}
	return f
}

// Tables returns cos and sin [positions, headDim/2] of the angle at each position.
func (r RoPE) Tables(positions, headDim int) (cos, sin []float64) {
	freq := r.frequencies(headDim)
	cos, sin = make([]float64, positions*len(freq)), make([]float64, positions*len(freq))
	for p := range positions {
		for j, f := range freq {
			s, c := math.Sincos(float64(float32(float64(p) * f)))
			cos[p*len(freq)+j], sin[p*len(freq)+j] = c, s
		}
	}
	return cos, sin
}

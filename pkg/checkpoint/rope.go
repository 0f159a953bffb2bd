package checkpoint

import (
	"fmt"
	"math"

	"github.com/seed-8780d58e/spin/pkg/gguf"
)

// ropeFactors is the tensor by which a GGUF says that the model scales its frequencies as Llama 3.1 does: what each is
// divided by. The numbers that it was computed from are not in the file.
const ropeFactors = "rope_freqs.weight"

// ropeOf returns rope_scaling, or nil where positions are not scaled.
func ropeOf(f *gguf.File, c config) (*rope, error) {
	if t, ok := f.Tensor(ropeFactors); ok {
		return llama3Of(f, t, c)
	}
	m, prefix := fields{Metadata: f.Metadata}, f.Metadata.Value("general.architecture").(string)+".rope.scaling."
	kind := "none"
	if m.Has(prefix + "type") {
		kind = m.text(prefix + "type")
	}
	r := &rope{Type: kind}
	switch kind {
	case "none":
		return nil, m.err
	case "linear":
		r.Factor = m.float(prefix+"factor", math.NaN())
	case "yarn":
		r.Factor = m.float(prefix+"factor", math.NaN())
		r.OriginalContext = m.int(prefix+"original_context_length", c.MaxPositionEmbeddings)
		for _, key := range []string{"attn_factor", "yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"} {
			if m.Has(prefix + key) {
				return nil, fmt.Errorf("metadata %q is not supported: yarn with the usual parameters is", prefix+key)
			}
		}
	default:
		return nil, fmt.Errorf("metadata %q is %q: none, linear and yarn are supported", prefix+"type", kind)
	}
	return r, m.err
}

// llama3Of finds the factor that explains the tensor, with the other numbers those of all Llama 3.1, 3.2 and 3.3 models,
// and refuses a tensor that it does not explain.
func llama3Of(f *gguf.File, t gguf.Tensor, c config) (*rope, error) {
	if len(t.Shape) != 1 || t.Shape[0] != c.HeadDim/2 {
		return nil, fmt.Errorf("tensor %q has shape %v: a head of %d elements needs [%d]", t.Name, t.Shape, c.HeadDim, c.HeadDim/2)
	}
	got := make([]float32, t.Len())
	if err := f.ReadF32(t.Name, got); err != nil {
		return nil, err
	}
	largest := float32(1)
	for _, v := range got {
		largest = max(largest, v)
	}
	r := &rope{Type: "llama3", Factor: largest, LowFreqFactor: 1, HighFreqFactor: 4, OriginalContext: 8192}
	for i, want := range r.llama3Factors(c.RopeTheta, c.HeadDim) {
		if !(math.Abs(float64(got[i]-want)) <= 1e-3*float64(want)) {
			return nil, fmt.Errorf("tensor %q does not have the form of Llama 3.1 (element %d is %g, not %g)", t.Name, i, got[i], want)
		}
	}
	return r, nil
}

// llama3Factors computes what each frequency is divided by: 1 for short wavelengths, Factor for long ones, a blend
// between (_compute_llama3_parameters of transformers' modeling_rope_utils.py).
func (r rope) llama3Factors(theta float32, headDim int) []float32 {
	factors := make([]float32, headDim/2)
	original, low, high := float64(r.OriginalContext), float64(r.LowFreqFactor), float64(r.HighFreqFactor)
	for i := range factors {
		wavelength := 2 * math.Pi * math.Pow(float64(theta), float64(2*i)/float64(headDim))
		switch {
		case wavelength < original/high:
			factors[i] = 1
		case wavelength > original/low:
			factors[i] = r.Factor
		default:
			smooth := (original/wavelength - low) / (high - low)
			factors[i] = float32(1 / ((1-smooth)/float64(r.Factor) + smooth))
		}
	}
	return factors
}

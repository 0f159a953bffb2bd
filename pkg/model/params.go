package model

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute"
)

// Param is one named weight. What is absent is not there: a frozen weight has no Grad, a weight
// that is only multiplied by has no Master either.
type Param struct {
	Name       string // Hugging Face's, e.g. model.layers.0.self_attn.q_proj.weight
	Rows, Cols int    // a vector is [1, n]
	// W multiplies (matrices of the model). Vec is what operations read where there is no W: a
	// vector in F32, or a LoRA factor in the act dtype.
	W   compute.Weight
	Vec compute.Tensor
	// Master is the F32 truth that W and Vec are rounded from; Grad its gradient.
	Master, Grad compute.Tensor
	shape        []int // as in a checkpoint
}

// Trainable reports whether the parameter takes gradients.
func (p *Param) Trainable() bool { return p != nil && !p.Grad.Absent() }

// Shape is the tensor's shape in a checkpoint.
func (p *Param) Shape() []int { return p.shape }

// spec is a weight that the architecture has.
type spec struct {
	name       string
	rows, cols int
	vector     bool
}

const (
	embedName = "model.embed_tokens.weight"
	normName  = "model.norm.weight"
	headName  = "lm_head.weight"
)

// The linear maps of a layer, in the order in which a layer runs them.
const (
	q = iota
	k
	v
	o
	gate
	up
	down
	linears
)

var projections = [linears]string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}

// dims is a projection's output and input width.
func (c Config) dims(proj int) (out, in int) {
	switch proj {
	case q:
		return c.QueryWidth(), c.Hidden
	case k, v:
		return c.KVWidth(), c.Hidden
	case o:
		return c.Hidden, c.QueryWidth()
	case gate, up:
		return c.Intermediate, c.Hidden
	default:
		return c.Hidden, c.Intermediate
	}
}

func (c Config) hasBias(proj int) bool {
	return proj <= v && c.QKVBias || proj == o && c.OBias
}

func layerName(layer int, part, kind string) string {
	return fmt.Sprintf("model.layers.%d.%s.%s", layer, part, kind)
}

// specs lists every weight of the model, in the order in which a forward pass meets them.
func (c Config) specs() []spec {
	s := []spec{{embedName, c.Vocab, c.Hidden, false}}
	for l := range c.Layers {
		s = append(s, spec{layerName(l, "input_layernorm", "weight"), 1, c.Hidden, true})
		for p := range linears {
			if p == gate {
				s = append(s, spec{layerName(l, "post_attention_layernorm", "weight"), 1, c.Hidden, true})
			}
			out, in := c.dims(p)
			s = append(s, spec{layerName(l, projections[p], "weight"), out, in, false})
			if c.hasBias(p) {
				s = append(s, spec{layerName(l, projections[p], "bias"), 1, out, true})
			}
		}
	}
	s = append(s, spec{normName, 1, c.Hidden, true})
	if !c.Tied {
		s = append(s, spec{headName, c.Vocab, c.Hidden, false})
	}
	return s
}

func (s spec) shape() []int {
	if s.vector {
		return []int{s.cols}
	}
	return []int{s.rows, s.cols}
}

// WeightShape is the shape of a weight of a model of this shape.
func (c Config) WeightShape(name string) ([]int, bool) {
	for _, s := range c.specs() {
		if s.name == name {
			return s.shape(), true
		}
	}
	return nil, false
}

// Names lists the weights of a model of this shape.
func (c Config) Names() []string {
	var names []string
	for _, s := range c.specs() {
		names = append(names, s.name)
	}
	return names
}

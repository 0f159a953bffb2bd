package model

import (
	"fmt"
	"slices"

	"github.com/seed-8780d58e/spin/compute"
)

// Source gives weights by their Hugging Face names: a checkpoint on disk, or another Model.
type Source interface {
	Shape(name string) ([]int, bool)
	// ReadF32 fills dst, row-major.
	ReadF32(name string, dst []float32) error
}

// Options decide what a Model can do.
type Options struct {
	// DType of weights and activations: F32 or BF16 (F64 on ref).
	DType compute.DType
	// Full makes every weight trainable; LoRA, where not nil, only its factors. With neither the
	// model samples and scores.
	Full bool
	LoRA *LoRA
	// MaxContext shortens the longest sequence, and the RoPE tables with it; 0: the model's own.
	MaxContext int
}

func (o Options) train() bool { return o.Full || o.LoRA != nil }

// Model is the weights on one device.
type Model struct {
	Config
	Options
	dev    compute.Device
	arena  compute.Arena
	embed  *Param
	layers []layer
	norm   *Param
	head   *Param // the embedding's Param where tied
	params []*Param
	cos    compute.Tensor // [Context, HeadDim/2]
	sin    compute.Tensor
}

// layer is the weights of one block.
type layer struct {
	norm1, norm2 *Param
	proj         [linears]linear
	qkv, gateUp  []compute.Weight // proj's weights, as Linear takes them
	o, down      []compute.Weight
}

// linear is y = x·Wᵀ + bias, plus scale·(x·Aᵀ)·Bᵀ where it has an adapter.
type linear struct {
	w, bias *Param
	a, b    *Param
	scale   float32
}

// statType is the dtype of vectors, statistics and everything else that is not an activation.
func statType(act compute.DType) compute.DType {
	if act == compute.F64 {
		return compute.F64
	}
	return compute.F32
}

// New builds a model of shape c on dev and fills it from src. LoRA factors that src has are taken,
// others start as LoRA's do.
func New(dev compute.Device, be compute.Backend, c Config, src Source, opt Options) (*Model, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if opt.Full && opt.LoRA != nil {
		return nil, fmt.Errorf("model: full fine-tuning and LoRA exclude each other")
	}
	if opt.MaxContext > 0 {
		c.Context = min(c.Context, opt.MaxContext)
	}
	m := &Model{Config: c, Options: opt, dev: dev}
	for _, s := range c.specs() {
		p := &Param{Name: s.name, Rows: s.rows, Cols: s.cols, shape: s.shape()}
		if got, ok := src.Shape(s.name); !ok {
			return nil, fmt.Errorf("weights: %s is missing", s.name)
		} else if !slices.Equal(got, p.shape) {
			return nil, fmt.Errorf("weights: %s has shape %v, config.json wants %v", s.name, got, p.shape)
		}
		m.params = append(m.params, p)
	}
	base := len(m.params)
	if opt.LoRA != nil {
		ps, err := opt.LoRA.params(c)
		if err != nil {
			return nil, err
		}
		m.params = append(m.params, ps...)
	}
	m.link()
	m.arena = dev.NewArena(m.paramBytes(base))
	for i, p := range m.params {
		m.allocate(p, i >= base)
	}
	m.weights()
	if err := m.fill(be, src); err != nil {
		m.Free()
		return nil, err
	}
	return m, nil
}

// link points the layers at their parameters.
func (m *Model) link() {
	by := map[string]*Param{}
	for _, p := range m.params {
		by[p.Name] = p
	}
	m.embed, m.norm, m.head = by[embedName], by[normName], by[headName]
	if m.Tied {
		m.head = m.embed
	}
	m.layers = make([]layer, m.Layers)
	for i := range m.layers {
		l := &m.layers[i]
		l.norm1 = by[layerName(i, "input_layernorm", "weight")]
		l.norm2 = by[layerName(i, "post_attention_layernorm", "weight")]
		for p := range linears {
			l.proj[p] = linear{
				w: by[layerName(i, projections[p], "weight")], bias: by[layerName(i, projections[p], "bias")],
				a: by[layerName(i, projections[p], loraA)], b: by[layerName(i, projections[p], loraB)],
			}
			if m.LoRA != nil {
				l.proj[p].scale = m.LoRA.scale()
			}
		}
	}
}

// weights collects the slices that Linear and LinearDX take.
func (m *Model) weights() {
	for i := range m.layers {
		l := &m.layers[i]
		w := func(p int) compute.Weight { return l.proj[p].w.W }
		l.qkv = []compute.Weight{w(q), w(k), w(v)}
		l.o = []compute.Weight{w(o)}
		l.gateUp = []compute.Weight{w(gate), w(up)}
		l.down = []compute.Weight{w(down)}
	}
}

// allocate gives p its memory; factor: it is LoRA's.
func (m *Model) allocate(p *Param, factor bool) {
	st := statType(m.DType)
	trainable := m.Full || factor
	matrix := !factor && len(p.shape) == 2
	if matrix {
		p.W = m.dev.NewWeight(p.Rows, p.Cols, m.DType, m.train())
	}
	if trainable {
		p.Master = m.arena.Alloc(st, p.Rows, p.Cols)
		p.Grad = m.arena.Alloc(st, p.Rows, p.Cols)
	}
	switch {
	case matrix:
	case factor && m.DType != st:
		p.Vec = m.arena.Alloc(m.DType, p.Rows, p.Cols)
	case trainable:
		p.Vec = p.Master
	default:
		p.Vec = m.arena.Alloc(st, p.Rows, p.Cols)
	}
}

// align is an upper bound of what an arena adds to keep a tensor's start aligned.
const align = 128

// paramBytes is the arena that the parameters take; base is the number of the model's own.
func (m *Model) paramBytes(base int) int64 {
	st := int64(statType(m.DType).Size())
	total := 2 * (int64(m.Context)*int64(m.HeadDim/2)*st + align)
	for i, p := range m.params {
		n, factor := int64(p.Rows)*int64(p.Cols), i >= base
		if m.Full || factor {
			total += 2 * (n*st + align)
		}
		if factor || len(p.shape) == 1 {
			total += n*st + align
		}
	}
	return total
}

// fill reads the weights from src and makes the tables.
func (m *Model) fill(be compute.Backend, src Source) error {
	st := statType(m.DType)
	be.Reserve(compute.Limits{Width: m.width()}) // Store rounds row by row
	largest := 0
	for _, p := range m.params {
		largest = max(largest, p.Rows*p.Cols)
	}
	host := make([]float32, largest)
	staging := m.dev.NewArena(int64(largest)*int64(st.Size()) + align)
	defer staging.Free()
	for _, p := range m.params {
		h := host[:p.Rows*p.Cols]
		if _, ok := src.Shape(p.Name); ok {
			if err := src.ReadF32(p.Name, h); err != nil {
				return fmt.Errorf("weights: %s: %w", p.Name, err)
			}
		} else {
			m.LoRA.initial(p, h)
		}
		t := p.Master
		if t.Absent() {
			t = p.Vec
		}
		mark := staging.Mark()
		if t.Absent() {
			t = staging.Alloc(st, p.Rows, p.Cols)
		}
		upload(be, t, h)
		m.round(be, p, t)
		staging.Release(mark)
		if !p.Grad.Absent() {
			be.Zero(p.Grad)
		}
	}
	cos, sin := m.RoPE.Tables(m.Context, m.HeadDim)
	m.cos = m.arena.Alloc(st, m.Context, m.HeadDim/2)
	m.sin = m.arena.Alloc(st, m.Context, m.HeadDim/2)
	uploadF64(be, m.cos, cos)
	uploadF64(be, m.sin, sin)
	return be.Wait(be.Download(make([]byte, st.Size()), m.cos.Slice(0, 1).Columns(0, 1)))
}

// width is the widest activation's columns.
func (m *Model) width() int { return max(m.Hidden, m.Intermediate, m.QueryWidth()) }

// round makes what the operations read from t, the parameter's truth.
func (m *Model) round(be compute.Backend, p *Param, t compute.Tensor) {
	switch {
	case p.W != nil:
		be.Store(p.W, 0, t)
	case p.Vec != t:
		be.Copy(p.Vec, t)
	}
}

// Params lists the parameters, LoRA's factors last.
func (m *Model) Params() []*Param { return m.params }

// Device is where the model lives.
func (m *Model) Device() compute.Device { return m.dev }

// Bytes is the device memory that the weights and gradients take.
func (m *Model) Bytes() int64 {
	n := m.arena.Peak()
	for _, p := range m.params {
		if p.W != nil {
			n += p.W.Bytes()
		}
	}
	return n
}

// Free gives the device memory back.
func (m *Model) Free() {
	for _, p := range m.params {
		if p.W != nil {
			p.W.Free()
		}
	}
	m.arena.Free()
}

// upload writes src to t, whatever t's float type is.
func upload(be compute.Backend, t compute.Tensor, src []float32) {
	if t.DType == compute.F32 {
		compute.Write(be, t, src)
		return
	}
	wide := make([]float64, len(src))
	for i, x := range src {
		wide[i] = float64(x)
	}
	compute.Write(be, t, wide)
}

func uploadF64(be compute.Backend, t compute.Tensor, src []float64) {
	if t.DType == compute.F64 {
		compute.Write(be, t, src)
		return
	}
	narrow := make([]float32, len(src))
	for i, x := range src {
		narrow[i] = float32(x)
	}
	compute.Write(be, t, narrow)
}

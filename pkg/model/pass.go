package model

import (
	"fmt"
	"math"

	"github.com/seed-8780d58e/spin/compute"
)

func scale(headDim int) float32 { return float32(1 / math.Sqrt(float64(headDim))) }

// PassConfig is the largest batch that a Pass will meet.
type PassConfig struct {
	Tokens   int // of a packed batch: micro_tokens
	Targets  int // whose logp is asked for in one batch; 0: Tokens
	Segments int // 0: Tokens
	Backward bool
	// Memory is a budget in bytes for the layers' activations. What does not fit is computed again
	// in the backward pass, from the layer's input; results do not change by a bit. 0: no bound.
	Memory int64
}

func (c PassConfig) filled() PassConfig {
	if c.Targets == 0 {
		c.Targets = c.Tokens
	}
	if c.Segments == 0 {
		c.Segments = c.Tokens
	}
	return c
}

// Pass is the workspace of forward and backward passes over packed batches. Scoring and training
// run the same operations, so their logps agree to the bit. It belongs to one goroutine.
type Pass struct {
	m     *Model
	be    compute.Backend
	cfg   PassConfig
	arena compute.Arena
	plan  compute.Plan

	ids, pos, targetRows, target compute.Tensor // I32 [n, 1]
	logp, lse, entropy, argmax   compute.Tensor // [targets, 1]
	coef                         compute.Tensor // [targets, 1]
	x, dx                        compute.Tensor // [T, Hidden] stream, and its gradient
	rstd                         compute.Tensor // [T, 1] of the last norm
	kept                         []acts         // a layer each; the shared one where it is recomputed
	recomputed                   []bool
	work                         work
	tokens, targets              int // of the batch at hand
	cur                          acts
	curWork                      work
	batch                        *Batch
	hostF32                      []float32
	logps, entropies             []float64
	argmaxes                     []int32
	scratch                      int64
}

// NewPass makes a Pass on a queue of its own, with all the memory it will ever use.
func (m *Model) NewPass(cfg PassConfig) *Pass {
	cfg = cfg.filled()
	p := &Pass{m: m, be: m.dev.NewBackend(), cfg: cfg}
	p.scratch = p.be.Reserve(compute.Limits{
		Tokens: cfg.Tokens, Width: m.width(), Vocab: m.Vocab,
		HeadRows: cfg.Targets, Segments: cfg.Segments, Context: m.Context, Heads: m.heads(), Train: cfg.Backward,
	})
	p.plan = p.be.NewPlan(cfg.Tokens, cfg.Segments, 0)
	p.arena = m.dev.NewArena(m.passBytes(cfg))
	p.allocate()
	return p
}

// keepBytes is what one layer's kept activations take, and inputBytes its input alone.
func (m *Model) keepBytes(tokens int) int64 {
	act, st := int64(m.DType.Size()), int64(statType(m.DType).Size())
	n := int64(tokens)
	return n*(act*int64(2*m.QueryWidth()+2*m.KVWidth()+2*m.Intermediate)+st*int64(m.Hidden+m.Heads+2)) + 10*align
}

func (m *Model) inputBytes(tokens int) int64 {
	return int64(tokens)*int64(m.Hidden)*int64(statType(m.DType).Size()) + align
}

// ActivationBytes is what a Pass for training keeps where nothing bounds it.
func ActivationBytes(c Config, act compute.DType, tokens int) int64 {
	m := &Model{Config: c, Options: Options{DType: act}}
	return int64(c.Layers) * (m.keepBytes(tokens) + m.inputBytes(tokens))
}

// keptLayers is how many layers keep everything under cfg; the last ones do, whose backward pass
// comes first.
func (m *Model) keptLayers(cfg PassConfig) int {
	if !cfg.Backward {
		return 0
	}
	if cfg.Memory == 0 {
		return m.Layers
	}
	left := cfg.Memory - int64(m.Layers)*m.inputBytes(cfg.Tokens) - m.keepBytes(cfg.Tokens)
	return int(min(max(left/m.keepBytes(cfg.Tokens), 0), int64(m.Layers)))
}

// passBytes is the arena of a Pass.
func (m *Model) passBytes(cfg PassConfig) int64 {
	act, st := int64(m.DType.Size()), int64(statType(m.DType).Size())
	n, targets := int64(cfg.Tokens), int64(cfg.Targets)
	total := n*8 + targets*(4*3+st*4) + 12*align                       // indices and results
	total += n*st*int64(m.Hidden+1) + 4*align                          // x, rstd
	total += n*act*int64(2*m.Hidden+m.Intermediate+m.rank()) + 6*align // n, delta, s, ax
	total += m.keepBytes(cfg.Tokens)                                   // the shared acts
	if cfg.Backward {
		total += n*st*int64(m.Hidden) + align // dx
		total += n*act*int64(m.Hidden+2*m.QueryWidth()+2*m.KVWidth()+3*m.Intermediate+m.rank()) + 12*align
		total += int64(m.Layers)*m.inputBytes(cfg.Tokens) + int64(m.keptLayers(cfg))*m.keepBytes(cfg.Tokens)
	}
	return total
}

func (m *Model) rank() int {
	if m.LoRA == nil {
		return 0
	}
	return m.LoRA.Rank
}

func (p *Pass) allocate() {
	m, a, n := p.m, p.arena, p.cfg.Tokens
	act, st := m.DType, statType(m.DType)
	p.ids, p.pos = a.Alloc(compute.I32, n, 1), a.Alloc(compute.I32, n, 1)
	p.targetRows, p.target, p.argmax = a.Alloc(compute.I32, p.cfg.Targets, 1), a.Alloc(compute.I32, p.cfg.Targets, 1), a.Alloc(compute.I32, p.cfg.Targets, 1)
	p.logp, p.lse, p.entropy, p.coef = a.Alloc(st, p.cfg.Targets, 1), a.Alloc(st, p.cfg.Targets, 1), a.Alloc(st, p.cfg.Targets, 1), a.Alloc(st, p.cfg.Targets, 1)
	p.x, p.rstd = a.Alloc(st, n, m.Hidden), a.Alloc(st, n, 1)
	w := &p.work
	w.n, w.delta[0], w.s = a.Alloc(act, n, m.Hidden), a.Alloc(act, n, m.Hidden), a.Alloc(act, n, m.Intermediate)
	if m.rank() > 0 {
		w.ax = a.Alloc(act, n, m.rank())
	}
	shared := m.allocActs(a, n, p.cfg.Backward)
	p.kept, p.recomputed = make([]acts, m.Layers), make([]bool, m.Layers)
	for i := range p.kept {
		p.kept[i] = shared
	}
	if p.cfg.Backward {
		p.dx = a.Alloc(st, n, m.Hidden)
		w.dn[0], w.dy, w.ds = a.Alloc(act, n, m.Hidden), a.Alloc(act, n, m.QueryWidth()), a.Alloc(act, n, m.Intermediate)
		w.dgu = [2]compute.Tensor{a.Alloc(act, n, m.Intermediate), a.Alloc(act, n, m.Intermediate)}
		w.dq = [3]compute.Tensor{a.Alloc(act, n, m.QueryWidth()), a.Alloc(act, n, m.KVWidth()), a.Alloc(act, n, m.KVWidth())}
		if m.rank() > 0 {
			w.dax = a.Alloc(act, n, m.rank())
		}
		first := m.Layers - m.keptLayers(p.cfg)
		for i := range p.kept {
			if p.recomputed[i] = i < first; !p.recomputed[i] {
				p.kept[i] = m.allocActs(a, n, true)
			}
			p.kept[i].x1 = a.Alloc(st, n, m.Hidden)
		}
	}
	p.hostF32 = make([]float32, p.cfg.Targets)
	p.logps, p.entropies, p.argmaxes = make([]float64, p.cfg.Targets), make([]float64, p.cfg.Targets), make([]int32, p.cfg.Targets)
}

// allocActs takes a layer's activations but x1; x2 is kept only for a backward pass.
func (m *Model) allocActs(a compute.Arena, n int, backward bool) acts {
	act, st := m.DType, statType(m.DType)
	t := acts{
		rstd1: a.Alloc(st, n, 1), rstd2: a.Alloc(st, n, 1), lse: a.Alloc(st, n, m.Heads),
		qkv: [3]compute.Tensor{a.Alloc(act, n, m.QueryWidth()), a.Alloc(act, n, m.KVWidth()), a.Alloc(act, n, m.KVWidth())},
		y:   a.Alloc(act, n, m.QueryWidth()),
		gu:  [2]compute.Tensor{a.Alloc(act, n, m.Intermediate), a.Alloc(act, n, m.Intermediate)},
	}
	if backward {
		t.x2 = a.Alloc(st, n, m.Hidden)
	}
	return t
}

// LogProbs runs the batch forward and returns the logp of each target, in nats, valid until the
// next call. Entropies and Argmax then give the other statistics.
func (p *Pass) LogProbs(b *Batch) ([]float64, error) {
	m, be := p.m, p.be
	if n := b.Tokens(); n > p.cfg.Tokens || b.Segments() > p.cfg.Segments || len(b.Targets) > p.cfg.Targets {
		return nil, fmt.Errorf("batch of %d tokens, %d segments, %d targets; the pass holds %d, %d, %d",
			n, b.Segments(), len(b.Targets), p.cfg.Tokens, p.cfg.Segments, p.cfg.Targets)
	}
	for t, id := range b.IDs {
		if id < 0 || int(id) >= m.Vocab {
			return nil, fmt.Errorf("token %d has id %d, the vocabulary has %d", t, id, m.Vocab)
		}
		if int(b.Pos[t]) >= m.Context {
			return nil, fmt.Errorf("token %d is at position %d, the model's context is %d", t, b.Pos[t], m.Context)
		}
	}
	for i, id := range b.Targets {
		if id < 0 || int(id) >= m.Vocab {
			return nil, fmt.Errorf("target %d has id %d, the vocabulary has %d", i, id, m.Vocab)
		}
	}
	p.batch, p.tokens, p.targets = b, b.Tokens(), len(b.Targets)
	p.plan.Set(b.Layout)
	compute.Write(be, p.ids.Slice(0, p.tokens), b.IDs)
	compute.Write(be, p.pos.Slice(0, p.tokens), b.Pos)
	compute.Write(be, p.targetRows.Slice(0, p.targets), b.Rows)
	compute.Write(be, p.target.Slice(0, p.targets), b.Targets)
	p.forward()
	return p.results()
}

func (p *Pass) forward() {
	m, be, t := p.m, p.be, p.tokens
	x, pos := p.x.Slice(0, t), p.pos.Slice(0, t)
	p.curWork = p.work.rows(t)
	w := &p.curWork
	be.Embed(x, m.embed.W, p.ids.Slice(0, t))
	delta := compute.Tensor{}
	for i := range m.layers {
		p.cur = p.kept[i].rows(t)
		p.layer(i, x, delta, pos)
		delta = w.delta[0]
	}
	be.AddRMSNorm(w.n, p.rstd.Slice(0, t), x, delta, m.norm.Vec, float32(m.Eps))
	n := p.targets
	be.HeadLogProb(p.logp.Slice(0, n), p.lse.Slice(0, n), p.entropy.Slice(0, n), p.argmax.Slice(0, n), w.n, p.targetRows.Slice(0, n), p.target.Slice(0, n), m.head.W)
}

// layer runs layer i forward on p.cur and leaves its contribution in delta.
func (p *Pass) layer(i int, x, delta, pos compute.Tensor) {
	m, be, a, w := p.m, p.be, &p.cur, &p.curWork
	m.attend(be, &m.layers[i], a, w, x, delta, pos)
	if !a.x1.Absent() {
		be.Copy(a.x1, x)
	}
	be.Attention(a.y, a.lse, a.qkv[q], a.qkv[k], a.qkv[v], m.heads(), p.plan)
	m.mix(be, &m.layers[i], a, w, x, w.delta[:])
	m.feed(be, &m.layers[i], a, w)
}

// results brings logp, entropy and argmax to the host.
func (p *Pass) results() ([]float64, error) {
	n := p.targets
	if err := p.read(p.logps[:n], p.logp.Slice(0, n)); err != nil {
		return nil, err
	}
	if err := p.read(p.entropies[:n], p.entropy.Slice(0, n)); err != nil {
		return nil, err
	}
	if err := compute.Read(p.be, p.argmaxes[:n], p.argmax.Slice(0, n)); err != nil {
		return nil, err
	}
	return p.logps[:n], nil
}

func (p *Pass) read(dst []float64, t compute.Tensor) error {
	if t.DType == compute.F64 {
		return compute.Read(p.be, dst, t)
	}
	h := p.hostF32[:len(dst)]
	if err := compute.Read(p.be, h, t); err != nil {
		return err
	}
	for i, v := range h {
		dst[i] = float64(v)
	}
	return nil
}

// Entropies of the distributions that the last LogProbs' targets were predicted by, in nats.
func (p *Pass) Entropies() []float64 { return p.entropies[:p.targets] }

// Argmax is the most probable id at each of the last LogProbs' targets.
func (p *Pass) Argmax() []int32 { return p.argmaxes[:p.targets] }

// Backward adds Σᵢ coef[i]·∂logp[i] of the last LogProbs' batch to the gradients. It may be asked
// once for each LogProbs.
func (p *Pass) Backward(coef []float64) {
	m, be, t, n := p.m, p.be, p.tokens, p.targets
	if !p.cfg.Backward || len(coef) != n || p.batch == nil {
		panic(fmt.Sprintf("model: Backward of %d coefficients after a batch of %d targets", len(coef), n))
	}
	p.batch = nil
	p.writeCoef(coef)
	w, pos, dx := &p.curWork, p.pos.Slice(0, t), p.dx.Slice(0, t)
	rows, target := p.targetRows.Slice(0, n), p.target.Slice(0, n)
	be.HeadLogProbBackward(w.dn[0], m.head.Grad, p.coef.Slice(0, n), p.lse.Slice(0, n), w.n, rows, target, m.head.W)
	be.Zero(dx)
	be.AddRMSNormBackward(dx, w.delta[0], m.norm.Grad, w.dn[0], p.x.Slice(0, t), m.norm.Vec, p.rstd.Slice(0, t), float32(m.Eps))
	for i := len(m.layers) - 1; i >= 0; i-- {
		p.cur = p.kept[i].rows(t)
		if p.recomputed[i] {
			p.recompute(i, pos)
		}
		m.backward(be, &m.layers[i], &p.cur, w, dx, pos, p.plan)
	}
	be.EmbedBackward(m.embed.Grad, dx, p.ids.Slice(0, t))
}

// recompute runs layer i forward again from its input, and leaves delta as it found it.
func (p *Pass) recompute(i int, pos compute.Tensor) {
	m, be, a, w := p.m, p.be, &p.cur, &p.curWork
	x := p.x.Slice(0, p.tokens)
	be.Copy(x, a.x1)
	m.attend(be, &m.layers[i], a, w, x, compute.Tensor{}, pos)
	be.Attention(a.y, a.lse, a.qkv[q], a.qkv[k], a.qkv[v], m.heads(), p.plan)
	m.mix(be, &m.layers[i], a, w, x, w.dn[:])
}

func (p *Pass) writeCoef(coef []float64) {
	t := p.coef.Slice(0, p.targets)
	if t.DType == compute.F64 {
		compute.Write(p.be, t, coef)
		return
	}
	h := p.hostF32[:len(coef)]
	for i, c := range coef {
		h[i] = float32(c)
	}
	compute.Write(p.be, t, h)
}

// Config is the largest batch that the pass holds.
func (p *Pass) Config() PassConfig { return p.cfg }

// Backend is the queue that the pass runs on.
func (p *Pass) Backend() compute.Backend { return p.be }

// Bytes is the device memory of the pass: its arena and the backend's scratch.
func (p *Pass) Bytes() int64 { return p.arena.Peak() + p.scratch }

// Free gives the device memory back.
func (p *Pass) Free() { p.arena.Free() }

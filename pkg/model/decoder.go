package model

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute"
)

// DecoderConfig is the size of a Decoder.
type DecoderConfig struct {
	Rows       int // tokens of one step: decode rows and prefill chunks together
	Sequences  int // segments of one step
	Pages      int // of the cache
	PageTokens int // positions a page holds
}

// Decoder advances sequences over a paged cache of keys and values, and samples. It belongs to one
// goroutine.
type Decoder struct {
	m     *Model
	be    compute.Backend
	cfg   DecoderConfig
	arena compute.Arena
	plan  compute.Plan
	cache []compute.Cache // a layer each

	ids, pos, rows compute.Tensor // I32 [n, 1]
	x              compute.Tensor // [n, Hidden] stream
	last           [1]compute.Tensor
	logits         [1]compute.Tensor // [sequences, Vocab]
	hidden         compute.Tensor    // [sequences, Hidden] act
	rstd           compute.Tensor
	acts           acts
	work           work
	cur            acts
	curWork        work
	copyDst        compute.Tensor // I32 [sequences, 1]
	copySrc        compute.Tensor
	sampled, logp  compute.Tensor // [sequences, 1]
	sampling       compute.Sampling
	curSampling    compute.Sampling
	head           []compute.Weight
	logpF32        []float32
	host           hostDraws
	tokens, drawn  int    // of the step at hand
	body           func() // run, bound once
	scratch        int64
}

// hostDraws is the step's Draws in the columns that compute.Sampling has.
type hostDraws struct {
	key, counter      []uint32
	temperature, topP []float32
	topK              []int32
}

// Draw is how one row is sampled; see compute.Sampling.
type Draw struct {
	Seed        uint64
	Iteration   uint32
	Prompt      uint32
	Draw        uint32
	Position    uint32
	Temperature float32
	TopP        float32
	TopK        int32
}

// Step is one advance of some sequences: decode rows, prefill chunks, or both.
type Step struct {
	compute.Layout         // with Past and Pages
	IDs            []int32 // [tokens]
	Rows           []int32 // the tokens after which an id is drawn
	Draws          []Draw  // one for each of Rows
}

// NewDecoder makes a Decoder on a queue of its own, with all the memory it will ever use.
func (m *Model) NewDecoder(cfg DecoderConfig) *Decoder {
	d := &Decoder{m: m, be: m.dev.NewBackend(), cfg: cfg, head: []compute.Weight{m.head.W}}
	d.scratch = d.be.Reserve(compute.Limits{
		Tokens: cfg.Rows, Width: m.width(), Vocab: m.Vocab,
		Segments: cfg.Sequences, Context: m.Context, Heads: m.heads(),
	})
	d.plan = d.be.NewPlan(cfg.Rows, cfg.Sequences, cfg.Sequences*((m.Context+cfg.PageTokens-1)/cfg.PageTokens))
	d.arena = m.dev.NewArena(m.decoderBytes(cfg))
	a, n, s := d.arena, cfg.Rows, cfg.Sequences
	act, st := m.DType, statType(m.DType)
	d.ids, d.pos = a.Alloc(compute.I32, n, 1), a.Alloc(compute.I32, n, 1)
	d.rows, d.copyDst, d.copySrc, d.sampled = a.Alloc(compute.I32, s, 1), a.Alloc(compute.I32, s, 1), a.Alloc(compute.I32, s, 1), a.Alloc(compute.I32, s, 1)
	d.logp, d.rstd = a.Alloc(st, s, 1), a.Alloc(st, n, 1)
	d.sampling = compute.Sampling{
		Key: a.Alloc(compute.I32, s, 2), Counter: a.Alloc(compute.I32, s, 4),
		Temperature: a.Alloc(compute.F32, s, 1), TopP: a.Alloc(compute.F32, s, 1), TopK: a.Alloc(compute.I32, s, 1),
	}
	d.x, d.hidden, d.logits[0] = a.Alloc(st, n, m.Hidden), a.Alloc(act, s, m.Hidden), a.Alloc(st, s, m.Vocab)
	d.work = work{n: a.Alloc(act, n, m.Hidden), s: a.Alloc(act, n, m.Intermediate), delta: [1]compute.Tensor{a.Alloc(act, n, m.Hidden)}}
	if m.rank() > 0 {
		d.work.ax = a.Alloc(act, n, m.rank())
	}
	d.acts = m.allocActs(a, n, false)
	for range m.Layers {
		kv := cfg.Pages * cfg.PageTokens
		d.cache = append(d.cache, compute.Cache{K: a.Alloc(act, kv, m.KVWidth()), V: a.Alloc(act, kv, m.KVWidth()), PageTokens: cfg.PageTokens})
	}
	d.logpF32, d.body = make([]float32, s), d.run
	d.host = hostDraws{make([]uint32, 2*s), make([]uint32, 4*s), make([]float32, s), make([]float32, s), make([]int32, s)}
	return d
}

func (m *Model) decoderBytes(cfg DecoderConfig) int64 {
	act, st := int64(m.DType.Size()), int64(statType(m.DType).Size())
	n, s := int64(cfg.Rows), int64(cfg.Sequences)
	total := n*8 + s*(4*4+4*9) + 12*align
	total += s*st + n*st + n*st*int64(m.Hidden) + s*act*int64(m.Hidden) + s*st*int64(m.Vocab) + 8*align
	total += n*act*int64(2*m.Hidden+m.Intermediate+m.rank()) + 6*align
	total += m.keepBytes(cfg.Rows)
	return total + int64(m.Layers)*m.CacheBytes(cfg.Pages, cfg.PageTokens)
}

// CacheBytes is what one layer's cache of that many pages takes.
func (m *Model) CacheBytes(pages, pageTokens int) int64 {
	return 2 * (int64(pages)*int64(pageTokens)*int64(m.KVWidth())*int64(m.DType.Size()) + align)
}

// Config of the decoder.
func (d *Decoder) Config() DecoderConfig { return d.cfg }

// Model whose weights the decoder runs.
func (d *Decoder) Model() *Model { return d.m }

// CopyPages copies page src[i] to page dst[i] in every layer. There are at most Sequences of them.
func (d *Decoder) CopyPages(dst, src []int32) {
	if len(dst) == 0 {
		return
	}
	to, from := d.copyDst.Slice(0, len(dst)), d.copySrc.Slice(0, len(src))
	compute.Write(d.be, to, dst)
	compute.Write(d.be, from, src)
	for _, c := range d.cache {
		d.be.CopyPages(c, to, from)
	}
}

// Advance runs the step and draws an id after each of its Rows: ids and logps (log softmax of the
// whole vocabulary at temperature 1, in nats) are of len(s.Rows). A row whose logits are not finite
// is an error.
func (d *Decoder) Advance(s *Step, ids []int32, logps []float64) error {
	be, n := d.be, s.Tokens()
	if n > d.cfg.Rows || s.Segments() > d.cfg.Sequences || len(s.Rows) > d.cfg.Sequences || len(s.IDs) != n || len(s.Draws) != len(s.Rows) {
		panic(fmt.Sprintf("model: step of %d tokens, %d segments, %d draws; the decoder holds %d, %d", n, s.Segments(), len(s.Rows), d.cfg.Rows, d.cfg.Sequences))
	}
	d.tokens, d.drawn = n, len(s.Rows)
	d.cur, d.curWork = d.acts.rows(n), d.work.rows(n)
	d.plan.Set(s.Layout)
	compute.Write(be, d.pos.Slice(0, n), s.Pos)
	compute.Write(be, d.ids.Slice(0, n), s.IDs)
	compute.Write(be, d.rows.Slice(0, d.drawn), s.Rows)
	d.setSampling(s.Draws)
	be.Graph(uint64(n)<<32|uint64(d.drawn), d.body)
	if d.drawn == 0 {
		return nil
	}
	return d.results(ids[:d.drawn], logps[:d.drawn])
}

// run is the device's part of a step: it touches device memory alone, so that a device can record
// it once for a number of tokens and draws, and replay it.
func (d *Decoder) run() {
	m, be, n := d.m, d.be, d.tokens
	a, w, x, pos := &d.cur, &d.curWork, d.x.Slice(0, n), d.pos.Slice(0, n)
	be.Embed(x, m.embed.W, d.ids.Slice(0, n))
	delta := compute.Tensor{}
	for i := range m.layers {
		l := &m.layers[i]
		m.attend(be, l, a, w, x, delta, pos)
		be.WriteKV(d.cache[i], a.qkv[k], a.qkv[v], d.plan)
		be.AttentionPaged(a.y, a.qkv[q], d.cache[i], m.heads(), d.plan)
		m.mix(be, l, a, w, x, w.delta[:])
		m.feed(be, l, a, w)
		delta = w.delta[0]
	}
	if d.drawn == 0 {
		return
	}
	be.AddRMSNorm(w.n, d.rstd.Slice(0, n), x, delta, m.norm.Vec, float32(m.Eps))
	hidden := d.hidden.Slice(0, d.drawn)
	be.Gather(hidden, w.n, d.rows.Slice(0, d.drawn))
	d.last[0] = d.logits[0].Slice(0, d.drawn)
	be.Linear(d.last[:], hidden, d.head, false)
	be.Sample(d.sampled.Slice(0, d.drawn), d.logp.Slice(0, d.drawn), d.last[0], &d.curSampling)
}

// setSampling sends the draws' keys and settings to the device.
func (d *Decoder) setSampling(draws []Draw) {
	h, n := &d.host, len(draws)
	for i, w := range draws {
		h.key[2*i], h.key[2*i+1] = uint32(w.Seed), uint32(w.Seed>>32)
		copy(h.counter[4*i:], []uint32{w.Iteration, w.Prompt, w.Draw, w.Position})
		h.temperature[i], h.topP[i], h.topK[i] = w.Temperature, w.TopP, w.TopK
	}
	d.curSampling = compute.Sampling{
		Key: d.sampling.Key.Slice(0, n), Counter: d.sampling.Counter.Slice(0, n),
		Temperature: d.sampling.Temperature.Slice(0, n), TopP: d.sampling.TopP.Slice(0, n), TopK: d.sampling.TopK.Slice(0, n),
	}
	compute.Write(d.be, d.curSampling.Key, h.key[:2*n])
	compute.Write(d.be, d.curSampling.Counter, h.counter[:4*n])
	compute.Write(d.be, d.curSampling.Temperature, h.temperature[:n])
	compute.Write(d.be, d.curSampling.TopP, h.topP[:n])
	compute.Write(d.be, d.curSampling.TopK, h.topK[:n])
}

// results brings the draws to the host.
func (d *Decoder) results(ids []int32, logps []float64) error {
	n := len(ids)
	if d.logp.DType == compute.F64 {
		if err := compute.Read(d.be, logps, d.logp.Slice(0, n)); err != nil {
			return err
		}
	} else {
		if err := compute.Read(d.be, d.logpF32[:n], d.logp.Slice(0, n)); err != nil {
			return err
		}
		for i, v := range d.logpF32[:n] {
			logps[i] = float64(v)
		}
	}
	if err := compute.Read(d.be, ids, d.sampled.Slice(0, n)); err != nil {
		return err
	}
	for i, id := range ids {
		if id < 0 {
			return fmt.Errorf("logits of row %d of the step are not finite", i)
		}
	}
	return nil
}

// Bytes is the device memory of the decoder: its arena, cache included, and the scratch.
func (d *Decoder) Bytes() int64 { return d.arena.Peak() + d.scratch }

// Free gives the device memory back.
func (d *Decoder) Free() { d.arena.Free() }

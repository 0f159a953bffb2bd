//go:build cuda

package cuda_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/ref"
)

// toy is a llama-shaped decoder in the operations of the contract, in the order in which pkg/model
// decodes, with everything that changes from step to step in device memory.
type toy struct {
	dev   compute.Device
	b     compute.Backend
	arena compute.Arena
	dt    compute.DType // of activations
	wide  compute.DType // of the stream

	embed, head     compute.Weight
	layers          []toyLayer
	norm, cos, sin  compute.Tensor
	plan            compute.Plan
	ids, pos, rows  compute.Tensor // I32 [sequences, 1]
	x, y, rstd      compute.Tensor
	q, k, v, mixed  compute.Tensor
	gate, up, gated compute.Tensor
	delta, last     compute.Tensor
	logits          compute.Tensor // [sequences, vocab]
	sampling        compute.Sampling
	sampled, logp   compute.Tensor
	bodies          int // times that body was called
	host            [2][]int32
	hostLogp, hostZ []float32
	tokens          int
}

type toyLayer struct {
	norms     [2]compute.Tensor
	qkv       []compute.Weight
	out, down compute.Weight
	gateUp    []compute.Weight
	cache     compute.Cache
}

const (
	toyHidden, toyInner, toyVocab = 32, 44, 300
	toyLayers, toyContext         = 2, 70
	toySequences, toyPageTokens   = 3, 4
	toyPages                      = toySequences * (toyContext + toyPageTokens - 1) / toyPageTokens
)

func toyHeads() compute.Heads {
	return compute.Heads{Q: 4, KV: 2, Dim: 8, Scale: float32(1 / math.Sqrt(8))}
}

// newToy makes the same model on any device; tokens is the most of one step.
func newToy(dev compute.Device, dt, wide compute.DType, tokens int) *toy {
	m := &toy{dev: dev, b: dev.NewBackend(), arena: dev.NewArena(4 << 20), dt: dt, wide: wide, tokens: tokens}
	h := toyHeads()
	m.b.Reserve(compute.Limits{Tokens: tokens, Width: toyInner, Vocab: toyVocab, Segments: toySequences, Context: toyContext, Heads: h})
	random := rand.New(rand.NewPCG(1, 2))
	tensor := func(dt compute.DType, rows, cols int, f func(i int) float64) compute.Tensor {
		t := m.arena.Alloc(dt, rows, cols)
		upload(m.b, t, f)
		return t
	}
	weight := func(out, in int) compute.Weight {
		w := dev.NewWeight(out, in, dt, false)
		mark := m.arena.Mark()
		m.b.Store(w, 0, tensor(wide, out, in, func(int) float64 {
			// What BF16 holds, so that the oracle has the same weights.
			return float64(compute.F32FromBF16(compute.BF16FromF32(float32(random.NormFloat64() / math.Sqrt(float64(in))))))
		}))
		m.arena.Release(mark)
		return w
	}
	one := func(int) float64 { return float64(float32(1 + random.NormFloat64()/8)) }
	m.embed, m.head = weight(toyVocab, toyHidden), weight(toyVocab, toyHidden)
	m.norm = tensor(wide, 1, toyHidden, one)
	half := h.Dim / 2
	angle := func(i int) float64 { return float64(i/half) * math.Pow(10000, -2*float64(i%half)/float64(h.Dim)) }
	m.cos = tensor(wide, toyContext, half, func(i int) float64 { return float64(float32(math.Cos(angle(i)))) })
	m.sin = tensor(wide, toyContext, half, func(i int) float64 { return float64(float32(math.Sin(angle(i)))) })
	for range toyLayers {
		l := toyLayer{
			norms:  [2]compute.Tensor{tensor(wide, 1, toyHidden, one), tensor(wide, 1, toyHidden, one)},
			qkv:    []compute.Weight{weight(h.Q*h.Dim, toyHidden), weight(h.KV*h.Dim, toyHidden), weight(h.KV*h.Dim, toyHidden)},
			out:    weight(toyHidden, h.Q*h.Dim),
			gateUp: []compute.Weight{weight(toyInner, toyHidden), weight(toyInner, toyHidden)},
			down:   weight(toyHidden, toyInner),
		}
		kv := func() compute.Tensor { return m.arena.Alloc(dt, toyPages*toyPageTokens, h.KV*h.Dim) }
		l.cache = compute.Cache{K: kv(), V: kv(), PageTokens: toyPageTokens}
		m.layers = append(m.layers, l)
	}
	m.plan = m.b.NewPlan(tokens, toySequences, toyPages)
	act := func(rows, cols int) compute.Tensor { return m.arena.Alloc(dt, rows, cols) }
	m.ids, m.pos, m.rows = m.arena.Alloc(compute.I32, tokens, 1), m.arena.Alloc(compute.I32, tokens, 1), m.arena.Alloc(compute.I32, toySequences, 1)
	m.x, m.rstd, m.y = m.arena.Alloc(wide, tokens, toyHidden), m.arena.Alloc(wide, tokens, 1), act(tokens, toyHidden)
	m.q, m.k, m.v, m.mixed = act(tokens, h.Q*h.Dim), act(tokens, h.KV*h.Dim), act(tokens, h.KV*h.Dim), act(tokens, h.Q*h.Dim)
	m.gate, m.up, m.gated, m.delta, m.last = act(tokens, toyInner), act(tokens, toyInner), act(tokens, toyInner), act(tokens, toyHidden), act(toySequences, toyHidden)
	m.logits, m.logp, m.sampled = m.arena.Alloc(wide, toySequences, toyVocab), m.arena.Alloc(wide, toySequences, 1), m.arena.Alloc(compute.I32, toySequences, 1)
	floats := func(v ...float64) compute.Tensor {
		return tensor(wide, toySequences, 1, func(i int) float64 { return float64(float32(v[i])) })
	}
	m.sampling = compute.Sampling{
		Key:         tensor(compute.I32, toySequences, 2, func(i int) float64 { return float64(7 + i%2) }),
		Counter:     m.arena.Alloc(compute.I32, toySequences, 4),
		Temperature: floats(1, 0, 0.7), TopP: floats(1, 1, 0.9),
		TopK: tensor(compute.I32, toySequences, 1, func(i int) float64 { return float64(20 * i) }),
	}
	m.host = [2][]int32{make([]int32, toySequences), make([]int32, 4*toySequences)}
	m.hostLogp, m.hostZ = make([]float32, toySequences), make([]float32, toySequences*toyVocab)
	return m
}

// upload fills t from float64, whatever its dtype is.
func upload(b compute.Backend, t compute.Tensor, f func(i int) float64) {
	v := make([]float64, t.Len())
	for i := range v {
		v[i] = f(i)
	}
	switch t.DType {
	case compute.F64:
		compute.Write(b, t, v)
	case compute.F32:
		compute.Write(b, t, converted(v, func(x float64) float32 { return float32(x) }))
	case compute.I32:
		compute.Write(b, t, converted(v, func(x float64) int32 { return int32(x) }))
	}
}

func converted[T any](v []float64, f func(float64) T) []T {
	out := make([]T, len(v))
	for i, x := range v {
		out[i] = f(x)
	}
	return out
}

// download reads a float tensor as float64.
func download(t testing.TB, b compute.Backend, x compute.Tensor) []float64 {
	t.Helper()
	out := make([]float64, x.Len())
	var err error
	switch x.DType {
	case compute.F64:
		err = compute.Read(b, out, x)
	case compute.F32:
		s := make([]float32, x.Len())
		err = compute.Read(b, s, x)
		for i, v := range s {
			out[i] = float64(v)
		}
	}
	if err != nil {
		t.Error(err)
	}
	return out
}

// load sends a step's inputs: all that a replay reads anew.
func (m *toy) load(l compute.Layout, ids, last []int32) {
	m.plan.Set(l)
	n := l.Tokens()
	compute.Write(m.b, m.ids.Slice(0, n), ids)
	compute.Write(m.b, m.pos.Slice(0, n), l.Pos)
	compute.Write(m.b, m.rows, last)
	for s := range toySequences {
		copy(m.host[1][4*s:], []int32{3, int32(s), 0, l.Pos[last[s]]})
	}
	compute.Write(m.b, m.sampling.Counter, m.host[1])
}

// step is the operations of one step of n tokens.
func (m *toy) step(n int) func() {
	h, rows := toyHeads(), func(t compute.Tensor) compute.Tensor { return t.Slice(0, n) }
	x, y, rstd, delta, pos := rows(m.x), rows(m.y), rows(m.rstd), rows(m.delta), rows(m.pos)
	q, k, v, mixed, gate, up, gated := rows(m.q), rows(m.k), rows(m.v), rows(m.mixed), rows(m.gate), rows(m.up), rows(m.gated)
	return func() {
		m.bodies++
		b := m.b
		b.Embed(x, m.embed, rows(m.ids))
		d := compute.Tensor{}
		for _, l := range m.layers {
			b.AddRMSNorm(y, rstd, x, d, l.norms[0], 1e-5)
			b.Linear([]compute.Tensor{q, k, v}, y, l.qkv, false)
			b.RoPE(q, pos, m.cos, m.sin, h.Dim, false)
			b.RoPE(k, pos, m.cos, m.sin, h.Dim, false)
			b.WriteKV(l.cache, k, v, m.plan)
			b.AttentionPaged(mixed, q, l.cache, h, m.plan)
			b.Linear([]compute.Tensor{delta}, mixed, []compute.Weight{l.out}, false)
			b.AddRMSNorm(y, rstd, x, delta, l.norms[1], 1e-5)
			b.Linear([]compute.Tensor{gate, up}, y, l.gateUp, false)
			b.SwiGLU(gated, gate, up)
			b.Linear([]compute.Tensor{delta}, gated, []compute.Weight{l.down}, false)
			d = delta
		}
		b.AddRMSNorm(y, rstd, x, d, m.norm, 1e-5)
		b.Gather(m.last, y, m.rows)
		b.Linear([]compute.Tensor{m.logits}, m.last, []compute.Weight{m.head}, false)
		b.Sample(m.sampled, m.logp, m.logits, &m.sampling)
	}
}

// schedule lays the sequences of toyContext positions out: a prefill of some tokens of each, then
// one token of each a step. Their pages interleave.
type schedule struct{ past [toySequences]int32 }

func (s *schedule) next(chunk func(i int) int32) (l compute.Layout, last []int32) {
	l.Start = []int32{0}
	for i := range toySequences {
		n := chunk(i)
		l.Past = append(l.Past, s.past[i])
		for p := s.past[i]; p < s.past[i]+n; p++ {
			l.Pos = append(l.Pos, p)
		}
		s.past[i] += n
		var pages []int32
		for p := int32(0); p*toyPageTokens < s.past[i]; p++ {
			pages = append(pages, (p*toySequences+int32(i)*7)%toyPages)
		}
		l.Pages = append(l.Pages, pages)
		l.Start = append(l.Start, l.Start[i]+n)
		last = append(last, l.Start[i+1]-1)
	}
	return l, last
}

// TestDecodeStep decodes on the GPU with every step a replay of one graph, and on the oracle.
func TestDecodeStep(t *testing.T) {
	const steps = 45
	for _, dt := range []compute.DType{compute.F32, compute.BF16} {
		t.Run(dt.String(), func(t *testing.T) {
			d := device(t)
			gpu, oracle := newToy(d, dt, compute.F32, 32), newToy(ref.New(), compute.F64, compute.F64, 32)
			plain := newToy(d, dt, compute.F32, 32) // the same without graphs
			var s schedule
			random := rand.New(rand.NewPCG(3, 4))
			layout, last := s.next(func(i int) int32 { return []int32{5, 13, 1}[i] })
			ids := make([]int32, layout.Tokens())
			for i := range ids {
				ids[i] = random.Int32N(toyVocab)
			}
			for _, m := range []*toy{gpu, oracle, plain} {
				m.load(layout, ids, last)
				m.step(layout.Tokens())()
			}
			body := gpu.step(toySequences)
			gpu.bodies = 0
			want, got := make([]int32, toySequences), make([]int32, toySequences)
			// Of the activations' roundings through the model; the worst seen are 2.5e-6 and 0.054.
			tolerance := map[compute.DType]float64{compute.F32: 3e-5, compute.BF16: 0.15}[dt]
			var worst float64
			agree := 0
			for step := range steps {
				if err := compute.Read(oracle.b, want, oracle.sampled); err != nil {
					t.Fatal(err)
				}
				if err := compute.Read(gpu.b, got, gpu.sampled); err != nil {
					t.Fatal(err)
				}
				for i := range want {
					if want[i] == got[i] {
						agree++
					}
				}
				if dt == compute.F32 && !slices.Equal(got, want) {
					t.Fatalf("step %d: drew %v, oracle %v", step, got, want)
				}
				z, zWant := download(t, gpu.b, gpu.logits), download(t, oracle.b, oracle.logits)
				for i := range z {
					if diff := math.Abs(z[i] - zWant[i]); !(diff <= tolerance) {
						t.Fatalf("step %d: logit %d is %v, oracle %v", step, i, z[i], zWant[i])
					} else {
						worst = max(worst, diff)
					}
				}
				for i, v := range download(t, plain.b, plain.logits) {
					if v != z[i] {
						t.Fatalf("step %d: logit %d is %v in a graph, %v without", step, i, z[i], v)
					}
				}
				layout, last := s.next(func(int) int32 { return 1 })
				for _, m := range []*toy{gpu, oracle, plain} {
					m.load(layout, want, last)
				}
				gpu.b.Graph(9, body)
				oracle.step(toySequences)()
				plain.step(toySequences)()
			}
			if gpu.bodies != 1 {
				t.Errorf("body was called %d times, want once", gpu.bodies)
			}
			if least := steps * toySequences * 9 / 10; agree < least {
				t.Errorf("%d of %d draws agree with the oracle's, want %d", agree, steps*toySequences, least)
			}
			t.Logf("worst difference of a logit %.2g, draws that agree %d of %d", worst, agree, steps*toySequences)
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A step that is replayed allocates nothing.
func TestReplayAllocates(t *testing.T) {
	d := device(t)
	defer d.Close()
	m := newToy(d, compute.BF16, compute.F32, toySequences)
	var s schedule
	layout, last := s.next(func(int) int32 { return 1 })
	ids := make([]int32, toySequences)
	body := m.step(toySequences)
	step := func() {
		m.load(layout, ids, last)
		m.b.Graph(1, body)
		a, b := m.b.Download(compute.Bytes(m.host[0]), m.sampled), m.b.Download(compute.Bytes(m.hostLogp), m.logp)
		if err := m.b.Wait(a); err != nil {
			t.Fatal(err)
		}
		if err := m.b.Wait(b); err != nil {
			t.Fatal(err)
		}
	}
	step()
	if n := testing.AllocsPerRun(5, step); n != 0 {
		t.Errorf("a step makes %v allocations", n)
	}
}

// What a graph cannot record, and a replay that does not fit, panic; the queue stays usable.
func TestGraphMisuse(t *testing.T) {
	d := device(t)
	defer d.Close()
	m := newToy(d, compute.F32, compute.F32, 32)
	var s schedule
	prefill, last := s.next(func(int) int32 { return 4 })
	ids := make([]int32, 12)
	m.load(prefill, ids, last)
	for name, body := range map[string]func(){
		"Upload":   func() { compute.Write(m.b, m.ids, make([]int32, 32)) },
		"Download": func() { m.b.Download(compute.Bytes(make([]int32, 32)), m.ids) },
		"Plan.Set": func() { m.plan.Set(prefill) },
		"Graph":    func() { m.b.Graph(2, func() {}) },
		"backward": func() { m.b.SwiGLUBackward(m.gate, m.up, m.gated, m.gate, m.up) }, // not reserved
	} {
		if got := panics(func() { m.b.Graph(1, body) }); got == nil {
			t.Errorf("%s inside Graph does not panic", name)
		}
	}
	m.b.Graph(1, m.step(12)) // the failed captures left nothing behind
	eager := download(t, m.b, m.logits)
	m.b.Graph(1, nil)
	for i, v := range download(t, m.b, m.logits) {
		if v != eager[i] {
			t.Fatalf("replay: logit %d is %v, was %v", i, v, eager[i])
		}
	}
	decode, last := s.next(func(int) int32 { return 1 })
	m.load(decode, ids[:3], last)
	if got := panics(func() { m.b.Graph(1, nil) }); got == nil {
		t.Error("a replay for 12 tokens with a plan of 3 does not panic")
	} else if want := "compute/cuda: graph 1 was recorded for 12 tokens, plan has 3"; fmt.Sprint(got) != want {
		t.Errorf("panics with %v, want %s", got, want)
	}
}

func panics(f func()) (p any) {
	defer func() { p = recover() }()
	f()
	return nil
}

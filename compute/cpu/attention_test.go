package cpu

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

// randomBytes are n random elements of dt.
func randomBytes(r *rand.Rand, dt compute.DType, n int) []byte {
	if dt == compute.BF16 {
		s := make([]uint16, n)
		for i := range s {
			s[i] = compute.BF16FromF32(float32(r.NormFloat64()))
		}
		return compute.Bytes(s)
	}
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return compute.Bytes(s)
}

// A row of AttentionPaged has the bits of the same row of Attention in a packed batch: whatever the
// page size, the chunks in which its sequence came, its batch-mates, and the threads.
func TestPagedIsPacked(t *testing.T) {
	for _, isa := range Instructions() {
		for _, dt := range []compute.DType{compute.F32, compute.BF16} {
			t.Run(fmt.Sprintf("%s/%v", isa, dt), func(t *testing.T) {
				r := rand.New(rand.NewPCG(13, 14))
				for round, pageTokens := range []int{1, 3, 8, 16, 64, 100} {
					h := compute.Heads{Q: 6, KV: 2, Dim: []int{64, 16, 20}[round%3], Window: []int{0, 0, 70}[r.IntN(3)], Scale: 0.3}
					pagedIsPacked(t, r, isa, dt, h, pageTokens, 1+round%3)
				}
			})
		}
	}
}

func pagedIsPacked(t *testing.T, r *rand.Rand, isa string, dt compute.DType, h compute.Heads, pageTokens, threads int) {
	d, err := New(Config{ISA: isa, Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b := d.NewBackend()
	lengths := []int{1 + r.IntN(200), 64, 1 + r.IntN(30), 150}
	packed, total, pages := compute.Layout{Start: []int32{0}}, 0, 0
	tables := make([][]int32, len(lengths))
	for _, n := range lengths {
		for i := range n {
			packed.Pos = append(packed.Pos, int32(i))
		}
		total += n
		packed.Start = append(packed.Start, int32(total))
		pages += parts(n, pageTokens)
	}
	free := r.Perm(pages)
	for i, n := range lengths {
		for range parts(n, pageTokens) {
			tables[i], free = append(tables[i], int32(free[0])), free[1:]
		}
	}
	b.Reserve(compute.Limits{Tokens: total, Heads: h, Segments: len(lengths), Context: 200})
	a := d.NewArena(64 << 20)
	defer a.Free()
	wide, narrow := h.Q*h.Dim, h.KV*h.Dim
	upload := func(rows, cols int, src []byte) compute.Tensor {
		x := a.Alloc(dt, rows, cols)
		b.Upload(x, src)
		return x
	}
	qs, ks, vs := randomBytes(r, dt, total*wide), randomBytes(r, dt, total*narrow), randomBytes(r, dt, total*narrow)
	y, lse := a.Alloc(dt, total, wide), a.Alloc(compute.F32, total, h.Q)
	p := b.NewPlan(total, len(lengths), pages)
	p.Set(packed)
	b.Attention(y, lse, upload(total, wide, qs), upload(total, narrow, ks), upload(total, narrow, vs), h, p)
	want := make([]byte, len(qs))
	b.Download(want, y)

	garbage := make([]byte, pages*pageTokens*narrow*dt.Size()) // NaN: what no sequence has written
	for i := range garbage {
		garbage[i] = 0xff
	}
	c := compute.Cache{K: upload(pages*pageTokens, narrow, garbage), V: upload(pages*pageTokens, narrow, garbage), PageTokens: pageTokens}
	past := make([]int, len(lengths))
	for left := total; left > 0; {
		l := compute.Layout{Start: []int32{0}}
		var rows []int
		for i, n := range lengths {
			take := min(n-past[i], []int{0, 1, 1, 5, 40, 130}[r.IntN(6)])
			for j := range take {
				rows = append(rows, int(packed.Start[i])+past[i]+j)
				l.Pos = append(l.Pos, int32(past[i]+j))
			}
			l.Start, l.Past, l.Pages = append(l.Start, int32(len(rows))), append(l.Past, int32(past[i])), append(l.Pages, tables[i])
			past[i] += take
			left -= take
		}
		pick := func(src []byte, cols int) compute.Tensor {
			var s []byte
			for _, row := range rows {
				s = append(s, src[row*cols*dt.Size():(row+1)*cols*dt.Size()]...)
			}
			return upload(len(rows), cols, s)
		}
		mark := a.Mark()
		p.Set(l)
		b.WriteKV(c, pick(ks, narrow), pick(vs, narrow), p)
		out := a.Alloc(dt, len(rows), wide)
		b.AttentionPaged(out, pick(qs, wide), c, h, p)
		got := make([]byte, len(rows)*wide*dt.Size())
		b.Download(got, out)
		a.Release(mark)
		line := wide * dt.Size()
		for i, row := range rows {
			if string(got[i*line:(i+1)*line]) != string(want[row*line:(row+1)*line]) {
				t.Fatalf("heads %+v, pages of %d, %d threads: row %d has other bits", h, pageTokens, threads, row)
			}
		}
	}
}

// Both schedules of the backward pass give the same bits: 1 thread takes whole trees, 13 split them.
func TestBackwardSchedules(t *testing.T) {
	layout := compute.Layout{Start: []int32{0, 100, 133, 240, 260}, Parent: []int32{-1, 0, 0, -1}, Pos: positions(0, 100, 100, 33, 100, 107, 0, 20)}
	const tokens = 260
	for _, isa := range Instructions() {
		t.Run(isa, func(t *testing.T) {
			for _, window := range []int{0, 50} {
				h := compute.Heads{Q: 6, KV: 2, Dim: 48, Window: window, Scale: 0.2}
				var want []byte
				for _, threads := range []int{1, 13} {
					d, err := New(Config{ISA: isa, Threads: threads})
					if err != nil {
						t.Fatal(err)
					}
					b, a, r := d.NewBackend(), d.NewArena(32<<20), rand.New(rand.NewPCG(19, 20))
					b.Reserve(compute.Limits{Tokens: tokens, Heads: h, Train: true})
					p := b.NewPlan(tokens, 4, 0)
					p.Set(layout)
					if p.(*plan).splits(h.KV, threads) != (threads > 1) {
						t.Fatalf("%d threads: schedule split is %v", threads, threads == 1)
					}
					upload := func(cols int) compute.Tensor {
						x := a.Alloc(compute.F32, tokens, cols)
						b.Upload(x, randomBytes(r, compute.F32, x.Len()))
						return x
					}
					q, k, v, dy := upload(288), upload(96), upload(96), upload(288)
					y, lse := upload(288), upload(6)
					b.Attention(y, lse, q, k, v, h, p)
					out := a.Alloc(compute.F32, tokens, 288+96+96)
					b.AttentionBackward(out.Columns(0, 288), out.Columns(288, 384), out.Columns(384, 480), dy, y, lse, q, k, v, h, p)
					got := make([]byte, 4*out.Len())
					b.Download(got, out)
					if threads == 1 {
						want = got
					} else if string(got) != string(want) {
						t.Errorf("%s, window %d: the schedules differ", isa, window)
					}
					a.Free()
					d.Close()
				}
			}
		})
	}
}

// What a tile, a tree and a run are.
func TestPlanRuns(t *testing.T) {
	d := newDevice(ISAPortable, newKernels(ISAPortable), 1)
	defer d.Close()
	p := newBackend(d).NewPlan(200, 8, 20).(*plan)
	p.Set(compute.Layout{
		Start: []int32{0, 40, 42, 42, 50, 55}, Parent: []int32{-1, 0, 0, 1, -1},
		Pos: positions(0, 40, 40, 2, 42, 8, 0, 5),
	})
	if len(p.tiles) != 5 || len(p.trees) != 2 || p.hasPast || !p.hasTrees {
		t.Errorf("tiles %v, trees %v", p.tiles, p.trees)
	}
	var order []int32
	for i := p.trees[0].first; i >= 0; i = p.tiles[i].next {
		order = append(order, p.tiles[i].token)
	}
	if fmt.Sprint(order) != "[0 32 40 42]" {
		t.Errorf("tree 0 has tiles at %v", order)
	}
	if got := fmt.Sprint(p.forestRuns(nil, 3, 30, 47)); got != "[{0 30 10} {10 40 2} {12 42 5}]" {
		t.Errorf("runs %v", got)
	}
	p.Set(compute.Layout{Start: []int32{0, 1}, Past: []int32{10}, Pos: []int32{10}, Pages: [][]int32{{7, 3, 4}}})
	if got := fmt.Sprint(p.pageRuns(nil, 0, 2, 11, 4, 8)); got != "[{0 30 2} {2 12 7}]" {
		t.Errorf("runs %v", got)
	}
}

// positions spells out (first, count) pairs.
func positions(pairs ...int32) (pos []int32) {
	for i := 0; i < len(pairs); i += 2 {
		for j := range pairs[i+1] {
			pos = append(pos, pairs[i]+j)
		}
	}
	return pos
}

// An operation of the steady loop allocates nothing.
func TestVectorAllocations(t *testing.T) {
	d, err := New(Config{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b := newBackend(d)
	h := compute.Heads{Q: 4, KV: 2, Dim: 16, Scale: 0.25}
	const rows = 70
	b.Reserve(compute.Limits{Tokens: rows, Width: 64, Vocab: 600, Heads: h, Train: true})
	a := d.NewArena(8 << 20)
	defer a.Free()
	x := func(rows, cols int) compute.Tensor { return a.Alloc(compute.F32, rows, cols) }
	q, k, v, y, lse, dq, dk, dv := x(rows, 64), x(rows, 32), x(rows, 32), x(rows, 64), x(rows, 4), x(rows, 64), x(rows, 32), x(rows, 32)
	w, rstd, one := x(1, 64), x(rows, 1), x(1, 1)
	ids, drawn := a.Alloc(compute.I32, rows, 1), a.Alloc(compute.I32, rows, 1)
	logits := x(rows, 600)
	s := &compute.Sampling{Key: a.Alloc(compute.I32, rows, 2), Counter: a.Alloc(compute.I32, rows, 4), Temperature: x(rows, 1), TopP: x(rows, 1), TopK: a.Alloc(compute.I32, rows, 1)}
	ones := make([]float32, rows)
	for i := range ones {
		ones[i] = 0.9
	}
	compute.Write(b, s.Temperature, ones)
	compute.Write(b, s.TopP, ones)
	c := compute.Cache{K: x(96, 32), V: x(96, 32), PageTokens: 16}
	forest, chunk := b.NewPlan(rows, 2, 0), b.NewPlan(rows, 1, 6)
	lf := compute.Layout{Start: []int32{0, 40, 70}, Parent: []int32{-1, 0}, Pos: positions(0, 70)}
	lc := compute.Layout{Start: []int32{0, 70}, Pos: positions(0, 70), Pages: [][]int32{{5, 1, 2, 3, 4}}}
	for name, op := range map[string]func(){
		"Set":                func() { forest.Set(lf); chunk.Set(lc) },
		"Attention":          func() { b.Attention(y, lse, q, k, v, h, forest) },
		"AttentionBackward":  func() { b.AttentionBackward(dq, dk, dv, y, y, lse, q, k, v, h, forest) },
		"WriteKV":            func() { b.WriteKV(c, k, v, chunk) },
		"AttentionPaged":     func() { b.AttentionPaged(y, q, c, h, chunk) },
		"AddRMSNorm":         func() { b.AddRMSNorm(y, rstd, q, dq, w, 1e-5) },
		"AddRMSNormBackward": func() { b.AddRMSNormBackward(dq, y, w, y, q, w, rstd, 1e-5) },
		"ColumnSum":          func() { b.ColumnSum(w, y) },
		"SwiGLUBackward":     func() { b.SwiGLUBackward(dq, y, q, q, q) },
		"EmbedBackward":      func() { b.EmbedBackward(logits, logits, ids) },
		"Sample":             func() { b.Sample(drawn, rstd, logits, s) },
		"SumSquares":         func() { b.SumSquares(one, logits) },
	} {
		forest.Set(lf)
		chunk.Set(lc)
		if n := testing.AllocsPerRun(10, op); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

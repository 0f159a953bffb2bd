package computetest

import (
	"errors"

	"github.com/seed-8780d58e/spin/compute"
)

func testDevice(l *lab) {
	if a, b := l.one.dev.Fingerprint(), l.many.dev.Fingerprint(); a == "" || a != b {
		l.Errorf("fingerprints %q with one thread, %q with several", a, b)
	}
	if got := panicOf(func() { l.one.dev.NewArena(1 << 60) }); got != nil {
		if err, ok := got.(error); !ok || !errors.Is(err, compute.ErrMemory) {
			l.Errorf("an arena of 2^60 bytes panics with %v, want ErrMemory wrapped", got)
		}
	}
}

// testReserve grows what is reserved; the suite's other tests run within it.
func testReserve(l *lab) {
	b := l.one.dev.NewBackend()
	small := b.Reserve(compute.Limits{Tokens: 8, Width: 16, Vocab: 10, HeadRows: 2, Segments: 2, Context: 16, Heads: compute.Heads{Q: 1, KV: 1, Dim: 8}})
	large := b.Reserve(compute.Limits{Tokens: 64, Width: 64, Vocab: 100, HeadRows: 20, Segments: 8, Context: 64, Heads: compute.Heads{Q: 2, KV: 2, Dim: 16}, Train: true})
	again := b.Reserve(compute.Limits{Tokens: 1})
	if small < 0 || large < small || again != large {
		l.Errorf("reserved %d bytes, then %d for more, then %d for less", small, large, again)
	}
	// What fitted the largest still runs.
	arena := l.one.dev.NewArena(1 << 20)
	defer arena.Free()
	w := l.one.dev.NewWeight(100, 64, l.dt, true)
	defer w.Free()
	x, y := arena.Alloc(l.dt, 64, 64), arena.Alloc(l.dt, 64, 100)
	b.Zero(x)
	b.Linear([]compute.Tensor{y}, x, []compute.Weight{w}, false)
	for i, v := range (&rig{b: b}).read(l.T, y).v {
		if v != 0 {
			l.Fatalf("element %d of 0·W is %v", i, v)
		}
	}
}

func testArena(l *lab) {
	const bytes = 1 << 16
	a := l.one.dev.NewArena(bytes)
	defer a.Free()
	first := a.Alloc(l.dt, 3, 5)
	mark := a.Mark()
	for _, dt := range []compute.DType{compute.F32, compute.BF16, compute.I32} {
		for _, s := range [][2]int{{1, 1}, {3, 5}, {7, 64}, {1, 33}} {
			x := a.Alloc(dt, s[0], s[1])
			if x.Absent() || x.Rows != s[0] || x.Cols != s[1] || x.Stride != s[1] || x.DType != dt {
				l.Errorf("Alloc(%v, %d, %d) = %v", dt, s[0], s[1], x)
			}
			if x.Off*dt.Size()%64 != 0 {
				l.Errorf("Alloc(%v, %d, %d) starts at byte %d of its block: not aligned to 64", dt, s[0], s[1], x.Off*dt.Size())
			}
		}
	}
	peak := a.Peak()
	a.Release(mark)
	if a.Mark() != mark || a.Peak() != peak {
		l.Errorf("after Release: in use %d, want %d; peak %d, want %d", a.Mark(), mark, a.Peak(), peak)
	}
	for range 100 { // half the block each time: it is given back at once
		m := a.Mark()
		x := a.Alloc(compute.F32, bytes/4/2/64, 64)
		l.one.b.Zero(x)
		a.Release(m)
	}
	if p := a.Peak(); p < bytes/2 || p > bytes {
		l.Errorf("peak is %d of %d bytes", p, bytes)
	}
	if panicOf(func() { a.Alloc(compute.F32, 1, bytes/4+1) }) == nil {
		l.Error("Alloc beyond the arena does not panic")
	}
	x := normal(l.rand, l.dt, 3, 5, 1)
	l.one.b.Upload(first, x.encode(l.dt)) // what lies below the mark still lives
	for i, v := range l.one.read(l.T, first).v {
		if v != x.v[i] {
			l.Fatalf("element %d is %v, uploaded %v", i, v, x.v[i])
		}
	}
}

// testTransfer: src is free once Upload returns, dst holds the data once Wait returns, and the
// queue keeps the order of all that lies between.
func testTransfer(l *lab) {
	r := l.many
	mark := r.arena.Mark()
	defer r.arena.Release(mark)
	x := r.arena.Alloc(compute.F32, 40, 100).Columns(3, 50)
	src, dst := make([]float32, x.Len()), make([][]float32, 5)
	tickets := make([]compute.Ticket, len(dst))
	for round := range dst {
		for i := range src {
			src[i] = float32(round*10000 + i)
		}
		compute.Write(r.b, x, src)
		clear(src)
		dst[round] = make([]float32, x.Len())
		tickets[round] = r.b.Download(compute.Bytes(dst[round]), x)
	}
	for _, round := range []int{4, 1, 0, 3, 2} {
		if err := r.b.Wait(tickets[round]); err != nil {
			l.Fatal(err)
		}
		for i, v := range dst[round] {
			if v != float32(round*10000+i) {
				l.Fatalf("download %d: element %d is %v", round, i, v)
			}
		}
	}
}

// testGraph replays a body on new data and a new layout.
func testGraph(l *lab) {
	const rows, in, out = 9, 33, 20
	h := compute.Heads{Q: 2, KV: 1, Dim: 10, Scale: 0.3}
	for _, r := range []*rig{l.one, l.many} {
		mark := r.arena.Mark()
		w := r.dev.NewWeight(out, in, l.dt, false)
		master := r.arena.Alloc(compute.F32, out, in)
		r.b.Upload(master, normal(l.rand, compute.F32, out, in, 1).encode(compute.F32))
		r.b.Store(w, 0, master)
		x, q, y := r.arena.Alloc(l.dt, rows, in), r.arena.Alloc(l.dt, rows, out), r.arena.Alloc(l.dt, rows, out)
		lse := r.arena.Alloc(compute.F32, rows, 2)
		plan := r.b.NewPlan(rows, 3, 0)
		body := func() {
			r.b.Linear([]compute.Tensor{q}, x, []compute.Weight{w}, false)
			r.b.Attention(y, lse, q, q.Columns(0, 10), q.Columns(10, 20), h, plan)
		}
		for round := range 4 {
			cut := int32(1 + round*2)
			layout := compute.Layout{Start: []int32{0, cut, rows}}
			for i := range int32(rows) {
				layout.Pos = append(layout.Pos, i%cut)
				if i >= cut {
					layout.Pos[i] = i - cut
				}
			}
			r.b.Upload(x, normal(l.rand, l.dt, rows, in, 1).encode(l.dt))
			plan.Set(layout)
			r.b.Graph(uint64(l.dt), body) // its memory is this subtest's: another has another key
			got := r.read(l.T, y)
			r.b.Zero(y)
			body()
			for i, v := range r.read(l.T, y).v {
				if !sameBits(v, got.v[i]) {
					l.Fatalf("replay %d: element %d is %v, without a graph %v", round, i, got.v[i], v)
				}
			}
		}
		w.Free()
		r.arena.Release(mark)
	}
}

func panicOf(f func()) (p any) {
	defer func() { p = recover() }()
	f()
	return nil
}

package compute

import (
	"math"
	"strings"
	"testing"
)

// The vectors of Random123's kat_vectors, philox4x32 with 10 rounds.
func TestPhilox(t *testing.T) {
	for _, tt := range []struct {
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, [2]uint32{0xffffffff, 0xffffffff},
			[4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := Philox(tt.counter, tt.key); got != tt.want {
			t.Errorf("Philox(%x, %x) = %x, want %x", tt.counter, tt.key, got, tt.want)
		}
	}
}

func TestUniform(t *testing.T) {
	var sum float64
	const n = 100000
	for i := range uint32(n) {
		u := Uniform([4]uint32{0, 1, 2, i}, [2]uint32{3, 4})
		if !(u > 0 && u < 1) {
			t.Fatalf("u = %v", u)
		}
		sum += u
	}
	if mean := sum / n; !(math.Abs(mean-0.5) <= 6/math.Sqrt(12*n)) {
		t.Errorf("mean of %d draws is %v", n, mean)
	}
}

// Each BF16 is its own nearest; a value between two goes to the nearer, and half way to the even.
func TestBF16(t *testing.T) {
	for b := range uint32(1 << 16) {
		x := F32FromBF16(uint16(b))
		got := BF16FromF32(x)
		if x != x {
			if y := F32FromBF16(got); y == y {
				t.Errorf("NaN %#x becomes %v", b, y)
			}
			continue
		}
		if got != uint16(b) {
			t.Errorf("%#x becomes %#x", b, got)
		}
		if math.IsInf(float64(x), 0) {
			continue
		}
		below, half, above := math.Float32frombits(b<<16|0x7fff), math.Float32frombits(b<<16|0x8000), math.Float32frombits(b<<16|0x8001)
		if BF16FromF32(below) != uint16(b) || BF16FromF32(half) != uint16(b+b&1) || BF16FromF32(above) != uint16(b+1) {
			t.Errorf("above %#x: %#x, %#x, %#x", b, BF16FromF32(below), BF16FromF32(half), BF16FromF32(above))
		}
	}
}

func TestLayoutCheck(t *testing.T) {
	for _, tt := range []struct {
		name       string
		layout     Layout
		pageTokens int
		wrong      string // part of the error; "": none
	}{
		{"empty", Layout{}, 0, ""},
		{"forest", Layout{Start: []int32{0, 2, 4, 4, 5}, Parent: []int32{-1, 0, 0, 1}, Pos: []int32{0, 1, 2, 3, 4}}, 0, ""},
		{"chunk", Layout{Start: []int32{0, 2}, Past: []int32{3}, Pos: []int32{3, 4}, Pages: [][]int32{{9, 2, 4}}}, 2, ""},
		{"start", Layout{Start: []int32{1, 2}, Pos: []int32{0, 1}}, 0, "starts at token 1"},
		{"positions", Layout{Start: []int32{0, 2}, Pos: []int32{0}}, 0, "2 tokens and 1 positions"},
		{"parents", Layout{Start: []int32{0, 1}, Parent: []int32{-1, -1}, Pos: []int32{0}}, 0, "2 parents"},
		{"falls", Layout{Start: []int32{0, 2, 1}, Pos: []int32{0}}, 0, "ends before it starts"},
		{"later parent", Layout{Start: []int32{0, 1, 2}, Parent: []int32{1, -1}, Pos: []int32{0, 0}}, 0, "continues segment 1"},
		{"no such parent", Layout{Start: []int32{0, 1, 2}, Parent: []int32{-1, -2}, Pos: []int32{0, 0}}, 0, "continues segment -2"},
		{"empty parent", Layout{Start: []int32{0, 0, 1}, Parent: []int32{-1, 0}, Pos: []int32{0}}, 0, "which is empty"},
		{"parent and past", Layout{Start: []int32{0, 1, 2}, Parent: []int32{-1, 0}, Past: []int32{0, 2}, Pos: []int32{0, 1}}, 0, "a parent and a past"},
		{"negative past", Layout{Start: []int32{0, 1}, Past: []int32{-1}, Pos: []int32{-1}}, 0, "past of -1"},
		{"position", Layout{Start: []int32{0, 1, 2}, Parent: []int32{-1, 0}, Pos: []int32{0, 0}}, 0, "at position 0, want 1"},
		{"no pages", Layout{Start: []int32{0, 1}, Pos: []int32{0}}, 2, "without pages"},
		{"few pages", Layout{Start: []int32{0, 2}, Past: []int32{3}, Pos: []int32{3, 4}, Pages: [][]int32{{9, 2}}}, 2, "pages for 4 tokens, needs 5"},
	} {
		err := tt.layout.Check(tt.pageTokens)
		if tt.wrong == "" && err != nil || tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.wrong)
		}
	}
}

func TestViews(t *testing.T) {
	x := Tensor{Mem: 1, Rows: 5, Cols: 7, Stride: 7}
	y := x.Slice(1, 4).Columns(2, 6)
	if want := (Tensor{Mem: 1, Off: 9, Rows: 3, Cols: 4, Stride: 7}); y != want || y.Contiguous() || y.Len() != 12 {
		t.Errorf("view is %+v", y)
	}
	if absent := (Tensor{}); absent.Slice(0, 4) != absent || absent.Columns(0, 4) != absent {
		t.Error("a view of an absent tensor is present")
	}
}

// shaped is a Weight that has a shape only.
type shaped struct {
	Weight
	out, in int
}

func (w shaped) Dims() (out, in int) { return w.out, w.in }
func (w shaped) DType() DType        { return F32 }

func TestChecksAllocateNothing(t *testing.T) {
	m := func(rows, cols int) Tensor { return Tensor{Mem: 1, Rows: rows, Cols: cols, Stride: cols} }
	i := func(rows, cols int) Tensor { return Tensor{Mem: 1, Rows: rows, Cols: cols, Stride: cols, DType: I32} }
	var w Weight = &shaped{out: 6, in: 4}
	ys, ws, state := []Tensor{m(3, 6), m(3, 6)}, []Weight{w, w}, []Tensor{m(6, 4)}
	h, c := Heads{Q: 2, KV: 1, Dim: 2}, Cache{K: m(8, 2), V: m(8, 2), PageTokens: 4}
	sampling := &Sampling{Key: i(3, 2), Counter: i(3, 4), Temperature: m(3, 1), TopP: m(3, 1), TopK: i(3, 1)}
	if n := testing.AllocsPerRun(10, func() {
		CheckLinear(ys, m(3, 4), ws)
		CheckLinearDX(m(3, 4), ys, ws)
		CheckLinearDW(m(6, 4), m(3, 6), m(3, 4))
		CheckMatMul(m(3, 6), m(3, 4), m(6, 4), NT)
		CheckStore(w, 0, m(6, 4))
		CheckEmbed(m(3, 4), w, i(3, 1))
		CheckAddRMSNorm(m(3, 4), m(3, 1), m(3, 4), m(3, 4), m(1, 4))
		CheckRoPE(m(3, 4), i(3, 1), m(9, 1), m(9, 1), 2)
		CheckAttention(m(3, 4), m(3, 2), m(3, 4), m(3, 2), m(3, 2), h, 3)
		CheckAttentionPaged(m(3, 4), m(3, 4), c, h, 3)
		CheckHeadLogProb(m(3, 1), m(3, 1), m(3, 1), i(3, 1), m(5, 4), i(3, 1), i(3, 1), w)
		CheckSample(i(3, 1), m(3, 1), m(3, 6), sampling)
		CheckOptimize(w, m(6, 4), m(6, 4), state, Tensor{}, Optimizer{})
	}); n != 0 {
		t.Errorf("the checks allocate %v times", n)
	}
}

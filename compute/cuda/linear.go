//go:build cuda

package cuda

import (
	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cuda/driver"
)

// Of kernels/linear.cu.
const (
	linearTile    = 64
	linearThreads = 256
)

// Store rounds rows into a weight; see compute.Backend.
func (b *Backend) Store(w compute.Weight, row int, src compute.Tensor) {
	compute.CheckStore(w, row, src)
	m := b.weight(w)
	at := uint64(m.mem.ptr) + uint64(int64(row)*int64(m.in)*int64(m.dt.Size()))
	b.launch(b.k.copy[form(m.dt)][form(src.DType)], rows(src.Rows), at, integer(m.in), b.address(src), stride(src), integer(m.in))
}

// Linear multiplies by each weight; see compute.Backend. Nothing is shared between them yet: x is
// read once for each.
func (b *Backend) Linear(ys []compute.Tensor, x compute.Tensor, ws []compute.Weight, acc bool) {
	compute.CheckLinear(ys, x, ws)
	b.within("Linear", "tokens", x.Rows, max(b.limits.Tokens, b.limits.HeadRows))
	for i, w := range ws {
		m, y := b.weight(w), ys[i]
		k := b.k.linearF32
		if x.DType == compute.BF16 {
			k = b.k.linearBF16
			if y.DType == compute.F32 {
				k = b.k.linearBF16F32
			}
		}
		grid := driver.Grid{X: tiles(m.out), Y: tiles(x.Rows), Threads: linearThreads}
		b.launch(k, grid, b.address(y), stride(y), b.address(x), stride(x), uint64(m.mem.ptr), integer(x.Rows), integer(m.in), integer(m.out), flag(acc))
	}
}

func tiles(n int) int { return (n + linearTile - 1) / linearTile }

// Embed looks rows of the weight up; see compute.Backend.
func (b *Backend) Embed(x compute.Tensor, w compute.Weight, ids compute.Tensor) {
	compute.CheckEmbed(x, w, ids)
	m := b.weight(w)
	b.launch(b.k.embed.of(m.dt), rows(x.Rows), b.address(x), stride(x), uint64(m.mem.ptr), b.address(ids), stride(ids), integer(m.in))
}

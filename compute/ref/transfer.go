package ref

import (
	"encoding/binary"
	"math"

	"github.com/seed-8780d58e/spin/compute"
)

func (b *backend) Upload(dst compute.Tensor, src []byte) {
	compute.CheckUpload(dst, len(src))
	at := 0
	for i := range dst.Rows {
		if dst.DType == compute.I32 {
			for j := range b.ints(dst, i) {
				b.ints(dst, i)[j] = int32(binary.LittleEndian.Uint32(src[at:]))
				at += 4
			}
			continue
		}
		row := b.row(dst, i)
		for j := range row {
			switch dst.DType {
			case compute.F32:
				row[j] = float64(math.Float32frombits(binary.LittleEndian.Uint32(src[at:])))
			case compute.BF16:
				row[j] = float64(compute.F32FromBF16(binary.LittleEndian.Uint16(src[at:])))
			case compute.F64:
				row[j] = math.Float64frombits(binary.LittleEndian.Uint64(src[at:]))
			}
			at += dst.DType.Size()
		}
	}
}

func (b *backend) Download(dst []byte, src compute.Tensor) compute.Ticket {
	compute.CheckUpload(src, len(dst))
	at := 0
	for i := range src.Rows {
		if src.DType == compute.I32 {
			for _, v := range b.ints(src, i) {
				binary.LittleEndian.PutUint32(dst[at:], uint32(v))
				at += 4
			}
			continue
		}
		for _, v := range b.row(src, i) {
			switch src.DType {
			case compute.F32:
				binary.LittleEndian.PutUint32(dst[at:], math.Float32bits(float32(v)))
			case compute.BF16:
				binary.LittleEndian.PutUint16(dst[at:], compute.BF16FromF32(oddF32(v)))
			case compute.F64:
				binary.LittleEndian.PutUint64(dst[at:], math.Float64bits(v))
			}
			at += src.DType.Size()
		}
	}
	return 0
}

// oddF32 rounds to odd, so that rounding its result once more, to BF16, rounds x only once.
func oddF32(x float64) float32 {
	f := float32(x)
	if float64(f) == x || math.IsNaN(x) || math.IsInf(float64(f), 0) {
		return f
	}
	if bits := math.Float32bits(f); bits&1 == 0 {
		// x lies between f and a neighbour, and of two neighbours one is odd.
		if math.Abs(x) > math.Abs(float64(f)) {
			return math.Float32frombits(bits + 1)
		}
		return math.Float32frombits(bits - 1)
	}
	return f
}

func (b *backend) Wait(compute.Ticket) error { return nil }

func (b *backend) Graph(_ uint64, body func()) { body() }

func (b *backend) Zero(t compute.Tensor) {
	for i := range t.Rows {
		if t.DType == compute.I32 {
			clear(b.ints(t, i))
		} else {
			clear(b.row(t, i))
		}
	}
}

func (b *backend) Copy(dst, src compute.Tensor) {
	compute.CheckCopy(dst, src)
	for i := range dst.Rows {
		b.copyRow(dst, i, src, i)
	}
}

func (b *backend) Gather(y, x, rows compute.Tensor) {
	compute.CheckGather(y, x, rows)
	for i, r := range b.column(rows) {
		b.copyRow(y, i, x, r)
	}
}

func (b *backend) copyRow(dst compute.Tensor, i int, src compute.Tensor, j int) {
	if dst.DType == compute.I32 {
		copy(b.ints(dst, i), b.ints(src, j))
	} else {
		copy(b.row(dst, i), b.row(src, j))
	}
}

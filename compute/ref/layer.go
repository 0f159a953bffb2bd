package ref

import (
	"math"

	"github.com/seed-8780d58e/spin/compute"
)

func (b *backend) Embed(x compute.Tensor, w compute.Weight, ids compute.Tensor) {
	compute.CheckEmbed(x, w, ids)
	for i, id := range b.column(ids) {
		copy(b.row(x, i), b.weight(w).row(id))
	}
}

func (b *backend) EmbedBackward(dw, dx, ids compute.Tensor) {
	compute.CheckEmbedBackward(dw, dx, ids)
	if dw.Absent() {
		return
	}
	for i, id := range b.column(ids) {
		axpy(b.row(dw, id), 1, b.row(dx, i))
	}
}

func (b *backend) AddBias(y, bias compute.Tensor) {
	compute.CheckAddBias(y, bias)
	for i := range y.Rows {
		axpy(b.row(y, i), 1, b.row(bias, 0))
	}
}

func (b *backend) ColumnSum(db, dy compute.Tensor) {
	compute.CheckColumnSum(db, dy)
	if db.Absent() {
		return
	}
	for i := range dy.Rows {
		axpy(b.row(db, 0), 1, b.row(dy, i))
	}
}

func (b *backend) AddRMSNorm(y, rstd, x, delta, w compute.Tensor, eps float32) {
	compute.CheckAddRMSNorm(y, rstd, x, delta, w)
	for i := range x.Rows {
		xi, yi, w := b.row(x, i), b.row(y, i), b.row(w, 0)
		if !delta.Absent() {
			axpy(xi, 1, b.row(delta, i))
		}
		r := 1 / math.Sqrt(dot(xi, xi)/float64(len(xi))+float64(eps))
		b.row(rstd, i)[0] = r
		for j, v := range xi {
			yi[j] = v * r * w[j]
		}
	}
}

// With r = rstd and x̂ = x·r: dx += r·(dy·w − x̂·mean(dy·w·x̂)), dw += dy·x̂.
func (b *backend) AddRMSNormBackward(dx, ddelta, dw, dy, x, w, rstd compute.Tensor, eps float32) {
	compute.CheckAddRMSNormBackward(dx, ddelta, dw, dy, x, w, rstd)
	b.withinTrain("AddRMSNormBackward")
	for i := range x.Rows {
		xi, dyi, dxi, w, r := b.row(x, i), b.row(dy, i), b.row(dx, i), b.row(w, 0), b.row(rstd, i)[0]
		var mean float64
		for j, v := range xi {
			mean += dyi[j] * w[j] * v * r / float64(len(xi))
		}
		for j, v := range xi {
			dxi[j] += r * (dyi[j]*w[j] - v*r*mean)
		}
		if !dw.Absent() {
			for j, v := range xi {
				b.row(dw, 0)[j] += dyi[j] * v * r
			}
		}
		if !ddelta.Absent() {
			copy(b.row(ddelta, i), dxi)
		}
	}
}

func (b *backend) RoPE(x, pos, cos, sin compute.Tensor, headDim int, inverse bool) {
	compute.CheckRoPE(x, pos, cos, sin, headDim)
	half := headDim / 2
	for i, p := range b.column(pos) {
		xi, cos, sin := b.row(x, i), b.row(cos, p), b.row(sin, p)
		for h := 0; h < len(xi); h += headDim {
			for j := range half {
				c, s := cos[j], sin[j]
				if inverse {
					s = -s
				}
				lo, hi := xi[h+j], xi[h+j+half]
				xi[h+j], xi[h+j+half] = lo*c-hi*s, hi*c+lo*s
			}
		}
	}
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func (b *backend) SwiGLU(y, gate, up compute.Tensor) {
	compute.CheckSwiGLU(y, gate, up)
	for i := range y.Rows {
		yi, gi, ui := b.row(y, i), b.row(gate, i), b.row(up, i)
		for j, g := range gi {
			yi[j] = g * sigmoid(g) * ui[j]
		}
	}
}

// d silu(g)/dg = σ(g)·(1 + g·(1−σ(g))).
func (b *backend) SwiGLUBackward(dgate, dup, dy, gate, up compute.Tensor) {
	compute.CheckSwiGLUBackward(dgate, dup, dy, gate, up)
	b.withinTrain("SwiGLUBackward")
	for i := range dy.Rows {
		dyi, gi, ui, dg, du := b.row(dy, i), b.row(gate, i), b.row(up, i), b.row(dgate, i), b.row(dup, i)
		for j := range dyi {
			g, u, d := gi[j], ui[j], dyi[j]
			s := sigmoid(g)
			dg[j] = d * u * s * (1 + g*(1-s))
			du[j] = d * g * s
		}
	}
}

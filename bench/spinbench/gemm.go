package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/seed-8780d58e/spin/bench/unit"
	"github.com/seed-8780d58e/spin/compute"
)

// gemmTime is how long each product is repeated for one figure.
const gemmTime = 60 * time.Millisecond

// gemm is the products of every shape: forward y = x·Wᵀ, and, for as many rows as training has,
// dx = dy·W and dw = dyᵀ·x. Weights are packed beforehand, as they are once a step.
func (b *bench) gemm() func() (unit.Result, error) {
	width, bytes := 0, int64(0)
	for _, s := range b.Shapes {
		width = max(width, s[0], s[1])
		bytes += int64(s[0]*s[1]+2*b.Rows*(s[0]+s[1]))*4 + 6*64
	}
	q, r := b.dev.NewBackend(), rand.New(rand.NewPCG(1, 1))
	q.Reserve(compute.Limits{Tokens: b.Rows, Width: width, Train: true})
	a := b.dev.NewArena(bytes)
	fill := func(dt compute.DType, rows, cols int) compute.Tensor {
		t := a.Alloc(dt, rows, cols)
		for i := range rows {
			row := t.Slice(i, i+1)
			if dt == compute.F32 {
				s := make([]float32, cols)
				for j := range s {
					s[j] = float32(r.NormFloat64())
				}
				compute.Write(q, row, s)
				continue
			}
			s := make([]uint16, cols)
			for j := range s {
				s[j] = compute.BF16FromF32(float32(r.NormFloat64()))
			}
			compute.Write(q, row, s)
		}
		return t
	}
	type product struct {
		name string
		call func()
	}
	var products []product
	for _, s := range b.Shapes {
		out, in := s[0], s[1]
		w := b.dev.NewWeight(out, in, b.act, true)
		mark := a.Mark()
		q.Store(w, 0, fill(compute.F32, out, in))
		a.Release(mark)
		x, y := fill(b.act, b.Rows, in), a.Alloc(b.act, b.Rows, out)
		name := fmt.Sprintf("%dx%d", out, in)
		products = append(products, product{"forward " + name, func() { q.Linear([]compute.Tensor{y}, x, []compute.Weight{w}, false) }})
		if b.Rows < 256 { // decoding
			continue
		}
		dy, dx, dw := fill(b.act, b.Rows, out), a.Alloc(b.act, b.Rows, in), fill(compute.F32, out, in)
		products = append(products,
			product{"dx " + name, func() { q.LinearDX(dx, []compute.Tensor{dy}, []compute.Weight{w}, false) }},
			product{"dw " + name, func() { q.LinearDW(dw, dy, x, 1) }})
	}
	return func() (unit.Result, error) {
		parts := map[string]float64{}
		began := time.Now()
		for _, p := range products {
			p.call()
			calls, start := 0, time.Now()
			for time.Since(start) < gemmTime {
				p.call()
				calls++
			}
			parts[p.name] = time.Since(start).Seconds() / float64(calls)
		}
		return unit.Result{Seconds: time.Since(began).Seconds(), Parts: parts}, nil
	}
}

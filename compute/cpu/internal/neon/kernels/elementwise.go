package kernels

import "github.com/seed-8780d58e/spin/compute/cpu/internal/neon"

// The pairs of loaded arguments, scalars, and what bodies may use.
var (
	a0, a1, a2, a3 = pairAt(0), pairAt(2), pairAt(4), pairAt(6)
	s0, s1         = both(20), both(21)
	free           = [4]pair{{6, 7}, {8, 9}, {10, 11}, {12, 13}}
)

// code is a body of fixed instructions on pairs.
type code []struct {
	op      string
	d, n, m pair
}

// accumulator stands in code for the accumulator.
var accumulator = pair{-1, -1}

func (c code) body(f *neon.Func, acc pair, _ bool) {
	for _, i := range c {
		if i.d == accumulator {
			i.d = acc
		}
		if i.n == accumulator {
			i.n = acc
		}
		three(f, i.op, i.d, i.n, i.m)
	}
}

var rowKernels = []rowKernel{
	{name: "addSumSquares", doc: "sets x += delta and returns Σ x².",
		args: []argument{{"x", inout, f32}, {"delta", in, act}}, sums: true,
		body: code{{"fadd", a0, a0, a1}, {"fmla", accumulator, a0, a0}}.body, stores: map[string]pair{"x": a0}},
	{name: "sumSquares", doc: "returns Σ x².",
		args: []argument{{"x", in, f32}}, sums: true, body: code{{"fmla", accumulator, a0, a0}}.body},
	{name: "normApply", doc: "sets y = (x·rstd)·w.",
		args: []argument{{"y", out, act}, {"x", in, f32}, {"w", in, f32}, {"rstd", scalar, f32}},
		body: code{{"fmul", a0, a0, s0}, {"fmul", a0, a0, a1}}.body, stores: map[string]pair{"y": a0}},
	{name: "normDot", doc: "returns Σ (dy·w)·x.",
		args: []argument{{"dy", in, act}, {"w", in, f32}, {"x", in, f32}}, sums: true,
		body: code{{"fmul", a0, a0, a1}, {"fmla", accumulator, a0, a2}}.body},
	{name: "normGrad", doc: "sets dx += a·(dy·w) + b·x.",
		args: []argument{{"dx", inout, f32}, {"dy", in, act}, {"w", in, f32}, {"x", in, f32}, {"a", scalar, f32}, {"b", scalar, f32}},
		body: code{{"fmul", a1, a1, a2}, {"fmla", a0, a1, s0}, {"fmla", a0, a3, s1}}.body, stores: map[string]pair{"dx": a0}},
	{name: "normWeightGrad", doc: "sets dw += (dy·x)·rstd.",
		args: []argument{{"dw", inout, f32}, {"dy", in, act}, {"x", in, f32}, {"rstd", scalar, f32}},
		body: code{{"fmul", a1, a1, a2}, {"fmla", a0, a1, s0}}.body, stores: map[string]pair{"dw": a0}},
	{name: "rotate", doc: "sets lo, hi = lo·cos − hi·sin, hi·cos + lo·sin, with sin·sign for sin.",
		args: []argument{{"lo", inout, act}, {"hi", inout, act}, {"cos", in, f32}, {"sin", in, f32}, {"sign", scalar, f32}},
		body: code{{"fmul", a3, a3, s0}, {"fmul", pairAt(12), a0, a2}, {"fmls", pairAt(12), a1, a3},
			{"fmul", a1, a1, a2}, {"fmla", a1, a0, a3}}.body,
		stores: map[string]pair{"lo": pairAt(12), "hi": a1}},
	{name: "swiglu", doc: "sets y = (gate·σ(gate))·up.",
		args: []argument{{"y", out, act}, {"gate", in, act}, {"up", in, act}}, exp: true,
		body: func(f *neon.Func, _ pair, _ bool) {
			sigmoid(f, a2, a0, free)
			three(f, "fmul", a0, a0, a2)
			three(f, "fmul", a0, a0, a1)
		}, stores: map[string]pair{"y": a0}},
	{name: "swigluGrad", doc: "sets dup = dy·(g·σ) and dgate = dy·up·(σ + g·σ·(1−σ)), with σ = σ(gate).",
		args: []argument{{"dgate", out, act}, {"dup", out, act}, {"dy", in, act}, {"gate", in, act}, {"up", in, act}}, exp: true,
		body: func(f *neon.Func, _ pair, _ bool) {
			sigma, rest := pairAt(22), free[0]
			sigmoid(f, sigma, a1, free)
			three(f, "fmul", a1, a1, sigma)
			for h := range rest {
				dup(f, rest[h], cOne)
			}
			three(f, "fsub", rest, rest, sigma)
			three(f, "fmla", sigma, rest, a1)
			three(f, "fmul", a2, a0, a2)
			three(f, "fmul", a2, a2, sigma)
			three(f, "fmul", a0, a0, a1)
		}, stores: map[string]pair{"dgate": a2, "dup": a0}},
	{name: "add", doc: "sets y += x, y being an activation.",
		args: []argument{{"y", inout, act}, {"x", in, f32}},
		body: code{{"fadd", a0, a0, a1}}.body, stores: map[string]pair{"y": a0}},
	{name: "accumulate", doc: "sets y += x, x being an activation.",
		args: []argument{{"y", inout, f32}, {"x", in, act}},
		body: code{{"fadd", a0, a0, a1}}.body, stores: map[string]pair{"y": a0}},
	{name: "scaleBy", doc: "sets x = x·a.",
		args: []argument{{"x", inout, f32}, {"a", scalar, f32}},
		body: code{{"fmul", a0, a0, s0}}.body, stores: map[string]pair{"x": a0}},
	{name: "widenRows", doc: "copies rows > 0 rows of activations to F32.", rows: true,
		args: []argument{{"dst", out, f32}, {"src", in, act}},
		body: code{}.body, stores: map[string]pair{"dst": a0}},
	{name: "narrow", doc: "stores src·scale + 0 as activations: −0, which of two zeros a sum holds may depend on\nmasked terms, becomes +0.",
		args: []argument{{"dst", out, act}, {"src", in, f32}, {"scale", scalar, f32}},
		body: func(f *neon.Func, _ pair, _ bool) {
			for _, d := range a1 {
				f.Zero(d)
			}
			three(f, "fmla", a1, a0, s0)
		}, stores: map[string]pair{"dst": a1}},
	{name: "expSum", doc: "sets e = exp((z − top)/temperature) and returns Σ e.",
		args: []argument{{"e", out, f32}, {"z", in, f32}, {"top", scalar, f32}, {"temperature", scalar, f32}}, sums: true, exp: true,
		body: func(f *neon.Func, acc pair, tail bool) {
			three(f, "fsub", a0, a0, s0)
			three(f, "fdiv", a0, a0, s1)
			exp(f, a0, free)
			if tail {
				three(f, "and", a0, a0, pairAt(rkMask))
			}
			three(f, "fadd", acc, acc, a0)
		}, stores: map[string]pair{"e": a0}},
	{name: "sumAbove", doc: "returns Σ w over the elements x ≥ cut.",
		args: []argument{{"w", in, f32}, {"x", in, f32}, {"cut", scalar, f32}}, sums: true,
		body: code{{"fcmge", a1, a1, s0}, {"and", a0, a0, a1}, {"fadd", accumulator, accumulator, a0}}.body},
}

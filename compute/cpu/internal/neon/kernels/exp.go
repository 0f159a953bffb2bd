package kernels

import (
	"fmt"
	"math"
	"strings"

	"github.com/seed-8780d58e/spin/compute/cpu/internal/neon"
)

// constants are what exp needs, four to a register: kernels load them to V16 and the three behind it.
var constants = [16]float32{
	1.44269504088896341,         // log₂ e
	0.693359375, -2.12194440e-4, // ln 2 in two parts
	1,
	1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, // the coefficients of r⁷, …
	1.6666665459e-1, 5.0000001201e-1, // … r²
	-87, 88.722839, // below the first the result is 0, above the second +Inf
	float32(math.Inf(1)), float32(math.Inf(-1)), 0, 0,
}

const (
	ctable v = 16 // the first register of constants

	cLog2E  = 0
	cLn2Hi  = 1
	cLn2Lo  = 2
	cOne    = 3
	cCoef   = 4 // to 9
	cLow    = 10
	cHigh   = 11
	cInf    = 12
	cNegInf = 13
)

// Constants is the table that kernels with an exponential read. Every assembly file has its own.
func Constants() string {
	var b strings.Builder
	for i, x := range constants {
		fmt.Fprintf(&b, "DATA neonConstants<>+%d(SB)/4, $%#08x\n", 4*i, math.Float32bits(x))
	}
	return b.String() + "GLOBL neonConstants<>(SB), RODATA|NOPTR, $64\n"
}

// Lanes is the table of the numbers of eight lanes.
func Lanes() string {
	var b strings.Builder
	for i := range 8 {
		fmt.Fprintf(&b, "DATA neonLanes<>+%d(SB)/4, $%d\n", 4*i, i)
	}
	return b.String() + "GLOBL neonLanes<>(SB), RODATA|NOPTR, $32\n"
}

// loadConstants fills V16 to V19. It uses t.
func loadConstants(f *neon.Func, t r) {
	f.Go("MOVD $neonConstants<>(SB), %v", t)
	f.LoadPair(ctable, ctable+1, t, 0)
	f.LoadPair(ctable+2, ctable+3, t, 32)
}

// dup sets every lane of d to a constant.
func dup(f *neon.Func, d v, c int) { f.Dup(d, ctable+v(c/4), c%4) }

// exp sets x = eˣ: 2ⁿ·(1 + r + r²·q(r)) with n = round(x/ln 2), |r| ≤ ln 2/2 and q the polynomial of
// Cephes' expf (S. Moshier, Cephes Mathematical Library, single/expf.c); the error is at most 1.25 ulp
// (TestExp). Below −87 it is 0, above ln(MaxFloat32) +Inf, and a NaN stays one. The pairs t are free
// to use.
func exp(f *neon.Func, x pair, t [4]pair) {
	n, m, p, q := t[0], t[1], t[2], t[3]
	each := func(do func(h int)) {
		for h := range x {
			do(h)
		}
	}
	lane := func(op string, d, a pair, c int) {
		each(func(h int) { f.Lane(op, d[h], a[h], ctable+v(c/4), c%4) })
	}
	lane("fmul", n, x, cLog2E)
	each(func(h int) { f.Two("frintn", n[h], n[h]) })
	each(func(h int) { f.Mov(m[h], x[h]) }) // m is r
	lane("fmls", m, n, cLn2Hi)
	lane("fmls", m, n, cLn2Lo)
	each(func(h int) { dup(f, p[h], cCoef) })
	for c := cCoef + 1; c < cCoef+6; c++ {
		each(func(h int) { dup(f, q[h], c) })
		three(f, "fmla", q, p, m)
		p, q = q, p
	}
	// p·r² + r, then + 1: the last addition carries the only rounding that counts.
	three(f, "fmul", p, p, m)
	three(f, "fmla", m, p, m)
	each(func(h int) { dup(f, q[h], cOne) })
	three(f, "fadd", m, m, q)
	each(func(h int) { f.Two("fcvtns", n[h], n[h]) })
	each(func(h int) { f.Shift("shl", n[h], n[h], 23) })
	three(f, "add", m, m, n)
	each(func(h int) { dup(f, p[h], cLow) })
	three(f, "fcmgt", p, p, x)
	three(f, "bic", m, m, p)
	each(func(h int) { dup(f, p[h], cHigh) })
	three(f, "fcmgt", p, x, p)
	each(func(h int) { dup(f, q[h], cInf) })
	three(f, "bit", m, q, p)
	each(func(h int) { f.Mov(x[h], m[h]) })
}

// sigmoid sets d = 1/(1 + exp(−x)).
func sigmoid(f *neon.Func, d, x pair, t [4]pair) {
	for h := range d {
		f.Two("fneg", d[h], x[h])
	}
	exp(f, d, t)
	one := t[0]
	for h := range one {
		dup(f, one[h], cOne)
	}
	three(f, "fadd", d, d, one)
	three(f, "fdiv", d, one, d)
}

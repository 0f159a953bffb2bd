package kernels

import "github.com/seed-8780d58e/spin/compute/cpu/internal/asm"

// ExpTable is the constants of Exp, 8 times each: kernels that use Exp get its address.
func ExpTable() *[12][8]float32 {
	t := new([12][8]float32)
	for i, x := range [12]float32{
		-87.3, 88.3, // 0, 1: below the first the result is 0, above the second it stays
		1.44269504088896341,         // 2: log₂ e
		0.693359375, -2.12194440e-4, // 3, 4: ln 2 in two parts
		1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, // 5 to 10
		1, // 11
	} {
		for j := range t[i] {
			t[i][j] = x
		}
	}
	return t
}

// Exp sets x = eˣ in each lane, by Cephes' expf (S. Moshier, Cephes Mathematical Library,
// single/expf.c): x = n·ln 2 + r with |r| ≤ ln 2/2, a polynomial for eʳ, times 2ⁿ. The error is
// below 2⁻²³ relative for −87.3 ≤ x ≤ 88.3. Below, the result is 0 (never denormal); above, it is
// e^88.3; NaN stays NaN. table holds the address of ExpTable; t are 4 registers to work with.
func Exp(f *asm.Func, x asm.Vec, table asm.Reg, t [4]asm.Vec) {
	c := func(i int) asm.Mem { return asm.At(table, 32*i) }
	n, p, sq, small := t[0], t[1], t[2], t[3]
	f.Op("VMOVUPS", c(0), n)
	f.Op("VCMPPS", asm.Imm(1), n, x, small)
	f.Op("VMAXPS", x, n, x) // the second source where one is NaN: x
	f.Op("VMOVUPS", c(1), n)
	f.Op("VMINPS", x, n, x)
	f.Op("VMULPS", c(2), x, n)
	f.Op("VROUNDPS", asm.Imm(0), n, n)
	f.Op("VFNMADD231PS", c(3), n, x)
	f.Op("VFNMADD231PS", c(4), n, x)
	f.Op("VMOVUPS", c(5), p)
	for i := 6; i <= 10; i++ {
		f.Op("VFMADD213PS", c(i), x, p)
	}
	f.Op("VMULPS", x, x, sq)
	f.Op("VFMADD213PS", x, sq, p)
	f.Op("VADDPS", c(11), p, p)
	f.Op("VCVTPS2DQ", n, n)
	f.Op("VPSLLD", asm.Imm(23), n, n)
	f.Op("VPADDD", n, p, p)
	f.Op("VANDNPS", p, small, x)
}

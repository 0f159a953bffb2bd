package main

import "fmt"

// product writes C (+)= A·B for a tile of attention. C [rows, 16·panels] and B [k, 16·panels], F32 or
// BF16, are row-major, A is [rows, k] or, transposed, [k, rows]; leading dimensions in bytes. Each element of C
// is one chain of fused multiply-adds in the order of k, beginning at 0 or, with acc, at its old
// value: so it has the same bits however the tile is cut.
func product(name string, transposed bool, b dtype) {
	name = symbol(name)
	if !transposed {
		name += b.String()
	}
	p("\n// func %s(rows, panels, k int, a unsafe.Pointer, lda int, b unsafe.Pointer, ldb int, c unsafe.Pointer, ldc, acc int)", name)
	p("TEXT ·%s(SB), NOSPLIT, $0-80", name)
	p("\tMOVQ lda+32(FP), R9\n\tMOVQ ldb+48(FP), SI\n\tMOVQ ldc+64(FP), R11")
	p("group:\n\tMOVQ rows+0(FP), R13\n\tCMPQ R13, $6\n\tJGE rows6")
	for m := 5; m >= 1; m-- {
		p("\tCMPQ R13, $%d\n\tJEQ rows%d", m, m)
	}
	p("\tVZEROUPPER\n\tRET")
	for m := 6; m >= 1; m-- {
		at := func(first, second, step string, i int) string {
			base := first
			if i >= 3 {
				base = second
			}
			return fmt.Sprintf("(%s)", base) + []string{"", "(" + step + "*1)", "(" + step + "*2)"}[i%3]
		}
		p("rows%d:\n\tMOVQ panels+8(FP), R12\n\tMOVQ b+40(FP), DX\n\tMOVQ c+56(FP), DI\n\tLEAQ (R11)(R11*2), R10\n\tADDQ DI, R10", m)
		p("panel%d:\n\tCMPQ acc+72(FP), $0\n\tJEQ zero%d", m, m)
		for i := range m {
			c := at("DI", "R10", "R11", i)
			p("\tVMOVUPS %s, Y%d\n\tVMOVUPS 32%s, Y%d", c, 2*i, c, 2*i+1)
		}
		p("\tJMP start%d\nzero%d:", m, m)
		for i := range 2 * m {
			p("\tVXORPS Y%d, Y%d, Y%d", i, i, i)
		}
		p("start%d:\n\tMOVQ a+24(FP), AX\n\tMOVQ DX, BX\n\tMOVQ k+16(FP), CX", m)
		if !transposed {
			p("\tLEAQ (R9)(R9*2), R8\n\tADDQ AX, R8")
		}
		p("\tPCALIGN $32\nk%d:", m)
		if b == f32 {
			p("\tVMOVUPS (BX), Y12\n\tVMOVUPS 32(BX), Y13")
		} else {
			p("\tVPMOVZXWD (BX), Y12\n\tVPMOVZXWD 16(BX), Y13\n\tVPSLLD $16, Y12, Y12\n\tVPSLLD $16, Y13, Y13")
		}
		for i := range m {
			a, t := fmt.Sprintf("%d(AX)", 4*i), 14+i%2
			if !transposed {
				a = at("AX", "R8", "R9", i)
			}
			p("\tVBROADCASTSS %s, Y%d\n\tVFMADD231PS Y12, Y%d, Y%d\n\tVFMADD231PS Y13, Y%d, Y%d", a, t, t, 2*i, t, 2*i+1)
		}
		if transposed {
			p("\tADDQ R9, AX")
		} else {
			p("\tADDQ $4, AX\n\tADDQ $4, R8")
		}
		p("\tADDQ SI, BX\n\tDECQ CX\n\tJNZ k%d", m)
		for i := range m {
			c := at("DI", "R10", "R11", i)
			p("\tVMOVUPS Y%d, %s\n\tVMOVUPS Y%d, 32%s", 2*i, c, 2*i+1, c)
		}
		p("\tADDQ $64, DI\n\tADDQ $64, R10\n\tADDQ $%d, DX\n\tDECQ R12\n\tJNZ panel%d", map[dtype]int{f32: 64, bf16: 32}[b], m)
		if transposed {
			p("\tADDQ $%d, a+24(FP)", 4*m)
		} else {
			p("\tIMUL3Q $%d, R9, AX\n\tADDQ AX, a+24(FP)", m)
		}
		p("\tIMUL3Q $%d, R11, AX\n\tADDQ AX, c+56(FP)\n\tSUBQ $%d, rows+0(FP)\n\tJMP group", m, m)
	}
}

// transpose writes dst[c][r] = src[r][c], widened, in blocks of eight by eight; leading dimensions in
// bytes.
func transpose(dt dtype) {
	name := symbol("transpose" + dt.String())
	p("\n// func %s(rows8, cols8 int, dst unsafe.Pointer, ldd int, src unsafe.Pointer, lds int)", name)
	p("TEXT ·%s(SB), NOSPLIT, $0-48", name)
	p("\tMOVQ ldd+24(FP), R8\n\tMOVQ lds+40(FP), R9\n\tLEAQ (R8)(R8*2), R10\n\tLEAQ (R9)(R9*2), R11\n\tVPXOR X15, X15, X15")
	p("rows:\n\tMOVQ dst+16(FP), DI\n\tMOVQ src+32(FP), SI\n\tMOVQ cols8+8(FP), CX")
	p("cols:\n\tLEAQ (SI)(R9*4), DX")
	steps := []string{"", "(R9*1)", "(R9*2)", "(R11*1)"}
	if dt == bf16 {
		for i, step := range steps {
			p("\tVMOVDQU (SI)%s, X%d\n\tVINSERTI128 $1, (DX)%s, Y%d, Y%d", step, 8+i, step, 8+i, 8+i)
		}
	}
	for half := range 2 {
		for i, step := range steps {
			switch {
			case dt == f32:
				p("\tVMOVUPS %d(SI)%s, X%d\n\tVINSERTF128 $1, %d(DX)%s, Y%d, Y%d", 16*half, step, i, 16*half, step, i, i)
			case half == 0:
				p("\tVPUNPCKLWD Y%d, Y15, Y%d", 8+i, i)
			default:
				p("\tVPUNPCKHWD Y%d, Y15, Y%d", 8+i, i)
			}
		}
		p("\tVUNPCKLPS Y1, Y0, Y4\n\tVUNPCKHPS Y1, Y0, Y5\n\tVUNPCKLPS Y3, Y2, Y6\n\tVUNPCKHPS Y3, Y2, Y7")
		p("\tVUNPCKLPD Y6, Y4, Y0\n\tVUNPCKHPD Y6, Y4, Y1\n\tVUNPCKLPD Y7, Y5, Y2\n\tVUNPCKHPD Y7, Y5, Y3")
		for i, step := range []string{"", "(R8*1)", "(R8*2)", "(R10*1)"} {
			p("\tVMOVUPS Y%d, (DI)%s", i, step)
		}
		p("\tLEAQ (DI)(R8*4), DI")
	}
	p("\tADDQ $%d, SI\n\tDECQ CX\n\tJNZ cols", map[dtype]int{f32: 32, bf16: 16}[dt])
	p("\tADDQ $32, dst+16(FP)\n\tLEAQ (R9*8), AX\n\tADDQ AX, src+32(FP)\n\tDECQ rows8+0(FP)\n\tJNZ rows")
	p("\tVZEROUPPER\n\tRET")
}

// Offsets of the fields of softmaxRow.
const (
	rowFrom  = 4 * iota // the first key of the block that the row sees,
	rowTo               // and the one behind the last
	rowTop              // the largest score until now
	rowSum              // Σ exp(score − top)
	rowAlpha            // what the last block multiplied the older sums by
	rowLSE              // log-sum-exp of the whole row
	rowD                // dy·y
	_
	rowBytes
)

// keyLimits leaves Y13 = from − 1 and Y12 = to, for keyMask; to is in R9. Lane numbers are in Y10.
func keyLimits() {
	p("\tDECL R8\n\tVMOVD R8, X13\n\tVPBROADCASTD X13, Y13\n\tVMOVD R9, X12\n\tVPBROADCASTD X12, Y12\n\tVMOVDQU lanes<>(SB), Y10")
}

// keyMask sets Y(d) to the lanes that the row sees. It uses Y(t).
func keyMask(d, t int) {
	p("\tVPCMPGTD Y13, Y10, Y%d\n\tVPCMPGTD Y10, Y12, Y%d\n\tVPAND Y%d, Y%d, Y%d", d, t, t, d, d)
	p("\tVPADDD constants<>+%d(SB), Y10, Y10", cEight)
}

// softmaxBlock turns a block of scores, row by row, into exp(scale·score − top), 0 where the row
// does not see the key, and brings top, sum and alpha of its row up to date (arXiv 2307.08691,
// algorithm 1). scale > 0: a key that is not seen scores −Inf. Vectors behind rowTo are set to 0 without arithmetic, which adds the same 0.
func softmaxBlock() {
	p("\n// func avx2SoftmaxBlock(rows, vectors int, s unsafe.Pointer, lds int, state *softmaxRow, scale float32)")
	p("TEXT ·avx2SoftmaxBlock(SB), NOSPLIT, $0-44")
	p("\tMOVQ s+16(FP), AX\n\tMOVQ state+32(FP), BX\n\tVBROADCASTSS scale+40(FP), Y15\n\tVMOVUPS constants<>+%d(SB), Y11", cNegInf)
	p("row:\n\tMOVQ AX, DX\n\tMOVL %d(BX), R8\n\tMOVL %d(BX), R9\n\tMOVQ vectors+8(FP), R11\n\tCMPL R8, R9\n\tJGE empty", rowFrom, rowTo)
	p("\tLEAQ 7(R9), R10\n\tSHRQ $3, R10\n\tSUBQ R10, R11")
	keyLimits()
	p("\tVMOVAPS Y11, Y9\n\tMOVQ R10, CX")
	p("top:\n\tVMULPS (DX), Y15, Y0")
	keyMask(1, 2)
	p("\tVBLENDVPS Y1, Y0, Y11, Y0\n\tVBLENDVPS Y1, (DX), Y11, Y2\n\tVMOVUPS Y2, (DX)\n\tVMAXPS Y0, Y9, Y9\n\tADDQ $32, DX\n\tDECQ CX\n\tJNZ top")
	reduce("VMAXPS", 9, 1)
	p("\tVMOVSS %d(BX), X7\n\tVMAXSS X7, X9, X9\n\tVMOVSS X9, %d(BX)\n\tVSUBSS X9, X7, X7\n\tVBROADCASTSS X9, Y9", rowTop, rowTop)
	expY(7, 1, 2, 3)
	p("\tVMOVSS X7, %d(BX)\n\tVXORPS Y6, Y6, Y6\n\tMOVQ AX, DX", rowAlpha)
	p("exp:\n\tVMOVUPS (DX), Y0\n\tVFMSUB213PS Y9, Y15, Y0")
	expY(0, 1, 2, 3)
	p("\tVMOVUPS Y0, (DX)\n\tVADDPS Y0, Y6, Y6\n\tADDQ $32, DX\n\tDECQ R10\n\tJNZ exp")
	reduce("VADDPS", 6, 1)
	p("\tVMOVSS %d(BX), X1\n\tVFMADD213SS X6, X7, X1\n\tVMOVSS X1, %d(BX)", rowSum, rowSum)
	p("rest:\n\tVXORPS Y0, Y0, Y0\n\tTESTQ R11, R11\n\tJEQ next\nclear:\n\tVMOVUPS Y0, (DX)\n\tADDQ $32, DX\n\tDECQ R11\n\tJNZ clear")
	p("next:\n\tADDQ lds+24(FP), AX\n\tADDQ $%d, BX\n\tDECQ rows+0(FP)\n\tJNZ row\n\tVZEROUPPER\n\tRET", rowBytes)
	p("empty:\n\tMOVL $0x3f800000, %d(BX)\n\tJMP rest", rowAlpha)
}

// gradBlock turns a block of scores s into the probabilities p = exp(scale·s − lse), and dp = dy·vᵀ
// into the gradient of q·k, p·(dp − d)·scale; both are 0 where the row does not see the key.
func gradBlock() {
	p("\n// func avx2GradBlock(rows, vectors int, s, dp unsafe.Pointer, lds int, state *softmaxRow, scale float32)")
	p("TEXT ·avx2GradBlock(SB), NOSPLIT, $0-52")
	p("\tMOVQ s+16(FP), AX\n\tMOVQ dp+24(FP), SI\n\tMOVQ state+40(FP), BX\n\tVBROADCASTSS scale+48(FP), Y15\n\tVMOVUPS constants<>+%d(SB), Y11", cNegInf)
	p("row:\n\tMOVQ AX, DX\n\tMOVQ SI, DI\n\tMOVL %d(BX), R8\n\tMOVL %d(BX), R9\n\tMOVQ vectors+8(FP), R11\n\tCMPL R8, R9\n\tJGE rest", rowFrom, rowTo)
	p("\tLEAQ 7(R9), R10\n\tSHRQ $3, R10\n\tSUBQ R10, R11")
	keyLimits()
	p("\tVBROADCASTSS %d(BX), Y9\n\tVBROADCASTSS %d(BX), Y8", rowLSE, rowD)
	p("grad:\n\tVMOVUPS (DX), Y0\n\tVFMSUB213PS Y9, Y15, Y0")
	keyMask(4, 2)
	p("\tVBLENDVPS Y4, Y0, Y11, Y0")
	expY(0, 1, 2, 3)
	p("\tVMOVUPS Y0, (DX)\n\tVMOVUPS (DI), Y1\n\tVSUBPS Y8, Y1, Y1\n\tVMULPS Y0, Y1, Y1\n\tVMULPS Y15, Y1, Y1\n\tVANDPS Y4, Y1, Y1\n\tVMOVUPS Y1, (DI)")
	p("\tADDQ $32, DX\n\tADDQ $32, DI\n\tDECQ R10\n\tJNZ grad")
	p("rest:\n\tVXORPS Y0, Y0, Y0\n\tTESTQ R11, R11\n\tJEQ next\nclear:\n\tVMOVUPS Y0, (DX)\n\tVMOVUPS Y0, (DI)\n\tADDQ $32, DX\n\tADDQ $32, DI\n\tDECQ R11\n\tJNZ clear")
	p("next:\n\tADDQ lds+32(FP), AX\n\tADDQ lds+32(FP), SI\n\tADDQ $%d, BX\n\tDECQ rows+0(FP)\n\tJNZ row\n\tVZEROUPPER\n\tRET", rowBytes)
}

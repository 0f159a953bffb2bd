package main

// maximum returns the largest element of a row, or NaN where it holds one.
func maximum() {
	p("\n// func avx2Maximum(n int, x unsafe.Pointer) float32")
	p("TEXT ·avx2Maximum(SB), NOSPLIT, $0-20")
	p("\tMOVQ n+0(FP), CX\n\tMOVQ x+8(FP), SI\n\tVMOVUPS constants<>+%d(SB), Y1\n\tVMOVAPS Y1, Y2\n\tVXORPS Y3, Y3, Y3", cNegInf)
	one := func() { p("\tVCMPPS $3, Y0, Y0, Y4\n\tVORPS Y4, Y3, Y3\n\tVMAXPS Y0, Y1, Y1") }
	p("loop:\n\tCMPQ CX, $8\n\tJLT tail\n\tVMOVUPS (SI), Y0")
	one()
	p("\tADDQ $32, SI\n\tSUBQ $8, CX\n\tJMP loop")
	p("tail:\n\tTESTQ CX, CX\n\tJLE done\n\tLEAQ tailMask<>+32(SB), BX\n\tSHLQ $2, CX\n\tSUBQ CX, BX\n\tVMOVDQU (BX), Y5\n\tVMASKMOVPS (SI), Y5, Y0\n\tVBLENDVPS Y5, Y0, Y2, Y0")
	one()
	p("done:")
	reduce("VMAXPS", 1, 4)
	p("\tVMOVMSKPS Y3, AX\n\tTESTL AX, AX\n\tJEQ whole\n\tMOVL $0x7fc00000, AX\n\tVMOVD AX, X1\nwhole:\n\tVMOVSS X1, ret+16(FP)\n\tVZEROUPPER\n\tRET")
}

// above writes the indexes of the elements that are at least cut, first added, and returns their
// number. n is a multiple of 8.
func above() {
	p("\n// func avx2Above(n int, x unsafe.Pointer, cut float32, first int32, index unsafe.Pointer) int")
	p("TEXT ·avx2Above(SB), NOSPLIT, $0-40")
	p("\tMOVQ n+0(FP), CX\n\tMOVQ x+8(FP), SI\n\tVBROADCASTSS cut+16(FP), Y15\n\tMOVL first+20(FP), DX\n\tMOVQ index+24(FP), DI")
	p("\tSHRQ $3, CX")
	// R8 vectors are looked at one by one before the next four are looked at together.
	p("four:\n\tMOVQ CX, R8\n\tCMPQ CX, $4\n\tJLT one\n\tMOVQ $4, R8")
	for i := range 4 {
		p("\tVMOVUPS %d(SI), Y%d\n\tVCMPPS $0x1d, Y15, Y%d, Y%d", 32*i, i, i, i)
	}
	p("\tVORPS Y1, Y0, Y0\n\tVORPS Y3, Y2, Y2\n\tVORPS Y2, Y0, Y0\n\tVMOVMSKPS Y0, AX\n\tTESTL AX, AX\n\tJNE one")
	p("\tADDQ $128, SI\n\tADDL $32, DX\n\tSUBQ $4, CX\n\tJMP four")
	p("one:\n\tSUBQ R8, CX\n\tTESTQ R8, R8\n\tJEQ done")
	p("vector:\n\tVMOVUPS (SI), Y0\n\tVCMPPS $0x1d, Y15, Y0, Y0\n\tVMOVMSKPS Y0, AX\n\tTESTL AX, AX\n\tJEQ next")
	p("some:\n\tBSFL AX, BX\n\tADDL DX, BX\n\tMOVL BX, (DI)\n\tADDQ $4, DI\n\tLEAL -1(AX), BX\n\tANDL BX, AX\n\tJNE some")
	p("next:\n\tADDQ $32, SI\n\tADDL $8, DX\n\tDECQ R8\n\tJNZ vector\n\tJMP four")
	p("done:\n\tSUBQ index+24(FP), DI\n\tSHRQ $2, DI\n\tMOVQ DI, ret+32(FP)\n\tVZEROUPPER\n\tRET")
}

package gguf

import "fmt"

// Type is ggml's number for how a tensor's elements are stored (enum ggml_type of ggml.h).
type Type uint32

// The types whose elements can be read.
const (
	F32  Type = 0
	F16  Type = 1
	Q4_0 Type = 2
	Q4_1 Type = 3
	Q8_0 Type = 8
	BF16 Type = 30
)

// A layout is how many elements a block holds, and in how many bytes (GGML_QUANT_SIZES of gguf-py).
type layout struct {
	name        string
	block, size int
}

// layout covers all types in use, so that a file with one that cannot be read is still understood and named.
func (t Type) layout() (layout, bool) {
	switch t {
	case F32:
		return layout{"F32", 1, 4}, true
	case F16:
		return layout{"F16", 1, 2}, true
	case Q4_0:
		return layout{"Q4_0", 32, 2 + 16}, true
	case Q4_1:
		return layout{"Q4_1", 32, 2 + 2 + 16}, true
	case 6:
		return layout{"Q5_0", 32, 22}, true
	case 7:
		return layout{"Q5_1", 32, 24}, true
	case Q8_0:
		return layout{"Q8_0", 32, 2 + 32}, true
	case 9:
		return layout{"Q8_1", 32, 40}, true
	case 10:
		return layout{"Q2_K", 256, 84}, true
	case 11:
		return layout{"Q3_K", 256, 110}, true
	case 12:
		return layout{"Q4_K", 256, 144}, true
	case 13:
		return layout{"Q5_K", 256, 176}, true
	case 14:
		return layout{"Q6_K", 256, 210}, true
	case 15:
		return layout{"Q8_K", 256, 292}, true
	case 16:
		return layout{"IQ2_XXS", 256, 66}, true
	case 17:
		return layout{"IQ2_XS", 256, 74}, true
	case 18:
		return layout{"IQ3_XXS", 256, 98}, true
	case 19:
		return layout{"IQ1_S", 256, 50}, true
	case 20:
		return layout{"IQ4_NL", 32, 18}, true
	case 21:
		return layout{"IQ3_S", 256, 110}, true
	case 22:
		return layout{"IQ2_S", 256, 82}, true
	case 23:
		return layout{"IQ4_XS", 256, 136}, true
	case 24:
		return layout{"I8", 1, 1}, true
	case 25:
		return layout{"I16", 1, 2}, true
	case 26:
		return layout{"I32", 1, 4}, true
	case 27:
		return layout{"I64", 1, 8}, true
	case 28:
		return layout{"F64", 1, 8}, true
	case 29:
		return layout{"IQ1_M", 256, 56}, true
	case BF16:
		return layout{"BF16", 1, 2}, true
	case 34:
		return layout{"TQ1_0", 256, 54}, true
	case 35:
		return layout{"TQ2_0", 256, 66}, true
	case 39:
		return layout{"MXFP4", 32, 17}, true
	case 40:
		return layout{"NVFP4", 64, 36}, true
	case 41:
		return layout{"Q1_0", 128, 18}, true
	}
	return layout{}, false
}

// String is ggml's name for the type.
func (t Type) String() string {
	if l, ok := t.layout(); ok {
		return l.name
	}
	return fmt.Sprintf("number %d", uint32(t))
}

// Block returns how many elements are stored together, in how many bytes.
func (t Type) Block() (elements, bytes int) {
	l, ok := t.layout()
	if !ok {
		panic("gguf: block of an unknown type")
	}
	return l.block, l.size
}

func (t Type) readable() bool {
	switch t {
	case F32, F16, BF16, Q8_0, Q4_0, Q4_1:
		return true
	}
	return false
}

func (t Type) writable() bool {
	switch t {
	case F32, F16, BF16, Q8_0:
		return true
	}
	return false
}

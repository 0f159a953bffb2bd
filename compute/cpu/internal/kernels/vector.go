package kernels

import "github.com/seed-8780d58e/spin/compute/cpu/internal/asm"

// Vector is the kernels of everything but matrix products.
func Vector() []*asm.Func { return nil }

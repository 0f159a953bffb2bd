// Command gen writes the assembly of compute/cpu into the folder it is started in:
// gemm_amd64.s and vector_amd64.s, with the Go declarations of their functions.
package main

import (
	"fmt"
	"os"

	"github.com/seed-8780d58e/spin/compute/cpu/internal/asm"
	"github.com/seed-8780d58e/spin/compute/cpu/internal/kernels"
)

const constraint = "amd64 && !noasm"

func main() {
	for _, file := range []struct {
		name  string
		funcs []*asm.Func
	}{
		{"gemm", kernels.GEMM()},
		{"vector", kernels.Vector()},
	} {
		if len(file.funcs) == 0 {
			continue
		}
		write(file.name+"_amd64.s", asm.Assembly(constraint, file.funcs))
		write(file.name+"_amd64.go", asm.Declarations(constraint, "cpu", file.funcs))
	}
}

func write(name string, b []byte) {
	if err := os.WriteFile(name, b, 0o666); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

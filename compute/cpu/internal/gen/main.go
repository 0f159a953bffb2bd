// Command gen writes the assembly of compute/cpu's matrix products into the folder it is started in:
// gemm_amd64.s, with the Go declarations of its functions beside it.
package main

import (
	"fmt"
	"os"

	"github.com/seed-8780d58e/spin/compute/cpu/internal/asm"
	"github.com/seed-8780d58e/spin/compute/cpu/internal/kernels"
)

const constraint = "amd64 && !noasm"

func main() {
	funcs := kernels.GEMM()
	write("gemm_amd64.s", asm.Assembly(constraint, funcs))
	write("gemm_amd64.go", asm.Declarations(constraint, "cpu", funcs))
}

func write(name string, b []byte) {
	if err := os.WriteFile(name, b, 0o666); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// Command gen writes compute/cpu's assembly for arm64 into the folder it is started in: gemm_arm64.s and
// vector_arm64.s, with the Go declarations of their functions beside them.
package main

import (
	"fmt"
	"os"

	"github.com/seed-8780d58e/spin/compute/cpu/internal/neon"
	"github.com/seed-8780d58e/spin/compute/cpu/internal/neon/kernels"
)

func main() {
	write("gemm_arm64", kernels.GEMM(), kernels.Constants())
	write("vector_arm64", kernels.Vector(), kernels.Constants(), kernels.Lanes())
}

func write(name string, funcs []*neon.Func, data ...string) {
	for ext, b := range map[string][]byte{
		".s":  neon.Assembly(funcs, data...),
		".go": neon.Declarations("cpu", funcs),
	} {
		if err := os.WriteFile(name+ext, b, 0o666); err != nil {
			fmt.Fprintln(os.Stderr, "gen:", err)
			os.Exit(1)
		}
	}
}

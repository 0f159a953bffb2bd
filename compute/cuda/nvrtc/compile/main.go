//go:build cuda

// Command compile makes the PTX of a folder's kernels beside them: compile FOLDER. NVRTC_LIBRARY
// names the compiler's library (deploy/cuda.sh nvrtc fetches the one that the committed PTX is of).
package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"github.com/seed-8780d58e/spin/compute/cuda/nvrtc"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: compile FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "compile:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	c, err := nvrtc.Open(cmp.Or(os.Getenv("NVRTC_LIBRARY"), "libnvrtc.so.12"))
	if err != nil {
		return err
	}
	made, err := c.Folder(dir)
	if err != nil {
		return err
	}
	for name, ptx := range made {
		if err := os.WriteFile(filepath.Join(dir, name), ptx, 0o644); err != nil {
			return err
		}
	}
	return nil
}

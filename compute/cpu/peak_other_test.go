//go:build !(amd64 || arm64) || noasm

package cpu

import "github.com/seed-8780d58e/spin/compute"

// runPeak measures nothing: there is no assembly to measure with.
func runPeak(*Device, compute.DType, int) int { return 0 }

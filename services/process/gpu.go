//go:build cuda

package process

import (
	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cuda"
)

// openGPU starts a GPU by its number. The driver is libcuda.so.1, as the dynamic loader finds it.
func openGPU(ordinal int) (compute.Device, error) {
	dev, err := cuda.New(cuda.Options{Ordinal: ordinal})
	if err != nil {
		return nil, err
	}
	return dev, nil
}

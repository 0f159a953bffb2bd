//go:build !cuda

package process

import (
	"errors"

	"github.com/seed-8780d58e/spin/compute"
)

func openGPU(int) (compute.Device, error) {
	return nil, errors.New("this binary is built without CUDA: `make cuda` builds those that have it")
}

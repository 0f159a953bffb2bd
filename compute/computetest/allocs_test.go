package computetest

import (
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/ref"
)

// The loop fits the contract, shapes and all; ref itself may allocate.
func TestSteadyLoop(t *testing.T) {
	for _, dt := range []compute.DType{compute.F32, compute.BF16} {
		for _, s := range steadyLoop(t, ref.New(), dt) {
			s.run()
		}
	}
}

package ref_test

import (
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/computetest"
	"github.com/seed-8780d58e/spin/compute/ref"
)

// Against itself ref's values say nothing (gradients and goldens do); its order, its strides and its
// memory are tested like an engine's, in the dtype that it does not lie about.
func TestRunAll(t *testing.T) {
	computetest.RunAll(t, func(int) compute.Device { return ref.New() }, computetest.Options{DTypes: []compute.DType{compute.F64}})
}

package ref_test

import (
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/computetest"
	"github.com/seed-8780d58e/spin/compute/ref"
)

// ref keeps the properties that the suite asks of an engine; against itself its values are equal.
func TestRunAll(t *testing.T) {
	computetest.RunAll(t, func(int) compute.Device { return ref.New() }, computetest.Options{})
}

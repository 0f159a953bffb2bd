package cpu

import (
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/computetest"
)

// emulatedWork is the largest case with -short, which is meant for a CPU that is emulated.
const emulatedWork = 1 << 19

// TestSuite runs the suite of all backends on every instruction set that this CPU has.
func TestSuite(t *testing.T) {
	var o computetest.Options
	if testing.Short() {
		o.MaxWork = emulatedWork
	}
	for _, isa := range Instructions() {
		t.Run(isa, func(t *testing.T) {
			computetest.RunAll(t, func(threads int) compute.Device {
				dev, err := New(Config{Threads: threads, ISA: isa})
				if err != nil {
					t.Fatal(err)
				}
				return dev
			}, o)
		})
	}
}

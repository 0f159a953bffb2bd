package cpu

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
)

func TestNew(t *testing.T) {
	for _, isa := range Instructions() {
		t.Setenv("SPIN_CPU", isa)
		d, err := New(Config{Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("cpu/%s/%d", isa, kernelVersion)
		if isa == ISAPortable {
			want = fmt.Sprintf("cpu/portable-%s/%d", runtime.GOARCH, kernelVersion)
		}
		if got := d.Fingerprint(); got != want || d.Threads() != 2 {
			t.Errorf("SPIN_CPU=%s gives %s with %d threads, want %s with 2", isa, got, d.Threads(), want)
		}
		d.Close()
	}
	for _, isa := range []string{"sse9", ISAAVX512BF16, ISANEON, "AVX2"} {
		if slices.Contains(Instructions(), isa) {
			continue
		}
		t.Setenv("SPIN_CPU", isa)
		if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "SPIN_CPU="+isa) || !strings.Contains(err.Error(), ISAPortable) {
			t.Errorf("SPIN_CPU=%s: %v; want an error that names it and what there is", isa, err)
		}
		if _, err := New(Config{ISA: isa}); err == nil || !strings.Contains(err.Error(), "ISA="+isa) {
			t.Errorf("ISA %s: %v", isa, err)
		}
	}
	if _, err := New(Config{Threads: -1, ISA: ISAPortable}); err == nil {
		t.Error("−1 threads: no error")
	}
}

// TestWeightRow reads rows back in every form that a weight can have.
func TestWeightRow(t *testing.T) {
	devices(t, func(t *testing.T, dev *Device) {
		m := newMachine(t, dev, compute.Limits{Tokens: 64, Width: 100, Train: true})
		for _, dt := range []compute.DType{compute.F32, compute.BF16} {
			for _, train := range []bool{false, true} {
				const out, in = 70, 37
				w := dev.NewWeight(out, in, dt, train).(*weight)
				src, v := m.random(compute.F32, out, in)
				for row, n := 0, 1; row < out; row, n = row+n, n*2 { // in parts that cut panels and pairs
					n = min(n, out-row)
					m.b.Store(w, row, src.Slice(row, row+n))
				}
				got := make([]float32, in)
				for r := range out {
					w.row(got, r)
					for c, g := range got {
						want := float32(v[r*in+c])
						if dt == compute.BF16 {
							want = compute.F32FromBF16(compute.BF16FromF32(want))
						}
						if g != want {
							t.Fatalf("%v, train %v: (%d, %d) is %g, want %g", dt, train, r, c, g, want)
						}
					}
				}
				w.Free()
			}
		}
	})
}

package cpu

import (
	"fmt"
	"slices"
	"testing"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// TestPacking packs operands with the items in both orders: whatever an item spills, it may not
// touch what another one packs. Every element must lie where panel.go says.
func TestPacking(t *testing.T) {
	devices(t, func(t *testing.T, dev *Device) {
		g := &dev.kernels.gemm
		for _, n := range []int{1, 5, 16, 23, 6 * 14, 6*14 + 3, 150} {
			for _, k := range []int{1, 2, 63, 64, 65, 130, 193} {
				for _, dt := range []compute.DType{compute.F32, compute.BF16} {
					for _, along := range []bool{true, false} {
						for _, isB := range []bool{false, true} {
							t.Run(fmt.Sprintf("%dx%d/%v/along=%v/B=%v", n, k, dt, along, isB), func(t *testing.T) {
								testPacking(t, g, n, k, dt, along, isB)
							})
						}
					}
				}
			}
		}
	})
}

func testPacking(t *testing.T, g *gemmKernels, n, k int, dt compute.DType, along, isB bool) {
	src := make([]uint32, n*k+n+k) // bits that no two elements share; F32 takes them as they are
	for i := range src {
		src[i] = 0x3f800000 + uint32(i)
	}
	half := make([]uint16, len(src))
	for i := range half {
		half[i] = uint16(0x3f80 + i%0x4000)
	}
	m := matrix{p: unsafe.Pointer(&src[0]), dt: dt, along: along, stride: k}
	if !along {
		m.stride = n
	}
	if dt == compute.BF16 {
		m.p = unsafe.Pointer(&half[0])
	}
	fa, fb, _, _ := g.formsOf(dt, dt)
	part := packPart{src: m, form: fa, n: n, size: n, k: k, panels: g.tileCount(n), stride: g.aPanel(fa, k)}
	if isB {
		part.form, part.isB, part.panels, part.stride = fb, true, g.panelsOf(n), g.panelBytes(fb, k)
	}
	var packed [2][]uint32
	for i := range packed {
		out := make([]uint32, part.panels*part.stride/4)
		for j := range out {
			out[j] = 0xdeadbeef
		}
		p := part
		p.dst = unsafe.Pointer(&out[0])
		x := &packing{g: g, parts: []packPart{p}, stage: make([]float32, maxMR*stageDwords)}
		items := x.items()
		for item := range items {
			if i == 1 {
				item = items - 1 - item
			}
			x.do(0, item)
		}
		for panel := range part.panels {
			row, mr := panel*g.nr, g.nr
			if !isB {
				row, mr = g.tile(panel, n)
			}
			for d := range p.form.groups(k) * p.form.dwords() {
				for r := range min(mr, n-row) {
					got, want := out[panel*p.stride/4+d*mr+r], m.element(p.form, row+r, d, k)
					if got != want {
						t.Fatalf("order %d: panel %d, dword %d of row %d: %#x, want %#x", i, panel, d, row+r, got, want)
					}
				}
			}
		}
		packed[i] = out
	}
	if isB && !slices.Equal(packed[0], packed[1]) {
		t.Fatal("padding depends on the order of the items")
	}
}

package embedded_test

import (
	"testing"

	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// With the engine in the process a nil pointer in Go is still a panic with a trace, not the end.
func TestFaultsStayWithGo(t *testing.T) {
	storetest.Open(t)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	var p *int
	*p = 1
}
